"""Wraps Linux's timerfd, a timer that an event loop can read."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import time
from typing import Any

from .clock import NS_PER_S


class TimerFd:
    """A Linux timerfd on CLOCK_MONOTONIC with absolute deadlines (timerfd_create(2))."""

    _NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
    _ABSOLUTE = 1

    def __init__(self, fd: int, libc: Any) -> None:
        self.fd = fd
        self._libc = libc

    @classmethod
    def create(cls) -> TimerFd | None:
        """A timer, or None where the platform has none. (`os.timerfd_create` is new in Python 3.13.)"""
        if sys.platform != "linux":
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "timerfd_create"):
            return None
        fd = libc.timerfd_create(time.CLOCK_MONOTONIC, cls._NONBLOCK_CLOEXEC)
        return cls(fd, libc) if fd >= 0 else None

    def arm(self, deadline_ns: int) -> None:
        """Become readable at the deadline; 0 disarms."""
        spec = struct.pack("@qqqq", 0, 0, *divmod(deadline_ns, NS_PER_S))
        if self._libc.timerfd_settime(self.fd, self._ABSOLUTE, spec, None) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    def drain(self) -> None:
        """Read the expirations so that the descriptor is no longer readable."""
        with contextlib.suppress(BlockingIOError):  # re-armed between the wake-up and this read
            os.read(self.fd, 8)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)
