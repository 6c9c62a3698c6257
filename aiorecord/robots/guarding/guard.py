"""Robots and teleoperators that repeat their last good value while the device fails, so the episode goes on.

A guard wraps a device and implements the same protocol. A failing call is retried; then the device's last
good value is used for a limited time, counted and named in `held`. After that time `SourceLostError` is
raised, and a `Session` ends and keeps the episode and reconnects the device. See `SourcePolicy`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ...clock import NS_PER_S, Clock, SystemClock, sleep_until
from ...errors import SourceError
from ...features import Schema
from ...system.machine_time import monotonic_s
from ...system.uncancellable import UncancellableTask, finished
from ..protocols import Robot, Teleoperator, Values
from .device_calls import BUSY, DeviceCalls, bounded
from .device_reports import gives_new_images, layers
from .device_values import DeviceValues
from .device_wrapper import RobotWrapper, TeleoperatorWrapper, Wrapper
from .source_health import SourceHealth
from .source_policy import SourcePolicy, SourceStatus, short

OBSERVE, SEND, ASK = "robot", "robot.send_action", "teleop"
RELEASE_S = 10.0
"""Seconds of real time that a device has to disconnect, before it is abandoned."""


class Guard[D: Robot | Teleoperator](Wrapper[D]):
    """Base class of `GuardedRobot` and `GuardedTeleoperator`; its arguments are listed there."""

    _name: str  # of the source
    _declares: str  # the property with the features of what is read
    _finite = True

    def __init__(
        self,
        inner: D,
        features: Schema | Mapping[str, Mapping[str, Any]],
        policy: SourcePolicy | None = None,
        *,
        clock: Clock | None = None,
        fps: float = 30,
    ) -> None:
        super().__init__(inner)
        self.policy = policy = policy or SourcePolicy()
        self.on_change: Callable[[str], None] = lambda message: None
        """Called with a line for the operator when a source fails, is lost, or is back."""
        self.held: frozenset[str] = frozenset()
        """Sources whose last good value was repeated at the latest call of each method."""
        self.reconnects = 0
        self.patient = False
        """Set while nothing is recorded: a failing device then has the full time limit of a call."""
        self._clock = clock or SystemClock()
        self._owns_clock = clock is None
        self._budget_s = 0.5 / fps
        self._calls = DeviceCalls(self._name, policy.call_timeout_s)
        self._sources: dict[str, SourceHealth] = {}
        self._whole = self._source(self._name)
        self._values = DeviceValues(
            features if isinstance(features, Schema) else Schema(features),
            getattr(inner, self._declares, None),
            is_action=self._name == ASK,
            finite=self._finite,
            new_images=gives_new_images(inner),
        )
        self._latest: Values = {}
        for key in self._values.features:
            self._source(key)

    @property
    def is_lost(self) -> bool:
        """Whether a source was held for too long and has not worked since."""
        return any(source.is_lost for source in self._sources.values())

    @property
    def is_well(self) -> bool:
        """Whether every source worked when it was last asked."""
        return all(source.is_well for source in self._sources.values())

    @property
    def never_came(self) -> bool:
        """Whether a lost source has never worked: a cable that was never plugged in, or a wrong setting."""
        return any(source.is_lost and not source.was_well for source in self._sources.values())

    def status(self) -> list[SourceStatus]:
        """The status of each source. Cheap."""
        return [source.status(self.reconnects) for source in self._sources.values()]

    async def disconnect(self) -> None:
        """Disconnect the device, after cancelling a call that has not returned. Idempotent.

        Releasing the hardware has priority: a coroutine that suppresses its cancellation is waited for no
        longer than a call's limit.

        Raises:
            SourceError: it did not disconnect within `RELEASE_S`, and is abandoned.
            Exception: the device's error.
        """
        if self._owns_clock:
            self._clock.close()
        released = await self._calls.aclose(self.policy.call_timeout_s)
        if not await release(self.inner, self._name) or not released:
            where = f" from {self._calls.stuck_in}()" if self._calls.stuck_in else ""
            raise self._error(f"could not be disconnected: it does not return{where}.", "disconnect")

    async def came_back(self, within_s: float) -> bool | None:
        """Wait for a late call, also in the driver's thread: a device that answers late is not lost.

        Returns:
            None if no call was under way. True if it returned: ask the device again. False if it did not
            return within `within_s` seconds of real time: connecting again would have to wait for it too.
        """
        late: bool | None = None
        waits = [self._calls.returned]
        waits += [layer.returned for layer in layers(self.inner) if hasattr(layer, "returned")]
        end_s = monotonic_s() + within_s
        for wait in waits:
            returned = await wait(max(0.0, end_s - monotonic_s()))
            if returned is False:
                return False
            late = late or returned
        return late

    @property
    def late_call(self) -> str | None:
        """The call that has not returned, in the driver's thread too; None when there is none."""
        found = (getattr(layer, "call_under_way", None) for layer in layers(self.inner))
        return self._calls.stuck_in or next((call for call in found if call is not None), None)

    async def reconnect(self, within_s: float) -> None:
        """Disconnect the device and connect it again, once.

        Raises:
            SourceError: it does not return, or not within `within_s` of real time.
            Exception: the error from connecting. An error from disconnecting is passed to `on_change`, since
                a missing device often cannot be disconnected properly.
        """
        if not await self._calls.aclose(self.policy.call_timeout_s):
            raise self._error(f"does not return from {self._calls.stuck_in}().", "disconnect")
        try:
            await self.disconnect()
        except Exception as error:  # noqa: BLE001 - see above
            self.on_change(f"{self._name}: {error}")
        if not await bounded(self.inner.connect(), f"aiorecord-{self._name}-connect", max(within_s, 1.0)):
            raise self._error("does not connect.", "connect")
        self.reconnects += 1

    def _error(self, problem: str, call: str) -> SourceError:
        return SourceError(f"The {self._name} {self.name!r} {problem}", source=self._name, call=call)

    def _source(self, name: str) -> SourceHealth:
        if name not in self._sources:
            hold_s = self.policy.hold_s(name)
            # The time from one call to the next is a call's limit and a tick, and may be late by as much
            # again.
            asked_s = 2 * (self.policy.call_timeout_s + 2 * self._budget_s)
            self._sources[name] = SourceHealth(
                name, hold_s, self._clock, self._budget_s, self._say, asked_s=asked_s
            )
        return self._sources[name]

    def _say(self, message: str) -> None:
        self.on_change(message)

    async def _ask(
        self,
        source: SourceHealth,
        call: str,
        function: Callable[..., Awaitable[Any]],
        *args: Any,
        fresh: bool,
    ) -> Any:
        """Make a call, and repeat it if it raises; returns `BUSY` while the device has not returned.

        Raises:
            Exception: the error of the last try.
        """
        start_ns = self._clock.now_ns()
        tries = 1 + self.policy.retries if source.is_well else 1
        while True:
            # A failing device must not slow down the others.
            in_trouble = not source.is_well or self._calls.is_busy
            hurried = in_trouble and not self.patient
            wait_s = self._budget_s if hurried else self.policy.call_timeout_s
            try:
                value = await self._calls.call(call, function, *args, wait_s=wait_s, fresh=fresh)
                if value is not BUSY and not isinstance(value, Mapping) and not args:
                    raise SourceError(
                        f"{call}() returned {type(value).__name__}.", source=self._name, call=call
                    )
                return value
            except Exception as error:
                tries -= 1
                spent_s = (self._clock.now_ns() - start_ns) / NS_PER_S
                backoff_s = self.policy.backoff_s * 2 ** (self.policy.retries - tries)
                out_of_time = spent_s + backoff_s > self._budget_s or self._calls.is_busy
                if tries <= 0 or out_of_time:
                    raise
                source.note_retry(error)
                await sleep_until(self._clock, self._clock.now_ns() + round(backoff_s * NS_PER_S))

    async def _read(self, call: str, function: Callable[[], Awaitable[Values]]) -> Values:
        """Ask the device; bad values are replaced by their last good value.

        Raises:
            SourceLostError: the last good value was repeated for too long.
            SourceError: there is no good value yet.
            Exception: what the device raised, where the policy says so.
        """
        try:
            values: Any = await self._ask(self._whole, call, function, fresh=False)
        except Exception as error:  # the policy handles every error of a driver
            if self.policy.on_error == "raise":
                raise
            return self._hold_all(call, error)
        if values is BUSY:
            return self._hold_all(call, None)
        self._whole.note_well()
        problems = self._values.check(values)
        self.held = frozenset(problems)
        for key in self._values.features.keys() - problems.keys():
            self._sources[key].note_well()
        if problems and self.policy.on_error == "raise":
            key, problem = next(iter(problems.items()))
            raise SourceError(f"{short(key)}: {problem}", source=key, call=call)
        for key, problem in problems.items():
            self._sources[key].note_failure(call, f"{call}(): {problem}", "Its last value is used instead.")
        result: Values = values
        if not problems:
            self._latest = result
            return result
        result = dict(result)
        for key in problems:
            self._check_ready(key, call)
            self._sources[key].held += 1
            result |= self._values.held(key)
        return result

    def _hold_all(self, call: str, error: Exception | None) -> Values:
        self.held = frozenset((self._name, *self._values.features))
        self._whole.note_failure(call, error, "Its last values are used instead.")
        result = dict(self._latest)
        for key in self._values.features:
            self._check_ready(key, call)
            result |= self._values.held(key)
        for key in self.held:
            self._sources[key].held += 1
        return result

    def _check_ready(self, key: str, call: str) -> None:
        if not self._values.has(key):
            problem = self._sources[key].last_error or self._whole.last_error
            raise SourceError(
                f"There is no {short(key)} yet ({problem or 'no answer'}).", source=key, call=call
            )


class GuardedTeleoperator(Guard[Teleoperator], TeleoperatorWrapper):
    """A teleoperator whose last action is repeated while it fails.

    Args:
        inner: the teleoperator.
        features: of the dataset, feature dict or schema; what it supplies of them is checked.
        policy: what to do about failures; default `SourcePolicy()`.
        clock: by which holding is timed; default the system's.
        fps: calls per second.
    """

    _name, _declares = ASK, "action_features"

    async def get_action(self) -> Values:
        """The device's action, or its last one with its name in `held`.

        Raises:
            SourceLostError: it failed for longer than its action may be repeated.
            SourceError: it failed and there is no action yet.
            Exception: what the device raised, if the policy says so.
        """
        return await self._read("get_action", self.inner.get_action)


class GuardedRobot(Guard[Robot], RobotWrapper):
    """A robot whose last observation is repeated, feature by feature, while it or a camera fails.

    While its teleoperator is held, nothing is sent, unless the policy says otherwise. Arguments that are not
    listed are those of `GuardedTeleoperator`.

    Args:
        inner: the robot.
        teleop: the guard of the teleoperator that drives it.
        finite: observed numbers must be finite.
    """

    _name, _declares = OBSERVE, "observation_features"

    def __init__(
        self,
        inner: Robot,
        features: Schema | Mapping[str, Mapping[str, Any]],
        policy: SourcePolicy | None = None,
        *,
        clock: Clock | None = None,
        fps: float = 30,
        teleop: GuardedTeleoperator | None = None,
        finite: bool = False,
    ) -> None:
        self._finite = finite
        super().__init__(inner, features, policy, clock=clock, fps=fps)
        self._teleop = teleop
        self._sending = self._source(SEND)
        self._sent: Values | None = None

    async def get_observation(self) -> Values:
        """The device's observation, with the last good value of failed sources; `held` names these.

        Raises:
            SourceLostError: a source failed for longer than its value may be repeated.
            SourceError: a source failed and has no value yet.
            Exception: what the device raised, if the policy says so.
        """
        return await self._read("get_observation", self.inner.get_observation)

    async def send_action(self, action: Values) -> Any:
        """Send an action, unless it is an old one or the device has not returned from an earlier call.

        Returns:
            The action that the device reports as sent; if none was sent, the last one that was.

        Raises:
            SourceLostError: it has failed for too long.
            Exception: what the device raised, if the policy says so.
        """
        if self._teleop is not None and self._teleop.held and not self.policy.resend:
            return self._not_sent(action)
        try:
            sent = await self._ask(self._sending, "send_action", self.inner.send_action, action, fresh=True)
        except Exception as error:
            if self.policy.on_error == "raise":
                raise
            self._sending.note_failure("send_action", error, "The robot gets no actions.")
            return self._not_sent(action)
        if sent is BUSY:
            self._sending.note_failure("send_action", None, "The robot gets no actions.")
            return self._not_sent(action)
        self._sending.note_well()
        self._sent = dict(sent if isinstance(sent, Mapping) else action)
        return sent

    def _not_sent(self, action: Values) -> Values:
        self._sending.held += 1
        self.held |= {SEND}
        return action if self._sent is None else self._sent


async def release(device: Robot | Teleoperator, name: str) -> bool:
    """Disconnect a device, waiting for it no longer than `RELEASE_S` of real time. Cancelling waits too.

    Returns:
        False when it did not return.

    Raises:
        Exception: what it raised.
    """
    work = bounded(device.disconnect(), f"aiorecord-{name}-disconnect", RELEASE_S)
    return await finished(UncancellableTask(work, name=f"aiorecord-{name}-release"))
