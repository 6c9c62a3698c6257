"""Measures processor time and memory of this process and of all its descendants."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

from ..system.memory import resident_bytes
from ..system.threads import start_thread

SAMPLE_S = 0.05


def cpu_s() -> float:
    """Seconds of processor time of this process and of the children that have ended."""
    children = os.times()  # in ticks of 10 ms, which is too coarse for what this process does itself
    return time.process_time() + children.children_user + children.children_system


def tree_rss_bytes() -> int:
    """Resident memory of this process and its descendants; 0 except on Linux."""
    if sys.platform != "linux":
        return 0
    total, todo = 0, [os.getpid()]
    while todo:
        pid = todo.pop()
        total += resident_bytes(pid)
        with contextlib.suppress(OSError):  # the process has just ended
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_bytes().split())
    return total


class PeakRss:
    """Watches memory from a thread while a block runs.

    Attributes:
        peak: the highest value seen, in bytes.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="aiorecord-bench-memory")

    def __enter__(self) -> PeakRss:
        start_thread(self._thread)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.peak = max(self.peak, tree_rss_bytes())
