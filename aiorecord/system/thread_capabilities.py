"""Prevents libraries from giving their threads a real-time priority: drops CAP_SYS_NICE in encoder threads.

SVT-AV1, run as root, makes its threads SCHED_FIFO with priority 99, which starves every other thread of the
machine; it does the same, for tens of milliseconds, to the thread that opens the encoder. A thread needs the
capability CAP_SYS_NICE for that (sched(7)), and each thread can drop it for itself (capabilities(7)); the
library's call then fails, and the library goes on. Where the capability cannot be dropped, policies are put
back by thread id (sched_setscheduler(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CAPABILITY_VERSION_3 = 0x20080522
_CAP_SYS_NICE = 23


@contextlib.contextmanager
def unprivileged_threads() -> Iterator[None]:
    """Keep a library from setting scheduling policies inside the block, and undo those that it sets anyway.

    The calling thread's policy is restored afterwards, and threads that it starts get the same policy,
    without the capability to change it. Other threads are not changed: one may be a user's real-time loop.
    Only Linux has per-thread policies and capabilities; elsewhere the block does nothing.
    """
    if sys.platform != "linux":
        yield
        return
    before = _thread_ids()
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        with _without_sys_nice():
            yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)
        for thread_id in _thread_ids() - before:
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                if os.sched_getscheduler(thread_id) != policy:
                    os.sched_setscheduler(thread_id, policy, parameters)


def _thread_ids() -> set[int]:
    return {int(entry.name) for entry in Path("/proc/self/task").iterdir()}


class _Header(ctypes.Structure):
    """``struct __user_cap_header_struct`` (capget(2)); thread 0 is the calling one."""

    _fields_ = (("version", ctypes.c_uint32), ("thread", ctypes.c_int))


class _Sets(ctypes.Structure):
    """``struct __user_cap_data_struct`` (capget(2)); an array of two of them has 64 capabilities."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextlib.contextmanager
def _without_sys_nice() -> Iterator[None]:
    """Drop the calling thread's capability to choose policies; does nothing if it has none."""
    libc = ctypes.CDLL(None)
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    bit = 1 << _CAP_SYS_NICE
    try:
        has = libc.capget(ctypes.byref(header), sets) == 0 and sets[0].effective & bit
    except AttributeError:  # a C library without it
        has = 0
    if not has:
        yield
        return
    sets[0].effective &= ~bit
    laid_down = libc.capset(ctypes.byref(header), sets) == 0
    try:
        yield
    finally:
        if laid_down:
            sets[0].effective |= bit
            libc.capset(ctypes.byref(header), sets)
