"""Measures the memory of this process and its workers."""

from __future__ import annotations

from ..system.memory import resident_bytes
from ..workers.pool import WorkerPool


class PeakMemory:
    """The most memory that this process and its encoder workers were seen to hold together."""

    def __init__(self) -> None:
        self.peak = 0

    def sample(self, pool: object) -> None:
        """Look once. `pool` is the encode executor; only a `WorkerPool` has processes to count."""
        workers = pool.rss_bytes() if isinstance(pool, WorkerPool) else 0
        self.peak = max(self.peak, resident_bytes() + workers)
