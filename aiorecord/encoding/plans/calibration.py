"""Returns the speed of a live encoder: from the cache, or by measuring it now."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future
from pathlib import Path

from ...errors import AiorecordError, EncodeError, StorageError
from ...printable import get_logger
from ...system.threads import Threads
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
    future = _begin(question, executor, seconds)
    try:
        speed = future.result(PATIENCE_S)
    except TimeoutError as error:
        give_up(executor, future)  # closing the executor must not wait for it
        raise _no_answer(question) from error
    _keep(question, speed, path)
    return speed


async def speed_or_reason(question: SpeedQuestion, executor: Executor, threads: Threads) -> LiveSpeed | str:
    """`calibrate`, or why it was not possible: recording must not fail for want of a measurement.

    Cancelling it kills the worker that measures.

    Args:
        question: what is to be encoded.
        executor: runs the measuring.
        threads: where the file of known speeds is read and written.
    """
    path = speeds_path()
    try:
        known = await threads.run(load_speed, question, path)
        if known is not None:
            return known
        future = _begin(question, executor, MEASURE_S)
        answer = asyncio.wrap_future(future)
        try:
            await asyncio.wait((answer,), timeout=PATIENCE_S)
            if not answer.done():
                raise _no_answer(question)
            if answer.cancelled():
                raise EncodeError("the job was cancelled")
            speed = answer.result()
        finally:
            if not future.done():
                answer.cancel()
                give_up(executor, future)
        await threads.run(_keep, question, speed, path)
        return speed
    # What an executor raises that was shut down or broke, or whose job was cancelled.
    except (AiorecordError, RuntimeError) as error:
        return f"its speed could not be measured: {error or 'the job was cancelled'}"


def _begin(question: SpeedQuestion, executor: Executor, seconds: float) -> Future[LiveSpeed]:
    return executor.submit(
        measure_live, question.encoder, tuple(question.sizes), question.fps, question.threads, seconds
    )


def _no_answer(question: SpeedQuestion) -> EncodeError:
    vcodec = question.encoder.vcodec
    return EncodeError(f"{vcodec} could not be measured in {PATIENCE_S:g} s.", codec=vcodec)


def _keep(question: SpeedQuestion, speed: LiveSpeed, path: Path) -> None:
    try:
        store_speed(question, speed, path)
    except StorageError as error:  # it is measured again next time
        logger.warning("The measured speed could not be stored for the next session: %s", error)
