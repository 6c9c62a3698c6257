"""Time: the clock interface, the system clock, a fake clock, and ticks that keep their deadlines."""

from __future__ import annotations

from .clock import NS_PER_S, Alarm, Clock, sleep_until
from .fake_clock import FakeClock
from .lateness import LATE_AFTER_S, Lateness, Tick
from .system_clock import SystemClock
from .ticker import Ticker

__all__ = [
    "LATE_AFTER_S",
    "NS_PER_S",
    "Alarm",
    "Clock",
    "FakeClock",
    "Lateness",
    "SystemClock",
    "Tick",
    "Ticker",
    "sleep_until",
]
