"""The child process of `workers.WorkerPool`: ``python -m aiorecord.workers.child JOBS_FD RESULTS_FD``.

It reads jobs from one pipe and writes results to another, each a pickle after its length. The pipes are used
for nothing else: what Python's start-up files, libraries or jobs print goes to stdout and stderr. Windows
does not pass descriptors to children; there the pipes are stdin and stdout.

It exits at once when the pipe of jobs closes or its parent is gone, also in the middle of a job, so a killed
recorder leaves no process behind that still writes.
"""

from __future__ import annotations

import os
import pickle
import queue
import select
import signal
import struct
import sys
import threading
import traceback
from importlib import import_module

from ..system.memory import configure_allocator, give_memory_back, load_when_used, refuse
from .process_priority import lower_priority

LENGTH = struct.Struct("<Q")
"""The prefix of each pickle: its size in bytes, little-endian."""

READY = b"ready"
"""The first message of a child that can take jobs."""

LOADED_AHEAD = "aiorecord.encoding.camera_encoding"
"""Modules that nearly every job needs, as names: this package must not depend on those whose jobs it runs."""

PARENT_CHECK_S = 1.0
"""How often a child checks whether its parent is alive.

Needed although the pipe closes with the parent: a process that the parent forked may hold the pipe open.
"""


def main() -> None:
    """Serve jobs until their pipe closes. Never returns."""
    parent = os.getppid()
    configure_allocator()
    lower_priority()  # first of all: threads that libraries start inherit it
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is handled by the recorder, which ends its children in order
    jobs_fd, results_fd = _take_pipes()
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # the parent sends one at a time
    # A daemon thread, because it ends the process itself.
    threading.Thread(target=_read_jobs, args=(jobs_fd, jobs, parent), name="jobs", daemon=True).start()
    refuse("pandas")  # pyarrow would import it without need
    load_when_used("numpy")  # 20 MB that colour video does without
    # Imports that nearly every job needs, so that a child started ahead is ready for the first job.
    import_module(LOADED_AHEAD)

    write_message(results_fd, READY)
    while True:
        write_message(results_fd, run_job(jobs.get()))
        give_memory_back()


def run_job(message: bytes) -> bytes:
    """Run one job.

    Args:
        message: a pickled ``(function, args, kwargs)``.

    Returns:
        A pickled ``(True, result)`` or ``(False, error)``. An error that cannot be rebuilt from its pickle,
        or that is not an `Exception`, is replaced by its traceback as a string.
    """
    try:
        function, args, kwargs = pickle.loads(message)  # noqa: S301 - comes from our own parent
        return pickle.dumps((True, function(*args, **kwargs)))
    except BaseException as error:  # noqa: BLE001 - handed to the parent, which raises it
        text = "".join(traceback.format_exception(error))
        try:
            if not isinstance(error, Exception):
                return pickle.dumps((False, text))
            error.add_note(f"In the worker process:\n{text}")
            answer = pickle.dumps((False, error))
            pickle.loads(answer)  # noqa: S301 - our own; some errors can be pickled but not rebuilt
        except Exception:  # noqa: BLE001 - whatever a foreign error's pickling raises
            return pickle.dumps((False, text))
        return answer


def write_message(fd: int, message: bytes) -> None:
    """Write a message after its length.

    Raises:
        BrokenPipeError: the reader is gone.
    """
    rest = memoryview(LENGTH.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(fd, rest) :]


def read_message(fd: int) -> bytes | None:
    """Read what `write_message` wrote; None when the other side is gone, also in the middle of a message."""
    header = _read_exactly(fd, LENGTH.size)
    return None if header is None else _read_exactly(fd, LENGTH.unpack(header)[0])


def _read_exactly(fd: int, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(fd, min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _take_pipes() -> tuple[int, int]:
    """Keep the pipes private, so that no process that a job starts inherits them."""
    if len(sys.argv) > 2:
        jobs_fd, results_fd = int(sys.argv[1]), int(sys.argv[2])
        os.set_inheritable(jobs_fd, False)
        os.set_inheritable(results_fd, False)
        return jobs_fd, results_fd
    jobs_fd, results_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return jobs_fd, results_fd


def _read_jobs(fd: int, jobs: queue.SimpleQueue[bytes], parent: int) -> None:
    """Pass jobs to the main thread; end the process when no more can come."""
    status = 1
    try:
        while _parent_sends(fd, parent) and (message := read_message(fd)) is not None:
            jobs.put(message)
        status = 0
    except BaseException:  # noqa: BLE001 - printed, then the process ends
        traceback.print_exc()
    finally:
        # Not sys.exit: the main thread may be in the middle of a job whose result is not needed.
        os._exit(status)


def _parent_sends(fd: int, parent: int) -> bool:
    """Wait until data, or the end, can be read; False when the parent is gone."""
    if sys.platform == "win32":
        return True  # select does not support pipes there, and pipes are not inherited by accident
    while not select.select([fd], [], [], PARENT_CHECK_S)[0]:
        if os.getppid() != parent:
            return False
    return True


if __name__ == "__main__":
    main()
