"""Waits for a trial of a codec, which may crash or hang its worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor

from ...encoders import VideoEncoderConfig
from ...errors import CodecUnavailableError, StateError
from ...media.codecs import check_encoder
from ...workers.pool import WorkerDiedError, give_up
from ...workers.watched import Verdict, Watch

TRIAL_S = 60.0
"""Seconds of processor time, or of sleep, that a worker may take to encode a test frame, which takes a tenth
of a second. A worker that gets no processor time may take longer, see `Watch`."""

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
    limit_s: float = TRIAL_S,
) -> str:
    """Run `check_encoder` in a worker, and abort it if it hangs.

    Cancelling kills the worker.

    Args:
        executor: runs the trial.
        encoder: the settings.
        width: pixels.
        height: pixels.
        fps: frames per second.
        threads: threads of the encoder, or None.
        check: the function that tries it.
        limit_s: seconds of its own processor time, or of sleep, after which it counts as hanging.

    Returns:
        The name of the encoder.

    Raises:
        CodecUnavailableError: it does not open, or the worker crashes or hangs.
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
    watch = Watch(limit_s)
    try:
        while not (await asyncio.wait((answer,), timeout=_LOOK_S))[0]:
            watch.judge(executor, future, 0)
            if watch.given_up is not None:
                why = "it did not get the processor" if watch.given_up is Verdict.STARVED else "it hangs"
                raise CodecUnavailableError(
                    f"Trying {what} gave no answer: {why}. Choose another vcodec, or leave it to 'auto'.",
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
