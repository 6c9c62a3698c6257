"""Time: the clock that everything reads, and ticks that keep their deadlines."""

from __future__ import annotations

from .base import NS_PER_S, Alarm, Clock, sleep_until
from .fake import FakeClock
from .lateness import LATE_AFTER_S, Lateness, Tick
from .system import SystemClock
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
