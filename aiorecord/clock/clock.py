"""The interface of a clock, and a coroutine that waits until a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

NS_PER_S = 1_000_000_000


class Alarm:
    """A callback that is called at a given time. After `cancel` it never runs; idempotent."""

    __slots__ = ("callback", "cancelled", "deadline_ns")

    def __init__(self, deadline_ns: int, callback: Callable[[], None]) -> None:
        self.deadline_ns = deadline_ns
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Never run the callback."""
        self.cancelled = True

    def ring(self) -> None:
        """Run the callback, unless it was cancelled or has run (for the clock)."""
        if not self.cancelled:
            self.cancelled = True
            self.callback()

    def __lt__(self, other: Alarm) -> bool:
        return self.deadline_ns < other.deadline_ns


class Clock(Protocol):
    """The interface of a clock. Times are integer nanoseconds on a monotonic scale."""

    def now_ns(self) -> int:
        """The current time."""
        ...

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Alarm:
        """Run `callback` on the event loop at the deadline (soon, if it has passed)."""
        ...

    def close(self) -> None:
        """Release the clock's system resources; waiting alarms never ring. Idempotent."""
        ...


async def sleep_until(clock: Clock, deadline_ns: int) -> None:
    """Return at the deadline, or after one turn of the loop if it has passed."""
    future = asyncio.get_running_loop().create_future()
    alarm = clock.call_at(deadline_ns, lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        alarm.cancel()
