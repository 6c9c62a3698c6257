"""Measures the memory of this process and its workers."""

from __future__ import annotations

from ..system.memory import resident_bytes
from ..workers.pool import WorkerPool


class PeakMemory:
    """Measures the peak memory of this process and its encoder workers together."""

    def __init__(self) -> None:
        self.peak = 0

    def sample(self, pool: object) -> None:
        """Measure once. `pool` is the encode executor; only a `WorkerPool` has processes to count."""
        workers = pool.rss_bytes() if isinstance(pool, WorkerPool) else 0
        self.peak = max(self.peak, resident_bytes() + workers)
