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
"""Seconds that a measurement may take in all: a worker must start, codecs must open."""


def calibrate(
    question: SpeedQuestion,
    executor: Executor,
    *,
    refresh: bool = False,
    seconds: float = MEASURE_S,
    path: Path | None = None,
) -> LiveSpeed:
    """The live speed of an encoder on this machine: measured once, then cached. Blocking.

    Args:
        question: what is encoded.
        executor: runs the measurement in a worker process, so that this process opens no codecs.
        refresh: measure again even if the speed is cached.
        seconds: how long to measure.
        path: the cache file; default `speeds_path`.

    Raises:
        EncodeError: the encoder failed, or did not answer in time.
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
        logger.warning("The measured speed could not be stored for the next session: %s", error)
    return speed


def speed_or_reason(question: SpeedQuestion, executor: Executor) -> LiveSpeed | str:
    """The result of `calibrate`, or why it failed: recording must not fail because of a measurement."""
    try:
        return calibrate(question, executor)
    # Errors of an executor that was shut down or broke, or whose job was cancelled.
    except (AiorecordError, RuntimeError, CancelledError) as error:
        return f"its speed could not be measured: {error or 'the job was cancelled'}"
