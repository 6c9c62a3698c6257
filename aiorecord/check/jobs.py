"""Running the jobs that read a dataset's files, each in a worker process that may crash, hang or starve.

What is on disk may be anything, and the libraries that read it are written in C. So no file of a dataset but
the small JSON ones is opened in this process: a crash there is a finding here.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..dataset.progress import Progress, read_progress_file
from ..dataset.workers import WorkerDiedError, WorkerPool
from ..errors import EncodeError
from ..storage import temporary_folder

STALL_S = 120.0
"""Seconds without progress after which a job is given up: a decoder that hangs does not hang the check."""

MEMORY_BYTES = 6 << 30
"""Address space that a job may use beyond what its process had: a decompression bomb ends the job only."""

_POLL_S = 0.2
_limited = False


@dataclass(frozen=True)
class Job:
    """One file to be looked at.

    Attributes:
        path: the file.
        run: a module-level function; called with `arguments` and a `Progress`.
        arguments: picklable.
        total: how much progress it will report.
    """

    path: Path
    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    total: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        value: what it returned, None when it did not.
        code: the finding that its end amounts to, None when it returned.
        message: what happened to it.
    """

    job: Job
    value: Any = None
    code: str | None = None
    message: str = ""


def run_jobs(
    pool: WorkerPool,
    jobs: Sequence[Job],
    progress: Callable[[int, int], None] | None = None,
    *,
    width: int,
    stall_s: float = STALL_S,
) -> Iterator[Outcome]:
    """Run jobs in parallel and give their outcomes as they come.

    Args:
        pool: where they run.
        jobs: in the order in which they are begun.
        progress: called with the units done and the units in all.
        width: how many are under way at once; the others wait here, not in the pool.
        stall_s: seconds without progress after which a job is killed.
    """
    waiting = deque(jobs)
    total, finished = sum(job.total for job in jobs), 0
    running: dict[Future[Any], _Running] = {}
    with temporary_folder("check") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < width:
                    job = waiting.popleft()
                    path = Path(folder, str(len(waiting)))
                    future = pool.submit(_run, job.run, job.arguments, path, job.total)
                    running[future] = _Running(job, path, time.monotonic())
                done, _ = wait(running, _POLL_S, FIRST_COMPLETED)
                for future in done:
                    state = running.pop(future)
                    finished += state.job.total
                    yield _outcome(future, state)
                for future, state in running.items():
                    if future.running() and state.is_stalled(stall_s):
                        pool.abort(future)
                if progress is not None:
                    progress(min(total, finished + sum(state.done for state in running.values())), total)
        finally:
            for future in running:
                pool.abort(future)


def is_regular(path: Path) -> bool | None:
    """Whether a path is an ordinary file, or a link to one; None when there is nothing.

    Hubs store datasets as links into a cache. Anything else (a pipe, a device) could hang whoever opens it.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return None
    except OSError:
        return False  # a loop of links, a name that is too long, a part of it that is no folder


@dataclass
class _Running:
    job: Job
    path: Path
    changed: float
    done: int = 0
    stalled: bool = False

    def is_stalled(self, stall_s: float) -> bool:
        """Look at the progress; whether there has been none for too long."""
        done = min(read_progress_file(self.path)[0], self.job.total)
        now = time.monotonic()
        if done != self.done:
            self.done, self.changed = done, now
        self.stalled = self.stalled or now - self.changed > stall_s
        return self.stalled


def _outcome(future: Future[Any], state: _Running) -> Outcome:
    try:
        return Outcome(state.job, future.result())
    except WorkerDiedError as error:
        if state.stalled:
            return Outcome(state.job, None, "reader-stalled", "Reading it made no progress and was ended.")
        return Outcome(state.job, None, "reader-crashed", f"Reading it crashed: {error}")
    except EncodeError as error:
        code = "reader-stalled" if state.stalled else "reader-crashed"
        return Outcome(state.job, None, code, f"Reading it failed: {error}")
    except MemoryError:
        return Outcome(state.job, None, "reader-crashed", "Reading it takes more memory than is allowed.")
    except Exception as error:  # noqa: BLE001 - what a foreign library makes of broken bytes is a finding
        return Outcome(
            state.job, None, "reader-crashed", f"Reading it failed: {type(error).__name__}: {error}"
        )


def _run(run: Callable[..., Any], arguments: tuple[Any, ...], path: Path, total: int) -> Any:
    """In the worker process: one job."""
    _limit_memory()
    with Progress(path, total) as progress:
        return run(*arguments, progress)


def _limit_memory() -> None:
    global _limited
    if _limited or sys.platform != "linux":  # elsewhere the limit does not hold, or hits shared libraries
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    _limited = True
