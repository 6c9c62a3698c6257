"""Runs the jobs that read a dataset's files, each in a worker process that may crash, hang or starve.

Files on disk may contain anything, and the libraries that read them are written in C. So this process opens
only the small JSON files of a dataset; a crash in a worker becomes a finding.
"""

from __future__ import annotations

import errno
import signal
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EncodeError, StorageError
from ..system.memory import address_bytes
from ..system.storage import temporary_folder
from ..workers.pool import WorkerDiedError, WorkerPool
from ..workers.progress import Progress, read_progress
from ..workers.watched import Verdict, Watch
from .findings import ERROR

STALL_S = 120.0
"""Seconds of its own processor time, or of sleep, that a job may go without progress, so that a hanging
decoder does not hang the check. A job without processor time gets longer, see `workers.watched`."""

ATTEMPTS = 2
"""A single crash of a reader may come from a kill or a lack of memory; a second one comes from the file."""

MEMORY_BYTES = 6 << 30
"""Address space that a job may add to its process, so that a decompression bomb ends only the job."""

_POLL_S = 0.2
_READ_BYTES = 1 << 20
_CRASHES = {int(getattr(signal, name)) for name in ("SIGSEGV", "SIGILL", "SIGFPE") if hasattr(signal, name)}
"""Signals that a library's own fault causes. Others come from outside (SIGKILL, SIGTERM), or from the
machine: SIGABRT from a lack of memory, SIGBUS from a disk that cannot be read."""
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENODEV, errno.ENXIO),
}
_limited = False
_looks = 0


@dataclass(frozen=True)
class Job:
    """One file to check.

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


ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being done, the units done and the units in all."""

type RunJobs = Callable[[str, list[Job]], dict[Path, Any]]
"""Runs jobs, under a name for their progress; returns results by path, None for a job that failed."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        value: its return value, None if it did not return.
        code: the code of the finding, None if it returned.
        message: why it did not return.
    """

    job: Job
    value: Any = None
    code: str | None = None
    message: str = ""


def run_jobs(
    pool: WorkerPool,
    jobs: Sequence[Job],
    progress: Callable[[int, int], object] | None = None,
    *,
    width: int,
    stall_s: float = STALL_S,
) -> Iterator[Outcome]:
    """Run jobs in parallel and give their outcomes as they come.

    Args:
        pool: runs the jobs.
        jobs: in the order in which they are begun.
        progress: called with the units done and the units in all.
        width: how many are under way at once; the others wait here, not in the pool.
        stall_s: seconds without progress after which a job is killed.
    """
    waiting = deque(jobs)
    total, finished = sum(job.total for job in jobs), 0
    running: dict[Future[Any], _Running] = {}
    again: deque[_Running] = deque()
    number = 0
    with temporary_folder("check") as folder:
        try:
            while waiting or running or again:
                while (waiting or again) and len(running) < width:
                    state = again.popleft() if again else _Running(waiting.popleft(), 1, Watch(stall_s))
                    number += 1
                    state.path = Path(folder, str(number))
                    job = state.job
                    future = pool.submit(_run, job.run, job.arguments, job.path, state.path, job.total)
                    running[future] = state
                done, _ = wait(running, _POLL_S, FIRST_COMPLETED)
                for future in done:
                    state = running.pop(future)
                    outcome = _outcome(future, state)
                    if state.attempt < ATTEMPTS and outcome.code in _REPEATED:
                        again.append(_Running(state.job, state.attempt + 1, Watch(stall_s), before=outcome))
                        continue
                    finished += state.job.total
                    yield _agreed(outcome, state.before)
                for future, state in running.items():
                    if future.running():
                        state.done = min(read_progress(state.path)[0], state.job.total)
                    state.watch.judge(pool, future, state.done)
                if progress is not None:
                    progress(min(total, finished + sum(state.done for state in running.values())), total)
        finally:
            for future in running:
                pool.abort(future)


def is_refusal(error: BaseException) -> bool:
    """Whether an error comes from the machine and not from a file's content.

    libav reports some files that end early as EIO; `unreadable` then tests whether the disk can be read.
    """
    if isinstance(error, StorageError | MemoryError):
        return True
    number = getattr(error, "errno", None)
    return number in _REFUSALS or (number == errno.EIO and not type(error).__module__.startswith("av"))


def content_error(error: BaseException) -> str:
    """The text of an error that a file's content caused; one that comes from the machine is raised."""
    if is_refusal(error):
        raise error
    return str(error)


def unreadable(path: Path) -> str | None:
    """Read a file to its end; returns the system's error if that fails, else None."""
    try:
        with path.open("rb", buffering=0) as file:
            while file.read(_READ_BYTES):
                pass
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None


def is_regular(path: Path) -> bool | None:
    """Whether a path is a plain file, or a link to one; None if it does not exist.

    Hubs store datasets as links into a cache. Opening anything else (a pipe, a device) could block.

    Raises:
        StorageError: that cannot be determined.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return None
    except OSError as error:
        # A loop of links, a name that is too long, or a part of it that is not a folder.
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL):
            return False
        raise StorageError(f"Could not examine {path}: {error.strerror or error}", path=path) from error


_REPEATED = {"reader-crashed", "reader-killed", "file-unread"}


@dataclass
class _Running:
    """A job that runs.

    Attributes:
        before: how its first attempt ended.
    """

    job: Job
    attempt: int
    watch: Watch
    path: Path = Path()
    done: int = 0
    before: Outcome | None = None


def _agreed(outcome: Outcome, before: Outcome | None) -> Outcome:
    """The outcome of two attempts: a crash is evidence about the file only if it came both times."""
    if outcome.code == "reader-crashed" and before is not None and before.code != "reader-crashed":
        return Outcome(outcome.job, None, "reader-killed", f"{before.message} {outcome.message}")
    return outcome


def _outcome(future: Future[Any], state: _Running) -> Outcome:
    code, message = "reader-crashed", ""
    try:
        value, refused = future.result()
        if refused is None:
            return Outcome(state.job, value)
        code, message = "file-unread", f"The system cannot read it: {refused}."
    except WorkerDiedError as error:
        code = "reader-crashed" if error.signal in _CRASHES else "reader-killed"
        message = f"Reading it was ended: {error}"
    except EncodeError as error:
        code = "reader-killed"
        message = f"Reading it was not done: {error}"
    except MemoryError:
        code, message = "reader-memory", "Reading it takes more memory than is allowed, or than there is."
    except Exception as error:  # noqa: BLE001 - what a foreign library makes of broken bytes is a finding
        code = "file-unread" if is_refusal(error) else "reader-crashed"
        message = f"Reading it failed: {type(error).__name__}: {error}"
    if state.watch.given_up is Verdict.STARVED:
        code, message = "reader-starved", "Its reader waited too long for the processor or the disk."
    elif state.watch.given_up is Verdict.STALLED:
        code, message = "reader-stalled", "Reading it made no progress and was ended."
    return Outcome(state.job, None, code, message)


def _run(
    run: Callable[..., Any], arguments: tuple[Any, ...], file: Path, path: Path, total: int
) -> tuple[Any, str | None]:
    """In the worker process: run one job. Returns its value, and why the file cannot be judged by it."""
    _limit_memory()
    with Progress(path, total) as progress:
        # Libraries treat a read error as the end of the file, or as damage.
        try:
            value = run(*arguments, progress)
        except Exception as error:
            if (refused := unreadable(file)) is not None:
                return None, refused
            if isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError):
                return None, f"a file went away while it was read ({error})"
            raise
        faults = _faults(value)
        if not faults:
            return value, None
        if (refused := unreadable(file)) is not None:
            return value, refused
        # A disk may fail once and succeed the next time: damage must be found by two reads.
        _again()
        again = run(*arguments, progress)
        return value, None if _faults(again) == faults else "two reads of it gave different results"


def looks() -> int:
    """How many second reads this process has made; cached data of a first read must not be used for them."""
    return _looks


def _again() -> None:
    global _looks
    _looks += 1


def _faults(value: Any) -> set[object]:
    """The faults of a file in a job's value: an error's text, a problem, errors among its findings."""
    if isinstance(value, str):
        return {value}
    found: set[object] = {(f.code, f.episode) for f in getattr(value, "findings", ()) if f.severity == ERROR}
    problem = getattr(value, "problem", None)
    return found | {problem} if problem else found


def _limit_memory() -> None:
    global _limited
    if _limited or sys.platform != "linux":
        return  # on other systems the limit has no effect, or affects shared libraries
    import resource

    used = address_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    _limited = True
