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
        self._all: dict[str, _Durations] = {}
        self._new: dict[str, _Durations] = {}
        self._guard = threading.Lock()

    def note_call(self, call: str, seconds: float, limit_s: float) -> None:
        """Count a call that has ended, with or without an error."""
        with self._guard:
            for durations in (self._all, self._new):
                durations.setdefault(call, _Durations()).add(seconds)
            if seconds > limit_s:
                self.slow_calls.append(SlowCall(call, seconds))

    def timings(self) -> dict[str, CallTiming]:
        """All calls so far, by method."""
        with self._guard:
            return {call: durations.timing() for call, durations in self._all.items()}

    def new_timings(self) -> dict[str, CallTiming]:
        """The calls since the previous `new_timings`, by method."""
        with self._guard:
            new, self._new = self._new, {}
        return {call: durations.timing() for call, durations in new.items()}


class _Durations:
    """Durations of one method: the latest ones, their number, and the longest."""

    def __init__(self) -> None:
        self.latest_s: deque[float] = deque(maxlen=SAMPLES)
        self.count = 0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        self.latest_s.append(seconds)
        self.count += 1
        self.max_s = max(self.max_s, seconds)

    def timing(self) -> CallTiming:
        import numpy as np

        p50, p99 = np.percentile(self.latest_s, [50, 99]) * 1e3
        return CallTiming(self.count, float(p50), float(p99), self.max_s * 1e3)
