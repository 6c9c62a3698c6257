"""Gives the control loop priority over all other threads, where the system allows it.

A thread with a real-time policy gets a core at once when it wakes (sched(7)). A thread with the default
policy may wait for the next timer interrupt, up to 4 ms, even if only threads of lower weight run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def realtime() -> Iterator[bool]:
    """Give the calling thread a real-time policy inside the block. Threads it starts do not inherit it.

    Linux allows it to root and to users with a limit above 0 (``rtprio`` in limits.conf(5)). The kernel
    reserves a part of each second for other threads, so a thread that never waits does not block them.

    Yields:
        Whether the thread has the policy. Where it is not allowed, nothing changes.
    """
    if sys.platform != "linux":
        yield False
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    ordinary = policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
    try:
        if ordinary:  # otherwise the user has chosen another policy, perhaps with a higher priority
            lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, lowest)
    except OSError:
        ordinary = False
    try:
        yield ordinary
    finally:
        if ordinary:
            try:
                os.sched_setscheduler(0, policy, parameters)
            except PermissionError:  # only a privileged process may remove the flag again
                os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, parameters)
