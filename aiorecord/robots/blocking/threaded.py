"""Wraps blocking robots and teleoperators for an event loop: each is called in one thread of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from ...errors import ConfigError, SourceError, StateError
from ...printable import get_logger
from ...system.machine_time import monotonic_s
from ...system.threads import wrapped
from ..guarding.call_times import CallTimes, CallTiming, SlowCall
from ..guarding.device_reports import gives_new_images
from ..protocols import BlockingRobot, BlockingTeleoperator, Features, Values
from .device_thread import DeviceThread

logger = get_logger(__name__)

PICTURE_BYTES = 16 << 10
"""Arrays from this size on are copied in the device's thread; smaller ones are copied on the loop."""

STUCK_S = 10.0
"""Seconds that `disconnect` waits for a call that does not return."""


class _ThreadedDevice[D: BlockingRobot | BlockingTeleoperator]:
    """Base class of `ThreadedRobot` and `ThreadedTeleoperator`."""

    _source: str  # "robot" or "teleop", in messages and errors

    def __init__(self, blocking: D, *, call_timeout_s: float = 1.0, connect_timeout_s: float = 30.0) -> None:
        for option, value in (
            ("call_timeout_s", call_timeout_s),
            ("connect_timeout_s", connect_timeout_s),
        ):
            if not value > 0:
                raise ConfigError(f"{option} must be above 0 seconds, not {value!r}.", option=option)
        self.blocking = blocking
        self._call_timeout_s = call_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._thread: DeviceThread | None = None
        self._turn = asyncio.Lock()
        self._running: Future[Any] | None = None
        self._running_call = ""
        self._closing: asyncio.Task[None] | None = None
        self._stuck_in: str | None = None
        self._connected = False
        self._warned: set[str] = set()
        self._times = CallTimes()

    @property
    def name(self) -> str:
        """The device's own name."""
        return self.blocking.name

    @property
    def is_connected(self) -> bool:
        """Whether `connect` succeeded and `disconnect` was not called since. Does not ask the device."""
        return self._connected

    @property
    def action_features(self) -> Features:
        """The device's own, in whichever style it uses."""
        return self.blocking.action_features

    @property
    def slow_calls(self) -> deque[SlowCall]:
        """The latest calls that took longer than their limit."""
        return self._times.slow_calls

    def timings(self) -> dict[str, CallTiming]:
        """How long the driver's methods took, by method, without the time spent waiting for a turn."""
        return self._times.timings()

    def new_timings(self) -> dict[str, CallTiming]:
        """As `timings`, but only of the calls since the previous `new_timings`. For one user: a session."""
        return self._times.new_timings()

    async def connect(self) -> None:
        """Start the thread and connect the device in it. Does nothing when connected.

        After cancelling, the device goes on connecting in the thread; `disconnect` then waits for it.

        Raises:
            SourceError: the driver failed, or has not returned from a call made before the last `disconnect`.
                Call `disconnect` to end the thread, or `connect` to try again.
            StateError: `disconnect` is under way.
        """
        if self._connected and self._closing is None:
            return
        if self._closing is not None and self._stuck_in is not None:
            raise self._stuck_error("connect")
        if self._closing is not None:
            raise StateError(f"The {self._source} is being disconnected.")
        if self._thread is None:
            self._thread = DeviceThread(f"aiorecord-{self._source}-{self.name}")
        await self._call("connect", self._connect)

    async def disconnect(self) -> None:
        """Disconnect the device in its thread, then end the thread. Idempotent.

        It runs after a call that is under way, and after a `connect` that failed or was cancelled; calls that
        wait for their turn fail. Cancelling does not stop it: it is finished in the thread.

        Raises:
            SourceError: the driver failed; the thread has ended anyway. If the driver was never connected,
                its error is logged instead, since most drivers refuse to disconnect then. Also raised if the
                driver does not return from the call before within `STUCK_S`, or from disconnecting within
                ``connect_timeout_s``: the thread is then abandoned, and disconnects when it can. It does not
                keep the process from ending.
        """
        if self._closing is None:
            if self._thread is None:
                return
            thread, self._thread = self._thread, None
            timeout_s = self._connect_timeout_s
            call = thread.submit(self._timed, "disconnect", self._disconnect, timeout_s)
            thread.close()
            name = f"disconnect {self._source} {self.name}"
            self._closing = asyncio.create_task(self._close(thread, call), name=name)
        closing, before = self._closing, self._running
        # A call that was waited for in vain before is not waited for again.
        if before is not None and not before.done() and self._stuck_in is None:
            wait_s = self._connect_timeout_s if self._running_call == "connect" else STUCK_S
            await asyncio.wait((closing, wrapped(before, quietly=True)), timeout=wait_s)
            # `closing` follows when the call has returned.
        if (before is None or before.done()) and self._stuck_in != "disconnect":
            await asyncio.wait((closing,), timeout=self._connect_timeout_s)
        if not closing.done():
            self._stuck_in = "disconnect" if before is None or before.done() else self._running_call
            raise self._stuck_error("disconnect")
        closing.result()

    @property
    def call_under_way(self) -> str | None:
        """The driver call that the thread executes, even if its await was cancelled; else None."""
        running = self._running
        return self._running_call if running is not None and not running.done() else None

    async def returned(self, within_s: float) -> bool | None:
        """Wait for the driver call under way in the thread, even if its await was cancelled.

        Cancelling gives up the waiting.

        Args:
            within_s: seconds to wait at most.

        Returns:
            None when no call was under way, else whether it returned or raised in that time.
        """
        running = self._running
        if running is None or running.done():
            return None
        await asyncio.wait((wrapped(running, quietly=True),), timeout=within_s)
        return running.done()

    async def __aenter__(self) -> Self:
        """Connect; disconnect again if that fails."""
        try:
            await self.connect()
        except BaseException:
            await self.disconnect()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self.disconnect()

    def _stuck_error(self, call: str) -> SourceError:
        return SourceError(
            f"The {self._source} {self.name!r} does not return from {self._stuck_in}().",
            source=self._source,
            call=call,
        )

    async def _close(self, thread: DeviceThread, call: Future[Any]) -> None:
        try:
            # A loop that ends cancels its tasks; the device is still released.
            await self._watched("disconnect", wrapped(call), self._connect_timeout_s)
        finally:
            if call.done():
                thread.join()  # it has nothing left to do but to return
            self._running = self._closing = None
            self._stuck_in = None

    async def _call(self, call: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run one driver method in the device's thread, after whatever runs there now.

        At most one call is passed to the thread, so that cancelled awaits do not pile up.
        """
        if self._thread is None:
            raise StateError(f"The {self._source} {self.name!r} is not connected; call connect() first.")
        async with self._turn:
            if self._running is not None and not self._running.done():
                await asyncio.wait((wrapped(self._running),))
            if self._thread is None:
                raise StateError(f"The {self._source} {self.name!r} was disconnected.")
            self._running_call = call
            timeout_s = self._connect_timeout_s if call == "connect" else self._call_timeout_s
            self._running = self._thread.submit(self._timed, call, function, timeout_s, *args)
            # Cancelling this future drops a call that has not started; one that has runs to its end.
            return await self._watched(call, asyncio.wrap_future(self._running), timeout_s)

    async def _watched(self, call: str, future: asyncio.Future[Any], timeout_s: float) -> Any:
        """Wait for a call; warn if it does not come back."""
        alarm = asyncio.get_running_loop().call_later(timeout_s, self._warn, call, timeout_s)
        try:
            return await future
        finally:
            alarm.cancel()

    def _warn(self, call: str, timeout_s: float) -> None:
        if call not in self._warned:
            self._warned.add(call)
            logger.warning(
                "%s %r: %s() takes longer than %g s; the recording goes on, but ticks that wait for it are "
                "missed. (Said once per method; see slow_calls.)",
                self._source,
                self.name,
                call,
                timeout_s,
            )

    def _timed(self, call: str, function: Callable[..., Any], timeout_s: float, *args: Any) -> Any:
        """In the device's thread: call the driver, measure the time, and map its errors."""
        start_s = monotonic_s()
        try:
            return function(*args)
        except Exception as error:
            raise SourceError(
                f"The {self._source} {self.name!r} failed in {call}(): {type(error).__name__}: {error}",
                source=self._source,
                call=call,
            ) from error
        finally:
            self._times.note_call(call, monotonic_s() - start_s, timeout_s)

    def _connect(self) -> None:
        self.blocking.connect()
        self._connected = True

    def _disconnect(self) -> None:
        was_connected, self._connected = self._connected, False
        try:
            self.blocking.disconnect()
        except Exception as error:
            if was_connected:
                raise
            logger.warning("%s %r, never connected: disconnect() said %s", self._source, self.name, error)


class ThreadedRobot(_ThreadedDevice[BlockingRobot]):
    """A blocking robot, awaited.

    Every call of the device is made in one named thread, as many SDKs demand, while the event loop goes on.
    Features and name are read on the event loop.

    Args:
        blocking: the driver.
        call_timeout_s: seconds after which a call counts as slow: it is reported, never interrupted.
        connect_timeout_s: the same for `connect` and `disconnect`.

    Raises:
        ConfigError: a limit is not above 0.
    """

    _source = "robot"
    new_images = True  # see `_observe`

    @property
    def observation_features(self) -> Features:
        """The driver's own, in whichever style it uses."""
        return self.blocking.observation_features

    async def get_observation(self) -> Values:
        """The driver's observation.

        Cancelling gives up the result; the call is finished in the thread before the next one starts.

        Raises:
            SourceError: the driver failed; its error is the cause.
            StateError: not connected.
        """
        observation: Values = await self._call("get_observation", self._observe)
        return observation

    def _observe(self) -> Values:
        """The driver's observation with its pictures copied, in this thread so as not to delay the loop."""
        observation: Values = self.blocking.get_observation()
        if gives_new_images(self.blocking) or not isinstance(observation, Mapping):
            return observation
        import numpy as np

        return {
            name: value.copy() if isinstance(value, np.ndarray) and value.nbytes >= PICTURE_BYTES else value
            for name, value in observation.items()
        }

    async def send_action(self, action: Values) -> Values:
        """Send an action to the driver.

        Cancelling while it waits for its turn sends nothing; after that, the action is sent anyway.

        Returns:
            The action that the driver reports as sent.

        Raises:
            SourceError: the driver failed; its error is the cause.
            StateError: not connected.
        """
        sent: Values = await self._call("send_action", self.blocking.send_action, action)
        return sent


class ThreadedTeleoperator(_ThreadedDevice[BlockingTeleoperator]):
    """A blocking teleoperator, awaited; arguments and errors as of `ThreadedRobot`."""

    _source = "teleop"

    async def get_action(self) -> Values:
        """The driver's action.

        Cancelling gives up the result; the call is finished in the thread before the next one starts.

        Raises:
            SourceError: the driver failed; its error is the cause.
            StateError: not connected.
        """
        action: Values = await self._call("get_action", self.blocking.get_action)
        return action
