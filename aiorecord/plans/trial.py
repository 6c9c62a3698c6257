"""Waiting for a codec to be tried out, which may crash or hang whatever tries it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from ..dataset.videos import check_encoder
from ..dataset.workers import WorkerDiedError, WorkerPool, give_up
from ..encoders import VideoEncoderConfig
from ..errors import CodecUnavailableError, StateError

TRIAL_CPU_S = 60.0
"""Processor time that a worker may use to encode a test frame; it takes a tenth of a second."""

TRIAL_S = 600.0
"""Time that it may take where it uses hardly any: a driver that waits for ever, or a machine without a
moment to spare."""

_LOOK_S = 0.5


async def try_encoder(
    executor: Executor,
    encoder: VideoEncoderConfig,
    width: int,
    height: int,
    fps: int,
    threads: int | None,
    *,
    check: Callable[..., str] = check_encoder,
    cpu_limit_s: float = TRIAL_CPU_S,
    limit_s: float = TRIAL_S,
) -> str:
    """`check_encoder` in a worker, given up when it hangs.

    Cancelling it kills the worker that tries.

    Args:
        executor: where it is tried.
        encoder: the settings.
        width: pixels.
        height: pixels.
        fps: frames per second.
        threads: threads of the encoder, or None.
        check: what tries it.
        cpu_limit_s: processor time of a worker after which it hangs.
        limit_s: time after which it hangs, whatever it used.

    Returns:
        The name of the encoder.

    Raises:
        CodecUnavailableError: it does not open, or it crashes or hangs the process that tries it.
        EncodeError: no worker could be started.
        StateError: the executor was shut down, cancelled the job, or is broken.
    """
    try:
        future = executor.submit(check, encoder, width, height, fps, threads)
    except StateError:
        raise
    except RuntimeError as error:  # it was shut down, or is broken
        raise _no_executor(str(error)) from error
    answer = asyncio.wrap_future(future)
    what = f"{encoder.vcodec} at {width}x{height}, {encoder.pix_fmt}"
    begun_s = time.monotonic()
    before_s: float | None = None
    try:
        while not (await asyncio.wait((answer,), timeout=_LOOK_S))[0]:
            used_s = _used_s(executor, future)
            before_s = used_s if before_s is None else before_s
            spent_s = (used_s or 0.0) - (before_s or 0.0)
            waited_s = time.monotonic() - begun_s
            if spent_s > cpu_limit_s or waited_s > limit_s:
                raise CodecUnavailableError(
                    f"Trying {what} gave no answer in {waited_s:.0f} s ({spent_s:.0f} s of processor time). "
                    "Choose another vcodec, or leave it to 'auto'.",
                    codec=encoder.vcodec,
                )
        if answer.cancelled():
            raise _no_executor("it was shut down, or the job was cancelled")
        return answer.result()
    except BrokenExecutor as error:
        raise _no_executor(str(error)) from error
    except WorkerDiedError as error:
        raise CodecUnavailableError(f"Trying {what} failed: {error}", codec=encoder.vcodec) from error
    finally:
        if not future.done():
            answer.cancel()
            give_up(executor, future)


def check_executor(executor: Executor) -> None:
    """Check that an executor takes jobs.

    Raises:
        StateError: it does not.
    """
    try:
        executor.submit(int)
    except StateError:
        raise
    except RuntimeError as error:
        raise _no_executor(str(error)) from error


def _no_executor(problem: str) -> StateError:
    return StateError(f"The encode executor takes no jobs: {problem.rstrip('.')}. Nothing was recorded.")


def _used_s(executor: Executor, future: Future[Any]) -> float | None:
    return executor.cpu_s(future) if isinstance(executor, WorkerPool) else None
