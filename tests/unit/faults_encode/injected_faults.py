"""Faults inside the real worker processes; a module of its own, because children import jobs by name."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from aiorecord.encoding import camera_encoding
from aiorecord.encoding.camera_encoding import EncodeJob, encode_camera
from aiorecord.encoding.encoded import EncodedCamera
from aiorecord.media import video_file
from aiorecord.workers.pool import WorkerPool
from aiorecord.workers.progress import Progress

AT_FRAME = 3
"""Faults come in the middle of an encode."""


def _segfault() -> None:
    ctypes.string_at(0)


def _raise_memory_error() -> None:
    raise MemoryError


def _use_all_memory() -> None:
    """No more address space than there is now: every further allocation of some size fails."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    bytearray(64 << 20)


FAULTS: dict[str, Callable[[], Any]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": _segfault,
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: threading.Event().wait(),
    "MemoryError": _raise_memory_error,
    "RLIMIT_AS": _use_all_memory,
}
"""What happens at frame `AT_FRAME`. More are in `encode_with`."""


def encode_with(job: EncodeJob, fault: str) -> EncodedCamera:
    """`encode_camera`, but for one thing that goes wrong. Runs in a worker.

    Args:
        job: what to encode.
        fault: its name, with ``@`` and the number of a frame behind it to let it come there.
    """
    fault, _, at_frame = fault.partition("@")
    if fault == "codec does not open":
        camera_encoding.resolved_codec = lambda *args: "h264_nvenc"
        return encode_camera(job)
    if fault == "encoder error":
        _let_encoders_fail()
        return encode_camera(job)
    update = Progress.update
    frame = int(at_frame or AT_FRAME)
    if fault == "killed at the start":
        frame, fault = 0, "SIGKILL"

    def faulty(self: Progress, done: int) -> None:
        update(self, done)
        if done == frame:
            FAULTS[fault]()

    Progress.update = faulty  # type: ignore[method-assign]
    return encode_camera(job)


def _let_encoders_fail() -> None:
    """The encoder is given a frame of another kind than it was opened for, and refuses it."""
    add = video_file.VideoOutput.add

    def faulty(self: video_file.VideoOutput, frame: Any) -> None:
        if self.frames == AT_FRAME:
            frame = frame.reformat(width=frame.width * 2)
        add(self, frame)

    video_file.VideoOutput.add = faulty  # type: ignore[method-assign]


class FaultyPool(WorkerPool):
    """A pool of real processes in which the next encodes meet a fault.

    Attributes:
        fault: its name.
        left: how many encodes meet it.
    """

    fault = ""
    left = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn is encode_camera and self.left > 0:
            self.left -= 1
            return super().submit(encode_with, *args, self.fault)
        return super().submit(fn, *args, **kwargs)
