"""Ends captures that are not saved: deletes them, or keeps them partially for `aiorecord recover`."""

from __future__ import annotations

from ..errors import AiorecordError
from ..printable import get_logger
from ..system.threads import Threads
from .episode import EpisodeCapture

logger = get_logger(__name__)


async def drop(capture: EpisodeCapture, threads: Threads) -> None:
    """Delete an episode that is not wanted. If the disk refuses, it stays, and a warning is logged."""
    try:
        await threads.run(capture.discard)
    except AiorecordError as error:
        logger.warning("A discarded episode could not be deleted from %s: %s", capture.path, error)


async def keep(capture: EpisodeCapture, threads: Threads) -> None:
    """Keep an ended episode in staging when no saver is left to save it."""
    try:
        await threads.run(capture.keep)
    except AiorecordError as error:
        logger.error("Only the part of episode %s that reached the disk is in staging: %s", capture.id, error)
        await threads.run(capture.let_go)


async def keep_partial(capture: EpisodeCapture, error: BaseException, threads: Threads) -> None:
    """Keep the frames of an episode that an error has ended; an episode without frames is deleted.

    Args:
        capture: the episode.
        error: what ended it; a note is added to it that says where the episode is.
        threads: one of them does the work.

    Raises:
        StorageError: an episode without frames could not be deleted.
    """
    if capture.length == 0:
        await threads.run(capture.discard)
        return
    note = (
        f"{capture.length} frames of the interrupted episode are kept in {capture.path}; "
        "`aiorecord recover` or resume=True finishes it."
    )
    try:
        await threads.run(capture.keep, True)
    except AiorecordError as problem:
        note = f"What reached the disk of the interrupted episode is kept in {capture.path} ({problem})."
        await threads.run(capture.let_go)
    error.add_note(note)
    logger.warning(note)
