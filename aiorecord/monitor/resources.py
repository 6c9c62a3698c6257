"""Memory of this process and its workers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..workers.pool import WorkerPool


def rss_bytes() -> int:
    """Resident memory of this process now; 0 where the platform does not tell."""
    if sys.platform != "linux":
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class PeakMemory:
    """The most memory that this process and its encoder workers were seen to hold together."""

    def __init__(self) -> None:
        self.peak = 0

    def sample(self, pool: object) -> None:
        """Look once. `pool` is the encode executor; only a `WorkerPool` has processes to count."""
        workers = pool.rss_bytes() if isinstance(pool, WorkerPool) else 0
        self.peak = max(self.peak, rss_bytes() + workers)
