"""Returns the speed of a live encoder: from the cache, or by measuring it now."""

from __future__ import annotations

from concurrent.futures import CancelledError, Executor
from pathlib import Path

from ...errors import AiorecordError, EncodeError, StorageError
from ...printable import get_logger
from ...workers.pool import give_up
from .choice import LiveSpeed
from .measure import MEASURE_S, measure_live
from .speeds import SpeedQuestion, load_speed, speeds_path, store_speed

logger = get_logger(__name__)

PATIENCE_S = 10.0
"""How long the answer may take in all: a worker must start, codecs must open."""


def calibrate(
    question: SpeedQuestion,
    executor: Executor,
    *,
    refresh: bool = False,
    seconds: float = MEASURE_S,
    path: Path | None = None,
) -> LiveSpeed:
    """How an encoder does live on this machine: measured once, then known. Blocking.

    Args:
        question: what is to be encoded.
        executor: runs the measuring; a worker process, so that the codecs stay out of this one.
        refresh: measure again, also what is known.
        seconds: how long to measure.
        path: the file of known speeds; default `speeds_path`.

    Raises:
        EncodeError: the encoder failed, or the answer did not come in time.
        StorageError: there is no room to measure in.
    """
    path = path or speeds_path()
    known = None if refresh else load_speed(question, path)
    if known is not None:
        return known
    future = executor.submit(
        measure_live, question.encoder, tuple(question.sizes), question.fps, question.threads, seconds
    )
    try:
        speed = future.result(PATIENCE_S)
    except TimeoutError as error:
        give_up(executor, future)  # closing the executor must not wait for it
        raise EncodeError(
            f"{question.encoder.vcodec} could not be measured in {PATIENCE_S:g} s.",
            codec=question.encoder.vcodec,
        ) from error
    try:
        store_speed(question, speed, path)
    except StorageError as error:  # it is measured again next time
        logger.warning("What was measured could not be kept for the next session: %s", error)
    return speed


def speed_or_reason(question: SpeedQuestion, executor: Executor) -> LiveSpeed | str:
    """`calibrate`, or why it was not possible: recording must not fail for want of a measurement."""
    try:
        return calibrate(question, executor)
    # What an executor raises that was shut down or broke, or whose job was cancelled.
    except (AiorecordError, RuntimeError, CancelledError) as error:
        return f"its speed could not be measured: {error or 'the job was cancelled'}"
