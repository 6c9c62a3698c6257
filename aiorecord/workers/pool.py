"""Worker processes as a `concurrent.futures.Executor`.

Unlike `concurrent.futures.ProcessPoolExecutor` the children never import the caller's ``__main__`` (so it
works in notebooks, REPLs and unguarded scripts), and a child that dies takes only its own job with it.
"""

from __future__ import annotations

import collections
import contextlib
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError, EncodeError, StateError
from ..system.memory import resident_bytes
from ..system.threads import start_thread
from .process import STDERR_KEPT, Child

__all__ = ["STDERR_KEPT", "WorkerDiedError", "WorkerPool", "give_up", "worker_ahead"]


class WorkerDiedError(EncodeError):
    """The process that ran a job died: a crash in a codec, or it was killed, often for lack of memory.

    Attributes:
        signal: the number of the signal that ended it, 0 if none did.
    """

    signal = 0


class WorkerPool(Executor):
    """Persistent child processes at the lowest priority, one job each at a time.

    Children start with the first jobs (or with `warm`) and end with `shutdown`, or at once when this process
    dies. Jobs wait in order of submission; the queue is not bounded, because it holds only the jobs' pickles:
    pass paths, not data. Functions and arguments must be importable and picklable; functions
    defined in ``__main__`` are not.

    A thread per child exists only while there are jobs for it, and it is not a daemon: a program that
    ends without `shutdown` waits for the jobs it submitted, as with the executors of the standard library.

    Args:
        max_workers: most children.
        name: prefix of the threads' names.

    Raises:
        ConfigError: `max_workers` is not positive.
    """

    def __init__(self, max_workers: int, *, name: str = "aiorecord-encode") -> None:
        if max_workers < 1:
            raise ConfigError(f"A pool needs at least one worker, not {max_workers}.", option="max_workers")
        self._lock = threading.Lock()
        self._slots = [_Slot(f"{name}-{index}") for index in range(max_workers)]
        self._waiting: collections.deque[_Job] = collections.deque()
        self._closed = False

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in a child.

        Returns:
            Its future. An exception of the call is raised unchanged, with the child's traceback as a note (as
            EncodeError if it cannot be pickled), and the next job gets another child. `Future.cancel`
            works while the job waits; see `abort` for one that runs.

        Raises:
            StateError: the pool is shut down, or the interpreter ends.
            WorkerDiedError: (from the future) the child died; it is replaced for the next job.
            EncodeError: (from the future) no child could be started, or the job was aborted.
        """
        job = _Job(pickle.dumps((fn, args, kwargs)), getattr(args[0], "camera", None) if args else None)
        with self._lock:
            if self._closed:
                raise StateError("The worker pool is shut down.")
            self._waiting.append(job)
            try:
                self._start_thread()
            except RuntimeError as error:  # the interpreter is ending, or there are too many threads
                self._waiting.pop()
                raise StateError(f"The job cannot be started: {error}.") from error
        return job.future

    def warm(self) -> None:
        """Start every child that is not there yet, in the background.

        Raises:
            StateError: the pool is shut down.
        """
        with self._lock:
            if self._closed:
                raise StateError("The worker pool is shut down.")
            while any(slot.child is None and slot.thread is None for slot in self._slots):
                self._start_thread(warm=True)

    def abort(self, future: Future[Any]) -> bool:
        """Abort a job: if it waits it is cancelled; if it runs its child is killed.

        The future of a running job then fails with EncodeError.

        Returns:
            False if the future is already done, or is not this pool's.
        """
        if future.cancel():
            return True
        with self._lock:
            for slot in self._slots:
                if slot.job is not None and slot.job.future is future:
                    slot.aborted = True
                    if slot.child is not None:
                        slot.child.process.kill()
                    return True
        return False

    def pids(self) -> list[int]:
        """Process ids of the children that have been started and not ended."""
        with self._lock:
            return [slot.child.process.pid for slot in self._slots if slot.child is not None]

    def pid_of(self, future: Future[Any]) -> int | None:
        """Process id of the child that runs a job; None if none does."""
        with self._lock:
            for slot in self._slots:
                if slot.job is not None and slot.job.future is future and slot.child is not None:
                    return slot.child.process.pid
        return None

    def rss_bytes(self) -> int:
        """Resident memory of all children together; 0 except on Linux."""
        return sum(map(resident_bytes, self.pids()))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more jobs and end the children. Idempotent; never kills a running job (see `abort`).

        Args:
            wait: return when the last job is done and no thread or process of the pool is left. Otherwise
                that happens in the background.
            cancel_futures: cancel the jobs that still wait.
        """
        with self._lock:
            self._closed = True
            cancelled = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
            idle = [slot.child for slot in self._slots if slot.thread is None and slot.child is not None]
            for slot in self._slots:
                if slot.thread is None:
                    slot.child = None
        for job in cancelled:
            job.future.cancel()
        for child in idle:
            child.close()
        if wait:
            for slot in self._slots:
                # This may be called from a done-callback of one of the pool's own futures.
                if slot.last_thread is not None and slot.last_thread is not threading.current_thread():
                    slot.last_thread.join()

    def _start_thread(self, *, warm: bool = False) -> None:
        """Give an idle slot a thread, if there is one; ready children first. The lock is held."""
        idle = [slot for slot in self._slots if slot.thread is None]
        if warm:
            idle = [slot for slot in idle if slot.child is None]
        if not idle:
            return  # a busy slot takes the job when its own is done
        slot = max(idle, key=lambda slot: slot.child is not None)
        thread = threading.Thread(target=self._serve, args=(slot,), name=slot.name, daemon=False)
        start_thread(thread)
        slot.thread = slot.last_thread = thread

    def _serve(self, slot: _Slot) -> None:
        """Run jobs in this slot's child until none waits. The body of the slot's thread."""
        with contextlib.suppress(OSError):  # the first job tries again and reports the error
            self._ensure_child(slot)
        while (job := self._next_job(slot)) is not None:
            if not job.future.set_running_or_notify_cancel():
                self._done(slot)
                continue
            try:
                result = self._run(slot, job)
            except BaseException as error:  # noqa: BLE001 - raised where the future is waited for
                self._done(slot)
                job.future.set_exception(error)
            else:
                self._done(slot)
                job.future.set_result(result)

    def _next_job(self, slot: _Slot) -> _Job | None:
        """The next job, or None when the thread is to end: the slot is then idle, or closed with the pool."""
        with self._lock:
            if self._waiting:
                slot.job = self._waiting.popleft()
                return slot.job
            slot.thread = None
            child = slot.child
            if not self._closed:
                return None
            slot.child = None
        if child is not None:
            child.close()
        return None

    def _done(self, slot: _Slot) -> None:
        """Clear the slot's job; an abort that came too late for it must not affect the next one."""
        with self._lock:
            slot.job = None
            spoilt = slot.aborted or slot.spoilt
            slot.aborted = slot.spoilt = False
            child = slot.child
            dead = child is not None and (spoilt or child.process.poll() is not None)
            if dead:
                slot.child = None
        if dead and child is not None:
            child.close()

    def _run(self, slot: _Slot, job: _Job) -> Any:
        try:
            child = self._ensure_child(slot)
        except OSError as error:
            raise EncodeError(f"Could not start a worker process: {error}", camera=job.camera) from error
        try:
            answer = child.call(job.message)
        except EncodeError:
            slot.spoilt = True
            raise
        if slot.aborted:
            raise EncodeError("The encoding was stopped.", camera=job.camera)
        if answer is None:
            died = WorkerDiedError(f"The encoder's process {child.last_words()}", camera=job.camera)
            died.signal = max(0, -(child.process.returncode or 0))
            raise died
        try:
            succeeded, value = pickle.loads(answer)  # noqa: S301 - from our own child
        except Exception as error:
            slot.spoilt = True
            raise EncodeError(
                f"The worker process sent an invalid result: {error!r:.200}", camera=job.camera
            ) from error
        if succeeded:
            return value
        # The cause of the failure (lack of memory, a codec's state) must not affect the next job.
        slot.spoilt = True
        if isinstance(value, str):
            failure = EncodeError(f"The job failed: {value.strip().splitlines()[-1]}", camera=job.camera)
            failure.add_note(f"In the worker process:\n{value}")
            raise failure
        raise value

    def _ensure_child(self, slot: _Slot) -> Child:
        child = slot.child
        if child is not None and child.process.poll() is not None:
            child.close()  # it died between jobs
            child = None
        if child is None:
            child = _take_ahead() or Child()
            with self._lock:
                slot.child = child
                if slot.aborted:
                    child.process.kill()
        return child


def give_up(executor: Executor, future: Future[Any]) -> None:
    """Cancel a waiting job; for a running one, kill its process if it belongs to a `WorkerPool`."""
    if not future.cancel() and isinstance(executor, WorkerPool):
        executor.abort(future)


@contextlib.contextmanager
def worker_ahead() -> Iterator[None]:
    """Start a child now, for the first pool of this process that needs one.

    It imports its libraries while the caller imports its own. A child that no pool has taken is ended on
    exit; if it cannot be started, the pool tries again and reports the error.
    """
    with contextlib.suppress(OSError):
        _ahead.append(Child())
    try:
        yield
    finally:
        child = _take_ahead()
        if child is not None:
            child.close()


_ahead: collections.deque[Child] = collections.deque()


def _take_ahead() -> Child | None:
    try:
        return _ahead.popleft()
    except IndexError:
        return None


@dataclass(eq=False)
class _Job:
    message: bytes
    camera: str | None
    future: Future[Any] = field(default_factory=Future)


@dataclass(eq=False)
class _Slot:
    """The slot of one child. `thread` is None while no thread serves it.

    Attributes:
        aborted: the child was killed on request.
        spoilt: a job failed in the child; the next job gets another one.
    """

    name: str
    child: Child | None = None
    thread: threading.Thread | None = None
    last_thread: threading.Thread | None = None
    job: _Job | None = None
    aborted: bool = False
    spoilt: bool = False
