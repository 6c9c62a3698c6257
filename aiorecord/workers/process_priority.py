"""Lowers the priority of encoders, so that they do not delay the control loop: nice values and policies.

These facts are used:

- On Linux nice value and policy belong to a thread and are inherited by the threads it starts (sched(7)).
- A thread of policy SCHED_IDLE is preempted at once when any other wakes; one of nice 19 may go on to the
  next timer interrupt, up to 4 ms (docs/adr/0004-workers-are-idle.md).
- With autogroup scheduling, nice values count only within one session (sched(7)): a worker in a session of
  its own would compete with the recorder as an equal, whatever its nice value.
"""

from __future__ import annotations

import os
import sys

WORKER_NICE = 19
"""The nice value of worker processes: they run when nothing else needs the processor."""


def lower_priority() -> None:
    """Give the calling thread, and every thread it starts from now on, the lowest priority.

    Elsewhere than on Linux there is only the nice value. On Windows this does nothing: there the parent
    chooses the priority class when it starts a process.
    """
    if sys.platform != "win32":
        os.nice(WORKER_NICE)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
