"""Ticks at fixed deadlines, start + k / fps, so that waiting errors do not add up."""

from __future__ import annotations

import asyncio
import math

from ..errors import ConfigError, StateError
from ..system.loop_owner import LoopOwner
from .clock import NS_PER_S, Clock
from .lateness import Lateness, Tick


class Ticker:
    """Deadlines at a fixed rate, as an async iterator of `Tick`.

    The first tick is due at once. A loop that is later than a whole period skips the deadlines it missed
    rather than running them in a burst, since each tick is one sample in time. Cancelling the wait for a
    tick does not end the iterator: it can be used again.

    Args:
        clock: the clock.
        fps: ticks per second, above 0.
        seconds: stop after this time; None never stops by itself. ``seconds * fps`` ticks fit, rounded.

    Raises:
        ConfigError: `fps` or `seconds` is not a positive number.
    """

    def __init__(self, clock: Clock, fps: float, seconds: float | None = None) -> None:
        if not 0 < fps < math.inf:
            raise ConfigError(f"fps must be a finite number above 0, not {fps!r}.", option="fps")
        if seconds is not None and not 0 <= seconds < math.inf:
            raise ConfigError(
                f"The time must be a finite number of seconds, 0 or more, not {seconds!r}.", option="seconds"
            )
        self._clock = clock
        self._period_ns = NS_PER_S / fps
        self._total = None if seconds is None else round(seconds * fps)
        self._slot = 0
        self._index = 0
        self._start_ns: int | None = None
        self._ended = False
        self._owner = LoopOwner("ticker")
        self._waiter: asyncio.Future[None] | None = None
        self.lateness = Lateness()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last deadline has passed, None if it never stops by itself."""
        if self._total is None:
            return None
        if self._start_ns is None:
            return self._total * self._period_ns / NS_PER_S
        end_ns = self._start_ns + self._total * self._period_ns
        return max(0.0, (end_ns - self._clock.now_ns()) / NS_PER_S)

    @property
    def start_ns(self) -> int:
        """The first deadline; the current time before the first tick was requested."""
        return self._clock.now_ns() if self._start_ns is None else self._start_ns

    @property
    def next_deadline_ns(self) -> int:
        """When the next tick is due."""
        return self.start_ns + round(self._slot * self._period_ns)

    def end(self) -> None:
        """Stop: a wait under way returns now, and no further tick is delivered. Idempotent."""
        self._owner.check("Ticker.end()")
        self._ended = True
        self._wake()

    def __aiter__(self) -> Ticker:
        return self

    async def __anext__(self) -> Tick:
        self._owner.bind()
        self._owner.check_awaited("Waiting for a tick")
        if self._waiter is not None:
            raise StateError("This ticker is already being waited for; use one ticker per loop.")
        if self._start_ns is None:
            self._start_ns = self._clock.now_ns()
        if self._done():
            raise StopAsyncIteration
        deadline_ns = self.next_deadline_ns
        await self._wait(deadline_ns)
        if self._ended:
            raise StopAsyncIteration
        now_ns = self._clock.now_ns()
        overdue_ns = now_ns - deadline_ns
        missed = int(overdue_ns // self._period_ns)
        if self._total is not None:
            missed = min(missed, self._total - 1 - self._slot)
        if missed > 0:
            self._slot += missed
            deadline_ns = self.next_deadline_ns
        tick = Tick(self._index, deadline_ns, now_ns, max(0, missed))
        self._slot += 1
        self._index += 1
        self.lateness.add(tick, overdue_ns)
        return tick

    def _done(self) -> bool:
        return self._ended or (self._total is not None and self._slot >= self._total)

    async def _wait(self, deadline_ns: int) -> None:
        """Wait for the deadline or for `end`, whichever comes first."""
        if self._ended:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        alarm = self._clock.call_at(deadline_ns, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            alarm.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
