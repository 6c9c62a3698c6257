"""Makes calls to one device, one at a time, each with a time limit for the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ...errors import SourceError
from ...printable import get_logger
from ...system.machine_time import monotonic_s

BUSY = object()
"""What `DeviceCalls.call` returns while this or an earlier call has not returned."""

_TURNS = 5
"""Turns of the event loop between a result in a device's thread and the end of the call that waits for it."""

logger = get_logger(__name__)


class DeviceCalls:
    """The calls of one device. A call is never made while another one is under way.

    A call that does not return in time is cancelled; if that does not end it (because the driver suppresses
    the cancellation), no further call is made until it returns. An awaited `ThreadedRobot` can always be
    cancelled and makes no further call in its thread either.

    Limits are in real time, whatever clock the recording has: a driver hangs in real time.

    Args:
        source: for messages, ``"robot"`` or ``"teleop"``.
        timeout_s: seconds after which a call that does not return is cancelled.
    """

    def __init__(self, source: str, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._task: asyncio.Task[Any] | None = None
        self._call = ""
        self._issued_s = 0.0
        self._returned_s = 0.0

    @property
    def is_busy(self) -> bool:
        """A call has not returned."""
        return self.stuck_in is not None

    @property
    def stuck_in(self) -> str | None:
        """The call that has not returned, None if there is none."""
        return self._call if self._task is not None and not self._task.done() else None

    async def call(
        self, call: str, function: Callable[..., Awaitable[Any]], *args: Any, wait_s: float, fresh: bool
    ) -> Any:
        """Make a call and wait for it.

        Cancelling cancels the call.

        Args:
            call: the method's name.
            function: the method.
            args: its arguments.
            wait_s: wait no longer than this. A call that is still within its own limit then goes on.
            fresh: False accepts the result of an equal call that was made earlier and returned within its
                limit.

        Returns:
            What the method returned, or `BUSY` while this or an earlier call goes on.

        Raises:
            SourceError: the call exceeded its limit; raised once, `BUSY` follows.
            Exception: what the method raised.
        """
        task = self._task
        if task is not None:
            if not await self._returned(task, wait_s):
                return BUSY
            self._task = None
            in_time = self._returned_s - self._issued_s <= self._timeout_s
            if not fresh and call == self._call and in_time and not task.cancelled():
                return task.result()
            if not task.cancelled():
                task.exception()  # the result of an abandoned call, which was reported when it was abandoned
        task = self._start(call, function, args)
        if not await self._returned(task, wait_s):
            return BUSY
        self._task = None
        if task.cancelled():
            raise SourceError(f"{call}() was cancelled by the driver.", source=self._source, call=call)
        return task.result()

    async def aclose(self, wait_s: float) -> bool:
        """Cancel the call under way and wait for it to end.

        Returns:
            False if it did not end within `wait_s`.
        """
        if self._task is None:
            return True
        self._task.cancel()
        if not self._task.done():
            await asyncio.wait((self._task,), timeout=wait_s)
        if not self._task.done():
            return False
        if not self._task.cancelled():
            self._task.exception()
        self._task = None
        return True

    def _start(
        self, call: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> asyncio.Task[Any]:
        loop = asyncio.get_running_loop()
        self._call, self._issued_s = call, monotonic_s()
        # Eager: a robot that does not suspend needs no turn of the loop.
        task = self._task = asyncio.Task(
            _awaited(function, args), loop=loop, name=f"aiorecord-{self._source}-{call}", eager_start=True
        )
        self._returned_s = monotonic_s()
        if not task.done():
            task.add_done_callback(self._note_return)
        return task

    def _note_return(self, task: asyncio.Task[Any]) -> None:
        self._returned_s = monotonic_s()

    async def returned(self, within_s: float) -> bool | None:
        """Wait for the call under way; nothing is cancelled.

        Returns:
            None when no call is under way, else whether it returned within `within_s` seconds.
        """
        task = self._task
        if task is None or task.done():
            return None
        await asyncio.wait((task,), timeout=within_s)
        return task.done()

    async def _returned(self, task: asyncio.Task[Any], wait_s: float) -> bool:
        """Wait for a call; cancel it, once, when it exceeds its limit.

        Raises:
            SourceError: it has just exceeded its limit.
        """
        if task.done():
            return True
        end_s = self._issued_s + self._timeout_s
        left_s = end_s - monotonic_s()
        try:
            await asyncio.wait((task,), timeout=min(wait_s, left_s) if left_s > 0 else wait_s)
            # A loop that got no processor time finds the limit passed and the result ready at the same time.
            for _ in range(_TURNS):
                if task.done():
                    return True
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if monotonic_s() >= end_s and not task.cancelling():
            task.cancel()
            raise SourceError(
                f"{self._call}() does not return, after {self._timeout_s:g} s.",
                source=self._source,
                call=self._call,
            )
        return False


async def _awaited(function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Any:
    """A task takes a coroutine, and a driver's method may return anything that can be awaited."""
    return await function(*args)


async def bounded(coroutine: Coroutine[Any, Any, Any], name: str, limit_s: float) -> bool:
    """Run a coroutine in a task for a limited time, then cancel it without waiting for its end.

    Cancelling cancels the coroutine.

    Args:
        coroutine: what to run.
        name: of its task.
        limit_s: seconds, of real time.

    Returns:
        False when it did not end in time.

    Raises:
        Exception: the coroutine's error.
    """
    task = asyncio.create_task(coroutine, name=name)
    try:
        done, _ = await asyncio.wait((task,), timeout=limit_s)
    except asyncio.CancelledError:
        _abandon(task)
        raise
    if not done:
        _abandon(task)
        await asyncio.sleep(0)  # most end here; one that suppresses the cancellation is not waited for
        return False
    if task.cancelled():
        return False
    task.result()
    return True


def _abandon(task: asyncio.Task[Any]) -> None:
    task.cancel()
    task.add_done_callback(_log_late_failure)


def _log_late_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("%s, abandoned before, failed: %s", task.get_name(), error)
