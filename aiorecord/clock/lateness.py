"""Ticks of a control loop, and statistics of how late they were."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from .clock import NS_PER_S

LATE_AFTER_S = 0.005
"""Ticks later than this count as late in reports."""

_LATE_AFTER_NS = LATE_AFTER_S * NS_PER_S


@dataclass(frozen=True, slots=True)
class Tick:
    """One turn of a control loop.

    Attributes:
        index: 0 for the first tick delivered, then 1, 2, ...
        deadline_ns: when it was due.
        time_ns: when it was delivered.
        missed: deadlines skipped just before this one, because the loop was busy.
    """

    index: int
    deadline_ns: int
    time_ns: int
    missed: int = 0

    @property
    def late_s(self) -> float:
        """Seconds after the deadline."""
        return (self.time_ns - self.deadline_ns) / NS_PER_S


class Lateness:
    """How late the ticks of a loop were. Holds 8 bytes per tick."""

    def __init__(self) -> None:
        self._late_ns = array("q")
        self._counted = 0
        self._late = 0
        self._worst_ns = 0
        self.missed = 0

    @classmethod
    def merged(cls, parts: Iterable[Lateness]) -> Lateness:
        """The lateness of the ticks of several loops together."""
        merged = cls()
        for part in parts:
            merged._late_ns.extend(part._late_ns)  # noqa: SLF001 - of its own class
            merged._worst_ns = max(merged._worst_ns, part._worst_ns)  # noqa: SLF001 - likewise
            merged.missed += part.missed
        return merged

    def add(self, tick: Tick, overdue_ns: int | None = None) -> None:
        """Count a tick.

        Args:
            tick: the tick.
            overdue_ns: how long the first of the deadlines skipped before it had waited; None without any.
        """
        late_ns = tick.time_ns - tick.deadline_ns
        self._late_ns.append(late_ns)
        self._worst_ns = max(self._worst_ns, late_ns if overdue_ns is None else overdue_ns)
        self.missed += tick.missed

    def newest_is_late(self) -> bool:
        """Whether the newest tick was late."""
        return bool(self._late_ns) and self._late_ns[-1] > _LATE_AFTER_NS

    def __len__(self) -> int:
        return len(self._late_ns)

    def recent(self, ticks: int = 100) -> tuple[float, int]:
        """Worst lateness in milliseconds among the newest ticks, and how many of all ticks were late.

        Costs the same however long the loop runs.
        """
        for value in self._late_ns[self._counted :]:
            self._late += value > _LATE_AFTER_NS
        self._counted = len(self._late_ns)
        return max(self._late_ns[-ticks:], default=0) / 1e6, self._late

    def counts(self) -> dict[str, float | int]:
        """``ticks, worst_ms, missed`` of `summary`, which cost the same however long the loop runs."""
        return {
            "ticks": len(self._late_ns),
            "worst_ms": round(self._worst_ns / 1e6, 3),
            "missed": self.missed,
        }

    def summary(self, late_after_s: float = LATE_AFTER_S) -> dict[str, float | int]:
        """Percentiles in milliseconds and counts.

        Args:
            late_after_s: ticks later than this count as late.

        Returns:
            ``ticks, p50_ms, p99_ms, max_ms, worst_ms, late, missed``; the times are 0 without ticks.
            ``max_ms`` is over the delivered ticks; ``worst_ms`` includes skipped deadlines: after a stall of
            a second it is a second.
        """
        import numpy as np  # imported here, so that importing a clock is fast

        values = np.frombuffer(self._late_ns, dtype=np.int64) if self._late_ns else np.zeros(1, np.int64)
        p50, p99 = np.percentile(values, [50, 99]) / 1e6
        return {
            "ticks": len(self._late_ns),
            "p50_ms": round(float(p50), 3),
            "p99_ms": round(float(p99), 3),
            "max_ms": round(float(values.max()) / 1e6, 3),
            "worst_ms": round(self._worst_ns / 1e6, 3),
            "late": int((values > late_after_s * NS_PER_S).sum()),
            "missed": self.missed,
        }
