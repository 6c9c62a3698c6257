"""One child process of a `workers.WorkerPool`, as its parent uses it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path

from ..errors import EncodeError
from ..system.machine_time import monotonic_s
from .child import LENGTH, READY, read_message, write_message

STDERR_KEPT = 4096
"""How many of the last bytes that a child printed are kept for the error that reports its death."""

START_CPU_S = 60.0
"""Processor time that a child may use until it is ready; its imports take one or two seconds."""

START_S = 900.0
"""Time that a child may take until it is ready if it gets hardly any processor time."""

MAX_RESULT_BYTES = 1 << 31
"""Largest valid result in bytes."""

_LOOK_S = 1.0
_PART = 1 << 16


class Child:
    """One child process and the end of what it printed.

    Attributes:
        process: the process.
        is_ready: it has sent its greeting.

    Raises:
        OSError: it cannot be started.
    """

    process: subprocess.Popen[bytes]

    def __init__(self) -> None:
        if not sys.executable:
            raise OSError(
                "sys.executable is not set, so there is no Python to run it with. A program that embeds "
                "Python sets it to a Python interpreter that has aiorecord"
            )
        self._words = bytearray()
        self._pipes: tuple[int, ...] = ()
        self._output: int | None = None
        self._started = monotonic_s()
        self.is_ready = False
        if sys.platform == "win32":
            self._start_on_windows()
        else:
            self._start()

    def call(self, message: bytes) -> bytes | None:
        """Send a job and wait for the answer; None if the child died.

        Raises:
            EncodeError: the child does not become ready, or sends an invalid result.
        """
        if sys.platform == "win32":
            return self._call_on_windows(message)
        if not self.is_ready:
            first = self._exchange(b"", starting=True)
            if first is None:
                return None
            if first != READY:
                raise EncodeError("The worker process did not begin with its greeting.")
            self.is_ready = True
        return self._exchange(LENGTH.pack(len(message)) + message)

    def last_words(self) -> str:
        """How a dead child ended and what it printed, as the end of a sentence. Waits for the end."""
        code = self.process.wait()
        if self._output is not None:
            # Not read to its end: a process that the child started may hold the pipe open.
            with selectors.DefaultSelector() as selector:
                selector.register(self._output, selectors.EVENT_READ)
                while selector.select(0) and self._keep():
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
        said = self._words.decode(errors="replace").strip()
        return f"{how}. Its last output:\n{said}" if said else f"{how}."

    def close(self) -> None:
        """End the child, which has no job, and reap the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        for fd in self._pipes:
            os.close(fd)
        self._pipes = ()

    def _start(self) -> None:
        jobs, self._jobs_fd = os.pipe()
        theirs = [jobs]
        self._pipes = (self._jobs_fd,)
        try:
            self._results_fd, results = os.pipe()
            theirs.append(results)
            self._pipes = (self._jobs_fd, self._results_fd)
            self.process = subprocess.Popen(
                # -P: a queue.py or av.py in the current folder must not replace the real one.
                [sys.executable, "-P", "-m", "aiorecord.workers.child", str(jobs), str(results)],
                pass_fds=theirs,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                env=_environment(),
                # A group of its own: a terminal's Ctrl-C does not reach it. Not a session of its own: Linux
                # schedules sessions as equals (sched(7), autogroup), which makes nice mean nothing between
                # them.
                process_group=0,
            )
        except BaseException:
            for fd in self._pipes:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        assert self.process.stdout is not None
        self._output = self.process.stdout.fileno()
        os.set_blocking(self._jobs_fd, False)

    def _start_on_windows(self) -> None:
        """Start a child on Windows: without inherited descriptors, and without collecting its last output."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "aiorecord.workers.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
            creationflags=_creation_flags(),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._jobs_fd, self._results_fd = self.process.stdin.fileno(), self.process.stdout.fileno()

    def _call_on_windows(self, message: bytes) -> bytes | None:
        if not self.is_ready:
            if read_message(self._results_fd) is None:
                return None
            self.is_ready = True
        try:
            write_message(self._jobs_fd, message)
        except BrokenPipeError:
            return None
        return read_message(self._results_fd)

    def _exchange(self, message: bytes, *, starting: bool = False) -> bytes | None:
        """Write a message and read one, and meanwhile read the child's output, so that it never blocks."""
        rest, answer = memoryview(message), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._results_fd, selectors.EVENT_READ)
            if self._output is not None:
                selector.register(self._output, selectors.EVENT_READ)
            if rest:
                selector.register(self._jobs_fd, selectors.EVENT_WRITE)
            while True:
                events = selector.select(_LOOK_S)
                ready = {key.fd for key, _ in events}
                if self._output in ready and not self._keep():
                    assert self._output is not None
                    selector.unregister(self._output)
                    self._output = None
                if self._jobs_fd in ready:
                    try:
                        rest = rest[os.write(self._jobs_fd, rest) :]
                    except BrokenPipeError:
                        return None
                    if not rest:
                        selector.unregister(self._jobs_fd)
                if self._results_fd in ready:
                    part = os.read(self._results_fd, max(_PART, _missing(answer)))
                    if not part:
                        return None
                    answer += part
                    if len(answer) >= LENGTH.size and _missing(answer) <= 0:
                        return bytes(answer[LENGTH.size :])
                elif not events and self.process.poll() is not None:
                    return None  # although a process that it started may hold the pipe open
                if starting:
                    self._check_start()

    def _check_start(self) -> None:
        used_s = process_cpu_s(self.process.pid)
        waited_s = monotonic_s() - self._started
        if (used_s is not None and used_s > START_CPU_S) or waited_s > START_S:
            self.process.kill()
            raise EncodeError(
                f"The worker process ({sys.executable} -m aiorecord.workers.child) was not ready after "
                f"{waited_s:.0f} s. Is sys.executable a Python interpreter that has aiorecord?"
            )

    def _keep(self) -> bool:
        """Read some of what the child prints, keep the last of it; False at its end."""
        assert self._output is not None
        part = os.read(self._output, _PART)
        self._words = (self._words + part)[-STDERR_KEPT:]
        return bool(part)


def process_cpu_s(pid: int) -> float | None:
    """Processor time that a process has used, in seconds, all its threads together.

    Returns:
        None except on Linux (proc(5), ``/proc/pid/stat``).
    """
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The name, in parentheses, may hold blanks and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def _missing(answer: bytearray) -> int:
    """Bytes of a message that are still to come."""
    if len(answer) < LENGTH.size:
        return LENGTH.size - len(answer)
    size: int = LENGTH.unpack_from(answer)[0]
    missing = LENGTH.size + size - len(answer)
    if size > MAX_RESULT_BYTES or missing < 0:
        raise EncodeError(f"The worker process sent an invalid result (of {size} bytes).")
    return missing


def _environment() -> dict[str, str]:
    """This process's environment, changed so that the child imports the same modules."""
    entries = list(sys.path)
    if "" in entries:  # the working directory, which the child may not share; nothing, if it was deleted
        with contextlib.suppress(FileNotFoundError):
            entries = [entry or os.getcwd() for entry in entries]
    path = os.pathsep.join(entry for entry in entries if entry)
    # A child needs no numpy threads, which would be one per core, each with its own memory.
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}


def _creation_flags() -> int:
    if sys.platform == "win32":
        return subprocess.IDLE_PRIORITY_CLASS | subprocess.CREATE_NO_WINDOW
    return 0
