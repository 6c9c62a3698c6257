"""Threads that libraries start, kept ordinary.

SVT-AV1, run as root, makes its threads SCHED_FIFO with priority 99, which starves every ordinary thread of
the machine; and the thread that opens the encoder as well. Policies of single threads can be set by thread
id (sched_setscheduler(2)).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def ordinary_threads() -> Iterator[None]:
    """Undo the scheduling policies that a library sets inside the block.

    The calling thread gets back what it had, and threads started in it get the same. Threads of
    others are left alone: they may be a user's real-time loop. Only Linux has per-thread policies that can
    be reached by id; elsewhere the block does nothing.
    """
    if sys.platform != "linux":
        yield
        return
    before = _thread_ids()
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
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
