"""Time: the clock that everything reads, and ticks that keep their deadlines.

Ticks are deadlines on a grid (start + k / fps), so waiting errors do not add up. On Linux the system clock
waits on a timerfd that the event loop reads, which wakes 0.1-0.2 ms after the deadline; `asyncio.sleep` goes
through epoll's millisecond timeout and wakes 0.5-0.7 ms after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import os
import struct
import sys
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .errors import ConfigError, StateError

NS_PER_S = 1_000_000_000
LATE_AFTER_S = 0.005
"""Ticks later than this count as late in reports."""


class Alarm:
    """A callback that waits for its time. `cancel` makes it never run; idempotent."""

    __slots__ = ("callback", "cancelled", "deadline_ns")

    def __init__(self, deadline_ns: int, callback: Callable[[], None]) -> None:
        self.deadline_ns = deadline_ns
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Never run the callback."""
        self.cancelled = True

    def __lt__(self, other: Alarm) -> bool:
        return self.deadline_ns < other.deadline_ns


class Clock(Protocol):
    """What aiorecord asks of a clock. Times are integers of nanoseconds on a monotonic scale."""

    def now_ns(self) -> int:
        """The present."""
        ...

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Alarm:
        """Run `callback` on the event loop at the deadline (soon, if it has passed)."""
        ...

    def close(self) -> None:
        """Release what the clock holds of the operating system; waiting alarms never ring. Idempotent."""
        ...


async def sleep_until(clock: Clock, deadline_ns: int) -> None:
    """Return at the deadline, or after one turn of the loop if it has passed."""
    future = asyncio.get_running_loop().create_future()
    alarm = clock.call_at(deadline_ns, lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        alarm.cancel()


class SystemClock:
    """The monotonic clock of the machine, with a timerfd where the platform has one.

    One timer serves any number of alarms. It belongs to the event loop that first uses it.
    """

    def __init__(self) -> None:
        self._timer: _TimerFd | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarms: list[Alarm] = []
        self._armed_ns = 0

    def now_ns(self) -> int:
        """`time.monotonic_ns`, the scale of timerfd's CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Alarm:
        """Run `callback` at the deadline; see `Clock`."""
        alarm = Alarm(deadline_ns, callback)
        loop = asyncio.get_running_loop()
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns <= 0:
            loop.call_soon(_ring, alarm)
        elif (timer := self._open(loop)) is None:
            loop.call_later(left_ns / NS_PER_S, _ring, alarm)
        else:
            heapq.heappush(self._alarms, alarm)
            self._arm(timer)
        return alarm

    def close(self) -> None:
        """Close the timer. Idempotent."""
        if self._timer is not None:
            assert self._loop is not None
            if not self._loop.is_closed():
                self._loop.remove_reader(self._timer.fd)
            self._timer.close()
            self._timer = self._loop = None
        self._alarms.clear()
        self._armed_ns = 0

    def _open(self, loop: asyncio.AbstractEventLoop) -> _TimerFd | None:
        if self._loop is not loop:
            self.close()
            timer = _TimerFd.create()
            if timer is None:
                return None
            try:
                loop.add_reader(timer.fd, self._on_timer)
            except NotImplementedError:  # an event loop that cannot watch files
                timer.close()
                return None
            self._timer, self._loop = timer, loop
        return self._timer

    def _arm(self, timer: _TimerFd) -> None:
        while self._alarms and self._alarms[0].cancelled:
            heapq.heappop(self._alarms)
        deadline_ns = self._alarms[0].deadline_ns if self._alarms else 0
        if deadline_ns != self._armed_ns:
            timer.arm(deadline_ns)
            self._armed_ns = deadline_ns

    def _on_timer(self) -> None:
        timer = self._timer
        if timer is None:
            return
        timer.drain()
        self._armed_ns = 0
        now_ns = time.monotonic_ns()
        while self._alarms and self._alarms[0].deadline_ns <= now_ns:
            _ring(heapq.heappop(self._alarms))
        if self._timer is timer:  # a callback may have closed the clock
            self._arm(timer)


class FakeClock:
    """A clock for tests and simulations: time passes only when told to.

    Args:
        auto: when True, waiting moves the clock to the deadline at once, so that a recording of an hour
            takes as long as its work.
        start_ns: the first reading.
    """

    def __init__(self, *, auto: bool = False, start_ns: int = NS_PER_S) -> None:
        self._now_ns = start_ns
        self._auto = auto
        self._alarms: list[Alarm] = []

    def now_ns(self) -> int:
        """The time it was set to."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let time pass, ringing the alarms whose deadline it reaches, in order."""
        self._now_ns += round(seconds * NS_PER_S)
        due = sorted(alarm for alarm in self._alarms if alarm.deadline_ns <= self._now_ns)
        self._alarms = [alarm for alarm in self._alarms if alarm.deadline_ns > self._now_ns]
        for alarm in due:
            _ring(alarm)

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Alarm:
        """Run `callback` when the clock was advanced to the deadline; see `Clock`."""
        alarm = Alarm(deadline_ns, callback)
        if self._auto or deadline_ns <= self._now_ns:
            asyncio.get_running_loop().call_soon(self._reach, alarm)
        else:
            self._alarms.append(alarm)
        return alarm

    def close(self) -> None:
        """Forget the waiting alarms."""
        self._alarms.clear()

    def _reach(self, alarm: Alarm) -> None:
        if not alarm.cancelled:
            self._now_ns = max(self._now_ns, alarm.deadline_ns)
        _ring(alarm)


def _ring(alarm: Alarm) -> None:
    if not alarm.cancelled:
        alarm.cancelled = True
        alarm.callback()


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
        """All ticks of several loops together."""
        merged = cls()
        for part in parts:
            merged._late_ns.extend(part._late_ns)
            merged._worst_ns = max(merged._worst_ns, part._worst_ns)
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

    def newest_is_late(self, late_after_s: float = LATE_AFTER_S) -> bool:
        """Whether the newest tick was late."""
        return bool(self._late_ns) and self._late_ns[-1] > late_after_s * NS_PER_S

    def __len__(self) -> int:
        return len(self._late_ns)

    def recent(self, ticks: int = 100, late_after_s: float = LATE_AFTER_S) -> tuple[float, int]:
        """Worst lateness in milliseconds among the newest ticks, and how many of all ticks were late.

        Costs the same however long the loop runs.
        """
        for value in self._late_ns[self._counted :]:
            self._late += value > late_after_s * NS_PER_S
        self._counted = len(self._late_ns)
        return max(self._late_ns[-ticks:], default=0) / 1e6, self._late

    def summary(self, late_after_s: float = LATE_AFTER_S) -> dict[str, float | int]:
        """Percentiles in milliseconds and counts.

        Args:
            late_after_s: ticks later than this count as late.

        Returns:
            ``ticks, p50_ms, p99_ms, max_ms, worst_ms, late, missed``; the times are 0 without ticks.
            ``max_ms`` is over the ticks delivered, ``worst_ms`` counts the deadlines that were skipped too:
            after a stall of a second it says a second.
        """
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


class Ticker:
    """Deadlines at a fixed rate, as an async iterator of `Tick`.

    The first tick is due at once. A loop that is later than a whole period skips the deadlines it missed
    rather than running them in a burst, since each tick is one sample in time. Cancelling the wait for a
    tick ends nothing: the iterator can be used again.

    Args:
        clock: the clock.
        fps: ticks per second, above 0.
        seconds: stop after this time; None never stops by itself. ``seconds * fps`` ticks fit, rounded.

    Raises:
        ConfigError: `fps` or `seconds` is not a positive number.
    """

    def __init__(self, clock: Clock, fps: float, seconds: float | None = None) -> None:
        if not fps > 0:
            raise ConfigError(f"fps must be above 0, not {fps!r}.", option="fps")
        if seconds is not None and not seconds >= 0:
            raise ConfigError(f"The time must be 0 seconds or more, not {seconds!r}.", option="seconds")
        self._clock = clock
        self._period_ns = NS_PER_S / fps
        self._total = None if seconds is None else round(seconds * fps)
        self._slot = 0
        self._index = 0
        self._start_ns: int | None = None
        self._ended = False
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
        """The first deadline; the present before the first tick was asked for."""
        return self._clock.now_ns() if self._start_ns is None else self._start_ns

    @property
    def next_deadline_ns(self) -> int:
        """When the next tick is due."""
        return self.start_ns + round(self._slot * self._period_ns)

    def end(self) -> None:
        """Stop: a wait under way returns now, and no further tick is delivered. Idempotent."""
        self._ended = True
        self._wake()

    def __aiter__(self) -> Ticker:
        return self

    async def __anext__(self) -> Tick:
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


class _TimerFd:
    """A Linux timerfd on CLOCK_MONOTONIC with absolute deadlines (timerfd_create(2))."""

    _NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
    _ABSOLUTE = 1

    def __init__(self, fd: int, libc: Any) -> None:
        self.fd = fd
        self._libc = libc

    @classmethod
    def create(cls) -> _TimerFd | None:
        """A timer, or None where the platform has none. (`os.timerfd_create` is new in Python 3.13.)"""
        if sys.platform != "linux":
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "timerfd_create"):
            return None
        fd = libc.timerfd_create(time.CLOCK_MONOTONIC, cls._NONBLOCK_CLOEXEC)
        return cls(fd, libc) if fd >= 0 else None

    def arm(self, deadline_ns: int) -> None:
        """Become readable at the deadline; 0 disarms."""
        spec = struct.pack("@qqqq", 0, 0, *divmod(deadline_ns, NS_PER_S))
        if self._libc.timerfd_settime(self.fd, self._ABSOLUTE, spec, None) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    def drain(self) -> None:
        """Read the expirations so that the descriptor is no longer readable."""
        with contextlib.suppress(BlockingIOError):  # re-armed between the wake-up and this read
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
