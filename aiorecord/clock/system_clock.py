"""The machine's own clock.

On Linux it waits on a timerfd that the event loop reads, which wakes 0.1-0.2 ms after the deadline;
`asyncio.sleep` goes through epoll's millisecond timeout and wakes 0.5-0.7 ms after it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from ..errors import StateError
from ..system.machine_time import monotonic_ns
from .clock import NS_PER_S, Alarm
from .timerfd import TimerFd


class SystemClock:
    """The monotonic clock of the machine, with a timerfd where the platform has one.

    One timer serves any number of alarms. It belongs to the event loop that first uses it.
    """

    def __init__(self) -> None:
        self._timer: TimerFd | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarms: list[Alarm] = []
        self._armed_ns = 0

    def now_ns(self) -> int:
        """`time.monotonic_ns`, the scale of timerfd's CLOCK_MONOTONIC."""
        return monotonic_ns()

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Alarm:
        """Run `callback` at the deadline; see `Clock`."""
        alarm = Alarm(deadline_ns, callback)
        loop = asyncio.get_running_loop()
        left_ns = deadline_ns - monotonic_ns()
        if left_ns <= 0:
            loop.call_soon(alarm.ring)
        elif (timer := self._open(loop)) is None:
            loop.call_later(left_ns / NS_PER_S, alarm.ring)
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

    def _open(self, loop: asyncio.AbstractEventLoop) -> TimerFd | None:
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise StateError("This clock belongs to another event loop; make one for each.")
            self.close()
            timer = TimerFd.create()
            if timer is None:
                return None
            try:
                loop.add_reader(timer.fd, self._on_timer)
            except NotImplementedError:  # an event loop that cannot watch file descriptors
                timer.close()
                return None
            self._timer, self._loop = timer, loop
        return self._timer

    def _arm(self, timer: TimerFd) -> None:
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
        now_ns = monotonic_ns()
        while self._alarms and self._alarms[0].deadline_ns <= now_ns:
            heapq.heappop(self._alarms).ring()
        if self._timer is timer:  # a callback may have closed the clock
            self._arm(timer)
