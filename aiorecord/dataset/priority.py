"""Keeping encoders out of the control loop's way: nice values.

Facts these functions rest on:

- On Linux a nice value belongs to a thread and is inherited by the threads it starts (sched(7)).
- With autogroup scheduling, nice values count only within one session (sched(7)): a worker in a session of
  its own would compete with the recorder as an equal, whatever its nice value.
"""

from __future__ import annotations

import os
import sys

WORKER_NICE = 19
"""The nice value of worker processes: they run when nothing else wants to."""


def lower_priority() -> None:
    """Give the calling thread, and every thread it starts from now on, the lowest priority.

    On Windows this does nothing: there the parent chooses the priority class when it starts a process.
    """
    if sys.platform != "win32":
        os.nice(WORKER_NICE)
