"""A clock for tests, whose time advances only on request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .clock import NS_PER_S, Alarm


class FakeClock:
    """A clock for tests and simulations, whose time advances only on request.

    Args:
        auto: when True, waiting advances the clock to the deadline at once, so that an hour of recording
            takes only the time of its work.
        start_ns: the first reading.
    """

    def __init__(self, *, auto: bool = False, start_ns: int = NS_PER_S) -> None:
        self._now_ns = start_ns
        self._auto = auto
        self._alarms: list[Alarm] = []

    def now_ns(self) -> int:
        """The current time of this clock."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Advance the time, ringing the alarms whose deadline is reached, in order."""
        self._now_ns += round(seconds * NS_PER_S)
        due = sorted(alarm for alarm in self._alarms if alarm.deadline_ns <= self._now_ns)
        self._alarms = [alarm for alarm in self._alarms if alarm.deadline_ns > self._now_ns]
        for alarm in due:
            alarm.ring()

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Alarm:
        """Run `callback` when the clock was advanced to the deadline; see `Clock`."""
        alarm = Alarm(deadline_ns, callback)
        if self._auto or deadline_ns <= self._now_ns:
            asyncio.get_running_loop().call_soon(self._reach, alarm)
        else:
            self._alarms.append(alarm)
        return alarm

    def close(self) -> None:
        """Drop the waiting alarms."""
        self._alarms.clear()

    def _reach(self, alarm: Alarm) -> None:
        if not alarm.cancelled:
            self._now_ns = max(self._now_ns, alarm.deadline_ns)
        alarm.ring()
