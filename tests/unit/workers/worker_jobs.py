"""Jobs for the worker tests; a module of its own, because children import jobs by name."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import av


def echo(value: Any) -> Any:
    return value


def pid() -> int:
    return os.getpid()


def nice_values() -> set[int]:
    return {os.getpriority(os.PRIO_PROCESS, int(entry.name)) for entry in Path("/proc/self/task").iterdir()}


def policies(folder: Path) -> set[int]:
    """Of every thread of this process, those of an open encoder too."""
    from aiorecord.encoders import RGBEncoderConfig
    from aiorecord.media.video_file import VideoOutput

    with VideoOutput(folder / "a.mp4", RGBEncoderConfig(), 64, 48, 30, 1) as output:
        for _ in range(3):
            output.add(av.VideoFrame(64, 48, "rgb24"))
        return {os.sched_getscheduler(int(entry.name)) for entry in Path("/proc/self/task").iterdir()}


def modules() -> list[str]:
    return list(sys.modules)


def print_noise() -> str:
    print("not a message", flush=True)
    os.write(1, b"\x00" * 100)
    return sys.stdin.read()


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def complain_and_exit(lines: int) -> NoReturn:
    for line in range(lines):
        print("complaint", line, file=sys.stderr)
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


def mark_and_hang(path: Path) -> None:
    path.write_text(str(os.getpid()))
    threading.Event().wait()


def wait_for(fifo: Path) -> str:
    """Blocks until somebody writes to a named pipe."""
    return fifo.read_text()


def fail(error: BaseException) -> NoReturn:
    raise error


class StrangeError(Exception):
    """Can be pickled, cannot be rebuilt."""

    def __init__(self, message: str, *, detail: int) -> None:
        super().__init__(message)
        self.detail = detail


def fail_strangely() -> NoReturn:
    raise StrangeError("strange", detail=1)


def leave() -> NoReturn:
    sys.exit(5)


def unpicklable() -> Any:
    return threading.Lock()


def interrupt_me() -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return os.getpgrp() if os.getsid(0) == os.getsid(os.getppid()) else -1


def print_and_echo(value):
    for fd in (1, 2):
        os.write(fd, b"x" * 300_000)
    print("from Python", flush=True)
    return value


def fork_and_die():
    """Leave a process behind that holds every descriptor, and be killed."""
    read, write = os.pipe()
    if not os.fork():
        os.write(write, b"1")
        os.setpgid(0, 0)
        signal.alarm(30)
        signal.pause()
        os._exit(0)
    os.read(read, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def send_and_die(data):
    """Write to the pipe of the results what is no result."""
    os.write(int(sys.argv[2]), data)
    os._exit(0)
