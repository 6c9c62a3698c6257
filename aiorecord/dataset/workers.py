"""Worker processes as a `concurrent.futures.Executor`.

Unlike `concurrent.futures.ProcessPoolExecutor` the children never import the caller's ``__main__`` (so it
works in notebooks, REPLs and unguarded scripts), and a child that dies takes only its own job with it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import ConfigError, EncodeError, StateError
from .worker import read_message, write_message

STDERR_KEPT = 4096
"""How many of a child's last bytes on stderr are kept for the error that reports its death."""

# Windows cannot wait for several pipes at once; there a child's last words are lost.
_CAN_WAIT_FOR_PIPES = sys.platform != "win32"


class WorkerDiedError(EncodeError):
    """The process that ran a job died: a crash in a codec, or it was killed, often for lack of memory."""


class WorkerPool(Executor):
    """Persistent child processes at the lowest priority, one job each at a time.

    Children start with the first jobs (or with `warm`) and end with `shutdown`, or at once when this process
    dies. Jobs wait in order of submission; the queue is not bounded, because it holds only the jobs' pickles:
    pass paths, not data. Functions and arguments must be importable and picklable; functions
    defined in ``__main__`` are not.

    A thread per child exists only while there are jobs for it, and it is not a daemon: a program that
    ends without `shutdown` waits for the jobs it submitted, as with the executors of the standard library.

    Args:
        max_workers: children at most.
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
            Its future. An exception of the call is raised as itself, with the child's traceback as a note
            (as EncodeError if it cannot be pickled), and the next job gets another child. `Future.cancel`
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
            except RuntimeError as error:  # the interpreter ends, or there are too many threads
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
        """Give a job up: one that waits is cancelled; of one that runs the child is killed.

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

    def rss_bytes(self) -> int:
        """Resident memory of all children together; 0 where the system does not tell (only Linux does)."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):  # it just ended, or there is no /proc
                total += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
        return total * os.sysconf("SC_PAGE_SIZE") if total else 0

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs and end the children. Idempotent; never kills a running job (see `abort`).

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
                # A done-callback of one of our own futures may be what calls us.
                if slot.last_thread is not None and slot.last_thread is not threading.current_thread():
                    slot.last_thread.join()

    def _start_thread(self, *, warm: bool = False) -> None:
        """Give an idle slot a thread, if there is one; ready children first. The lock is held."""
        idle = [slot for slot in self._slots if slot.thread is None]
        if warm:
            idle = [slot for slot in idle if slot.child is None]
        if not idle:
            return  # a busy slot takes the job when it is done with its own
        slot = max(idle, key=lambda slot: slot.child is not None)
        thread = threading.Thread(target=self._serve, args=(slot,), name=slot.name, daemon=False)
        thread.start()
        slot.thread = slot.last_thread = thread

    def _serve(self, slot: _Slot) -> None:
        """Run jobs in this slot's child until none waits. The body of the slot's thread."""
        with contextlib.suppress(OSError):  # the first job tries again and reports it
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
        """Forget the slot's job; an abort that came too late for it must not hit the next one."""
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
        answer = child.call(job.message)
        if slot.aborted:
            raise EncodeError("The encoding was stopped.", camera=job.camera)
        if answer is None:
            raise WorkerDiedError(f"The encoder's process {child.last_words()}", camera=job.camera)
        succeeded, value = pickle.loads(answer)  # noqa: S301 - from our own child
        if succeeded:
            return value
        # Whatever made it fail (memory that ran out, a codec's state) must not meet the next job.
        slot.spoilt = True
        if isinstance(value, str):
            failure = EncodeError(f"The job failed: {value.strip().splitlines()[-1]}", camera=job.camera)
            failure.add_note(f"In the worker process:\n{value}")
            raise failure
        raise value

    def _ensure_child(self, slot: _Slot) -> _Child:
        child = slot.child
        if child is not None and child.process.poll() is not None:
            child.close()  # it died between jobs
            child = None
        if child is None:
            child = _take_ahead() or _Child()
            with self._lock:
                slot.child = child
                if slot.aborted:
                    child.process.kill()
        return child


@contextlib.contextmanager
def worker_ahead() -> Iterator[None]:
    """Start a child now, for the first pool of this process that needs one.

    It loads its libraries while the caller loads its own. A child that no pool has taken is ended on exit;
    one that cannot be started is left to the pool, which says why.
    """
    with contextlib.suppress(OSError):
        _ahead.append(_Child())
    try:
        yield
    finally:
        child = _take_ahead()
        if child is not None:
            child.close()


_ahead: collections.deque[_Child] = collections.deque()


def _take_ahead() -> _Child | None:
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
    """A place for one child. `thread` is None while no thread serves it.

    Attributes:
        aborted: the child was killed on request.
        spoilt: a job failed in the child; the next job gets another one.
    """

    name: str
    child: _Child | None = None
    thread: threading.Thread | None = None
    last_thread: threading.Thread | None = None
    job: _Job | None = None
    aborted: bool = False
    spoilt: bool = False


class _Child:
    """One child process and the end of what it wrote to stderr."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            # -P: a queue.py or av.py in the current folder must not replace the real one.
            [sys.executable, "-P", "-m", "aiorecord.dataset.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if _CAN_WAIT_FOR_PIPES else subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
            # A group of its own: a terminal's Ctrl-C does not reach it. Not a session of its own: Linux
            # schedules sessions as equals (sched(7), autogroup), which makes nice mean nothing between them.
            process_group=0,
            creationflags=_creation_flags(),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._jobs_fd, self._results_fd = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._stderr = bytearray()

    def call(self, message: bytes) -> bytes | None:
        """Send a job and wait for the answer; None if the child died."""
        try:
            write_message(self._jobs_fd, message)
        except BrokenPipeError:
            return None
        self._keep_stderr_until_answer()
        return read_message(self._results_fd)

    def last_words(self) -> str:
        """How a dead child ended and what it said, as the end of a sentence. Waits for the end."""
        code = self.process.wait()
        if self.process.stderr is not None:
            while self._keep(self.process.stderr):
                pass
        if code < 0:
            try:
                how = f"was killed by {signal.Signals(-code).name}"
            except ValueError:
                how = f"was killed by signal {-code}"
            if -code == getattr(signal, "SIGKILL", None):
                how += " (perhaps the system ran out of memory)"
        else:
            how = f"exited with code {code}"
        said = self._stderr.decode(errors="replace").strip()
        return f"{how}. Its last words:\n{said}" if said else f"{how}."

    def close(self) -> None:
        """End the child, which has no job, and collect what is left of it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _keep_stderr_until_answer(self) -> None:
        """Empty stderr, so that the child never blocks on it, until there is something on stdout."""
        stderr = self.process.stderr
        if stderr is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._results_fd, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if stderr in ready and not self._keep(stderr):
                    selector.unregister(stderr)
                if self._results_fd in ready:
                    return

    def _keep(self, stderr: IO[bytes]) -> bool:
        """Read some of stderr, keep the last of it; False at its end."""
        part = os.read(stderr.fileno(), STDERR_KEPT)
        self._stderr = (self._stderr + part)[-STDERR_KEPT:]
        return bool(part)


def _environment() -> dict[str, str]:
    """This process's environment, such that the child imports the same modules from the same places."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    # A child needs no threads of numpy's, which would be one per core, each with its memory.
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}


def _creation_flags() -> int:
    if sys.platform == "win32":
        return subprocess.IDLE_PRIORITY_CLASS | subprocess.CREATE_NO_WINDOW
    return 0
