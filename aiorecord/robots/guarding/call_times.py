"""Measures how long a driver's methods take, in the driver's thread; readable from any thread."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

SAMPLES = 1024
"""How many of the latest durations are kept per method."""

SLOW_CALLS = 100
"""How many of the latest slow calls are kept."""


@dataclass(frozen=True, slots=True)
class SlowCall:
    """A driver call that took longer than its limit.

    Attributes:
        call: the method.
        seconds: how long it took.
    """

    call: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CallTiming:
    """How long one driver method took.

    Attributes:
        count: calls so far.
        p50_ms: median of the latest `SAMPLES` calls, in milliseconds.
        p99_ms: 99th percentile of those.
        max_ms: the longest of all calls.
    """

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class CallTimes:
    """Durations of the calls of one driver, by method.

    Attributes:
        slow_calls: the latest calls that took longer than their limit.
    """

    def __init__(self) -> None:
        self.slow_calls: deque[SlowCall] = deque(maxlen=SLOW_CALLS)
        self._durations: dict[str, _Durations] = {}
        self._guard = threading.Lock()

    def add(self, call: str, seconds: float, limit_s: float) -> None:
        """Count a call that has ended, with or without an error."""
        with self._guard:
            self._durations.setdefault(call, _Durations()).add(seconds)
            if seconds > limit_s:
                self.slow_calls.append(SlowCall(call, seconds))

    def timings(self) -> dict[str, CallTiming]:
        """All calls so far, by method."""
        with self._guard:
            return {call: durations.timing() for call, durations in self._durations.items()}

    def new_timings(self) -> dict[str, CallTiming]:
        """The calls since the previous `new_timings`, by method."""
        with self._guard:
            new = {call: durations.new_timings() for call, durations in self._durations.items()}
        return {call: timing for call, timing in new.items() if timing is not None}


class _Durations:
    """Durations of one method: the latest ones, their number, and the longest."""

    def __init__(self) -> None:
        self.latest_s: deque[float] = deque(maxlen=SAMPLES)
        self.count = 0
        self.max_s = 0.0
        self._new_count = 0
        self._new_max_s = 0.0

    def add(self, seconds: float) -> None:
        self.latest_s.append(seconds)
        self.count += 1
        self.max_s = max(self.max_s, seconds)
        self._new_count += 1
        self._new_max_s = max(self._new_max_s, seconds)

    def new_timings(self) -> CallTiming | None:
        """The calls since the previous `new_timings`, None if there were none."""
        count, max_s, self._new_count, self._new_max_s = self._new_count, self._new_max_s, 0, 0.0
        if not count:
            return None
        return CallTiming(count, *_percentiles(list(self.latest_s)[-count:]), max_s * 1e3)

    def timing(self) -> CallTiming:
        return CallTiming(self.count, *_percentiles(list(self.latest_s)), self.max_s * 1e3)


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    import numpy as np

    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return float(p50), float(p99)
