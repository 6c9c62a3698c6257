"""Detects that a job in a worker process has stalled, by its progress and by the processor time it got.

Wall-clock time alone says little: a worker at idle priority on a busy machine may get no processor time for
minutes, and a stopped one gets none at all. So a job is judged only by what it did with the time it got.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Executor, Future
from enum import Enum
from pathlib import Path
from typing import Any

from ..system.machine_time import monotonic_s
from .pool import WorkerPool, give_up
from .process import process_cpu_s

STARVED_FACTOR = 5
"""How many times the limit a job may go without progress while it waits for the processor or a disk."""

_STEP_S = 1.0
"""Most seconds that one look counts: a watcher that got no processor time itself saw nothing in between."""

_WANTS = {"R", "T", "t", "D"}
"""States of proc_pid_stat(5) of a thread that waits for the processor, a signal or a disk."""


class Verdict(Enum):
    """Why a job is aborted.

    `STALLED`: it used processor time, or slept, without progress. `STARVED`: it did not get the processor or
    the disk that it waited for, which says nothing about its input.
    """

    STALLED = "stalled"
    STARVED = "starved"


class Watch:
    """Watches one job in a worker process; call `judge` at least once a second.

    Args:
        limit_s: seconds of its own processor time, or of sleep, that a job may go without progress.

    Attributes:
        given_up: why it was killed, None if it was not.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.given_up: Verdict | None = None
        self._done: int | None = None
        self._pid: int | None = None
        self._cpu_s = self._slept_s = self._waited_s = 0.0
        self._looked_s = monotonic_s()

    def judge(self, executor: Executor, future: Future[Any], done: int) -> None:
        """Look at a job, and kill it where it does not get on. Nothing counts while it waits for its turn.

        Args:
            executor: where it was submitted; only a `WorkerPool` shows its processes and kills them.
            future: the job.
            done: its progress.
        """
        if not future.running():
            self._done = None
            self._looked_s = monotonic_s()
        elif self.given_up is None:
            pid = executor.pid_of(future) if isinstance(executor, WorkerPool) else None
            self.given_up = self.look(done, pid)
            if self.given_up is not None:
                give_up(executor, future)

    @property
    def unseen_s(self) -> float:
        """Seconds without progress in which it waited, or in which its process could not be watched."""
        return self._waited_s

    def look(self, done: int, pid: int | None) -> Verdict | None:
        """Look at a job that runs.

        Args:
            done: its progress.
            pid: its process, None while there is none.

        Returns:
            None while it may go on.
        """
        now_s = monotonic_s()
        step_s, self._looked_s = min(now_s - self._looked_s, _STEP_S), now_s
        cpu_s = None if pid is None else process_cpu_s(pid)
        if done != self._done or pid != self._pid:
            self._done, self._pid = done, pid
            self._cpu_s, self._slept_s, self._waited_s = cpu_s or 0.0, 0.0, 0.0
            return None
        if cpu_s is not None and cpu_s - self._cpu_s > self.limit_s:
            return Verdict.STALLED
        if cpu_s is None or _wants(pid):  # only Linux distinguishes starving from sleeping
            self._waited_s += step_s
        else:
            self._slept_s += step_s
        if self._slept_s > self.limit_s:
            return Verdict.STALLED
        return Verdict.STARVED if self._waited_s > STARVED_FACTOR * self.limit_s else None


def _wants(pid: int | None) -> bool:
    """Whether a thread of a process waits for a processor or a disk, or is stopped."""
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if (task / "stat").read_text().rpartition(")")[2].split()[0] in _WANTS:
                    return True
    return False
