"""Runs LeRobot's robots and teleoperators on the event loop.

Each driver runs in one thread of its own (`aiorecord.robots.blocking.threaded`), together with the processors
around its calls. The order of calls, and what is recorded of each, follow `record_loop` of lerobot 0.6.1
(`lerobot/scripts/lerobot_record.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack, overload

import numpy as np

from ...errors import ConfigError
from ...robots.blocking.threaded import ThreadedRobot, ThreadedTeleoperator
from ...robots.guarding.sent_action import recording_sent_action
from ...robots.protocols import Features, Robot, Teleoperator, Values
from ...robots.schema import ACTION, dataset_features
from . import release
from .frame_times import CameraTimes
from .interrupt import InterruptibleCall
from .processors import Processors, combined, processed_features, recorded_actions

CALL_TIMEOUT_S = 1.0
"""Driver calls that take longer than this many seconds are reported."""

CONNECT_TIMEOUT_S = 120.0
"""Connecting that takes longer than this is reported; calibrating an arm takes a minute or two."""

FEEDBACK_ROBOTS = ("unitree_g1",)
"""Robots whose observations lerobot sends to the teleoperator as feedback."""


@dataclass(frozen=True)
class Devices:
    """The devices and features for a session, made by `make_devices`.

    Attributes:
        robot: for `Session`, `Recorder.record` or `control_step`.
        teleop: likewise; None if there is none.
        features: of the dataset that records them.
        driven: those of the two that run in a thread, with their `slow_calls` and `timings`.
    """

    robot: Robot
    teleop: Teleoperator | None
    features: dict[str, Any]
    driven: tuple[ThreadedRobot | ThreadedTeleoperator, ...]


@dataclass(frozen=True)
class TeleoperatedDevices(Devices):
    """`Devices` whose teleoperator is not None, for type checkers."""

    teleop: Teleoperator


class _Seen:
    """The robot's latest raw observation, for the action pipelines and the feedback."""

    observation: dict[str, Any] | None = None


class RobotDriver:
    """A lerobot `Robot` with its processors, as a `BlockingRobot`. Every method runs in the robot's thread.

    Args:
        robot: the lerobot robot.
        processors: the pipelines, resolved.
        seen: shared with the teleoperator's driver.
        action_names: the order of a vector that comes as ``action``; default the robot's own.
    """

    def __init__(
        self,
        robot: Any,
        processors: Processors,
        seen: _Seen,
        action_names: Sequence[str] | None = None,
    ) -> None:
        self.robot = robot
        self._processors = processors
        self._seen = seen
        self._names = list(action_names) if action_names is not None else list(robot.action_features)
        self.connecting = InterruptibleCall()
        self._camera_times = CameraTimes(robot)
        self.observation_features: Features = processed_features(
            processors.robot_observation, observation=dict(robot.observation_features)
        )
        self.action_features: Features = processed_features(None, action=dict(robot.action_features))

    @property
    def name(self) -> str:
        """The robot's type, as lerobot stores it."""
        return str(self.robot.name)

    @property
    def is_connected(self) -> bool:
        """Whether the driver reports that it is connected."""
        return bool(self.robot.is_connected)

    def connect(self) -> None:
        """Connect, and calibrate if the driver requires it: it then asks on the terminal."""
        self.connecting.run(self.robot.connect)

    def disconnect(self) -> None:
        """Switch torque off and close everything, also what the driver's own `disconnect` leaves open."""
        self._seen.observation = None
        release.disconnect(self.robot)

    def get_observation(self) -> Values:
        """Observe, and run the observation pipeline."""
        raw = self.robot.get_observation()
        self._seen.observation = raw
        self._camera_times.observed(raw)
        observation: Values = self._processors.robot_observation(raw)
        return observation

    def frame_times_ns(self) -> Mapping[str, int]:
        """When the cameras took the images of the newest observation; see `device_reports`."""
        return self._camera_times.times_ns

    def send_action(self, action: Values, /) -> Values:
        """Run the action pipeline, and send; returns the action that the driver reports as sent."""
        processed = self._processors.robot_action((self._flat(action), self._seen.observation))
        sent: Values = self.robot.send_action(processed)
        return sent

    def _flat(self, action: Values) -> Values:
        """Convert the vector of aiorecord's own teleoperators to one number per name, as drivers need it."""
        if set(action) != {ACTION}:
            return action
        values = np.asarray(action[ACTION]).ravel()
        if len(values) != len(self._names):
            raise ValueError(f"the action has {len(values)} numbers, the robot takes {len(self._names)}")
        return dict(zip(self._names, (float(value) for value in values), strict=True))


class TeleoperatorDriver:
    """A lerobot `Teleoperator`, or LeKiwi's arm and keyboard, with its processor: a `BlockingTeleoperator`.

    Args:
        teleops: the lerobot teleoperators.
        processors: the pipelines, resolved.
        seen: shared with the robot's driver.
        features: of the actions, as recorded.
        robot: the lerobot robot it drives; None if that is not lerobot's.
        feedback_first: send feedback before asking for an action, as `lerobot-teleoperate` does; the record
            loop sends it after.
    """

    def __init__(
        self,
        teleops: Sequence[Any],
        processors: Processors,
        seen: _Seen,
        features: Features,
        robot: Any | None,
        *,
        feedback_first: bool = False,
    ) -> None:
        self.teleops = list(teleops)
        self._processors = processors
        self._seen = seen
        self._robot = robot
        self._feedback = robot is not None and robot.name in FEEDBACK_ROBOTS and len(self.teleops) == 1
        self._feedback_first = feedback_first
        self.connecting = InterruptibleCall()
        self.action_features = features

    @property
    def name(self) -> str:
        """The teleoperators' types."""
        return "+".join(str(teleop.name) for teleop in self.teleops)

    @property
    def is_connected(self) -> bool:
        """Whether the drivers report that they are connected."""
        return all(teleop.is_connected for teleop in self.teleops)

    def connect(self) -> None:
        """Connect each, and calibrate those that require it: they then ask on the terminal."""
        for teleop in self.teleops:
            self.connecting.run(teleop.connect)

    def disconnect(self) -> None:
        """Disconnect each; the first error is raised after all were tried."""
        errors: list[Exception] = []
        for teleop in self.teleops:
            try:
                release.disconnect(teleop)
            except Exception as error:  # noqa: BLE001 - the others must be released too
                errors.append(error)
        if errors:
            raise errors[0]

    def get_action(self) -> Values:
        """Get the action, process it, and send feedback as lerobot does."""
        seen = self._seen.observation
        if self._feedback and self._feedback_first:
            self.teleops[0].send_feedback(seen)
        asked = self._ask()
        if self._feedback and not self._feedback_first:
            self.teleops[0].send_feedback(seen)
        action: Values = self._processors.teleop_action((asked, seen))
        return action

    def _ask(self) -> Values:
        if len(self.teleops) == 1:
            action: Values = self.teleops[0].get_action()
            return action
        arm, keyboard = self.teleops
        moved = {f"arm_{key}": value for key, value in arm.get_action().items()}
        assert self._robot is not None
        base: Values = self._robot._from_keyboard_to_base_action(keyboard.get_action())
        return moved | base


class LeRobotRobot(ThreadedRobot):
    """A lerobot robot, awaited. Made by `make_devices`."""

    blocking: RobotDriver

    async def connect(self) -> None:
        """As `ThreadedRobot.connect`; cancelling ends it, also a calibration that waits for Enter."""
        await _interruptible(super().connect(), self.blocking.connecting)


class LeRobotTeleoperator(ThreadedTeleoperator):
    """A lerobot teleoperator, or LeKiwi's two, awaited. Made by `make_devices`."""

    blocking: TeleoperatorDriver

    async def connect(self) -> None:
        """As `ThreadedTeleoperator.connect`; cancelling ends it, as in `LeRobotRobot`."""
        await _interruptible(super().connect(), self.blocking.connecting)


async def _interruptible(connect: Awaitable[None], call: InterruptibleCall) -> None:
    try:
        await connect
    except asyncio.CancelledError:
        call.interrupt()
        raise


class _DeviceOptions(TypedDict, total=False):
    """The keywords of `make_devices`."""

    processors: Processors | None
    use_videos: bool
    record_sent_action: bool
    feedback_first: bool
    call_timeout_s: float
    connect_timeout_s: float


@overload
def make_devices(robot: Any, teleop: None = None, **options: Unpack[_DeviceOptions]) -> Devices: ...
@overload
def make_devices(robot: Any, teleop: object, **options: Unpack[_DeviceOptions]) -> TeleoperatedDevices: ...
def make_devices(
    robot: Any,
    teleop: Any = None,
    *,
    processors: Processors | None = None,
    use_videos: bool = True,
    record_sent_action: bool = False,
    feedback_first: bool = False,
    call_timeout_s: float = CALL_TIMEOUT_S,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Devices:
    """Put a robot and a teleoperator on the event loop, coupled by lerobot's pipelines.

    Args:
        robot: a lerobot `RobotConfig` or `Robot`, or a robot of aiorecord's own kind.
        teleop: a lerobot `TeleoperatorConfig` or `Teleoperator`, or one of aiorecord's own kind; for LeKiwi a
            list of an arm leader and a `KeyboardTeleop`, in any order; None for a robot alone.
        processors: lerobot pipelines, by default the identity. They are applied to lerobot devices.
        use_videos: False stores cameras as images.
        record_sent_action: record the action that `send_action` returned instead of the teleoperator's.
        feedback_first: see `TeleoperatorDriver`.
        call_timeout_s: driver calls that take longer are reported.
        connect_timeout_s: the same for connecting and disconnecting.

    Raises:
        ConfigError: a driver's dependency is not installed, a device cannot be made as configured, or the
            two do not match.
    """
    resolved = (processors or Processors()).resolved()
    limits = {"call_timeout_s": call_timeout_s, "connect_timeout_s": connect_timeout_s}
    seen = _Seen()
    driver = _make_robot(robot)
    leaders = _make_teleops(teleop)
    if len(leaders) > 1:
        leaders = _lekiwi_teleops(driver, leaders)

    acted = recorded_actions(resolved, driver, leaders, teleop, use_videos)
    ours: Robot = robot
    driven: list[ThreadedRobot | ThreadedTeleoperator] = []
    if driver is not None:
        names = None if leaders or teleop is None else _vector_names(acted, driver)
        ours = LeRobotRobot(RobotDriver(driver, resolved, seen, names), **limits)
        driven.append(ours)
    asks: Teleoperator | None = teleop
    if leaders:
        leader = TeleoperatorDriver(leaders, resolved, seen, acted, driver, feedback_first=feedback_first)
        asks = LeRobotTeleoperator(leader, **limits)
        driven.append(asks)
    if record_sent_action and asks is not None:
        ours, asks = recording_sent_action(ours, asks)
        acted = dataset_features({}, asks.action_features, use_videos)
    observed = dataset_features(ours.observation_features, {}, use_videos)
    features = combined(acted, observed)
    if asks is None:
        return Devices(ours, None, features, tuple(driven))
    return TeleoperatedDevices(ours, asks, features, tuple(driven))


def _make_robot(robot: Any) -> Any | None:
    """The lerobot robot; None if it is not lerobot's."""
    from lerobot.robots import Robot as LeRobot
    from lerobot.robots import RobotConfig, make_robot_from_config

    if isinstance(robot, RobotConfig):
        return _made(make_robot_from_config, robot, "robot")
    return robot if isinstance(robot, LeRobot) else None


def _make_teleops(teleop: Any) -> list[Any]:
    """The lerobot teleoperators; none if it is not lerobot's."""
    from lerobot.teleoperators import Teleoperator as LeTeleoperator
    from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config

    made = []
    for each in teleop if isinstance(teleop, list | tuple) else [teleop]:
        if isinstance(each, TeleoperatorConfig):
            made.append(_made(make_teleoperator_from_config, each, "teleop"))
        elif isinstance(each, LeTeleoperator):
            made.append(each)
        elif isinstance(teleop, list | tuple):
            raise ConfigError(
                f"{each!r} is not a lerobot teleoperator; only those can be combined.", option="teleop"
            )
    return made


def _made(factory: Callable[[Any], Any], config: Any, field: str) -> Any:
    try:
        return factory(config)
    except Exception as error:  # drivers raise any type: for a missing SDK, a setting, a calibration file
        raise ConfigError(
            f"The {config.type} cannot be made: {type(error).__name__}: {error}", option=f"{field}.type"
        ) from error


def _lekiwi_teleops(robot: Any, teleops: Sequence[Any]) -> list[Any]:
    """The arm's leader and the keyboard, in this order (what lerobot accepts, and for LeKiwi only)."""
    from lerobot.teleoperators.keyboard import KeyboardTeleop
    from lerobot.teleoperators.koch_leader import KochLeader
    from lerobot.teleoperators.omx_leader import OmxLeader
    from lerobot.teleoperators.so_leader import SO100Leader, SO101Leader

    keyboards = [teleop for teleop in teleops if isinstance(teleop, KeyboardTeleop)]
    arms = [t for t in teleops if isinstance(t, SO100Leader | SO101Leader | KochLeader | OmxLeader)]
    if (
        len(teleops) != 2
        or len(keyboards) != 1
        or len(arms) != 1
        or getattr(robot, "name", "") != "lekiwi_client"
    ):
        raise ConfigError(
            "Several teleoperators work with the robot lekiwi_client only: a leader arm (SO-100, SO-101, "
            "Koch, OMX) and a keyboard.",
            option="teleop",
        )
    return [*arms, *keyboards]


def _vector_names(features: Mapping[str, Any], robot: Any) -> list[str]:
    """The names of the action vector of a teleoperator that is not lerobot's.

    Raises:
        ConfigError: they are not the robot's.
    """
    names = (features.get(ACTION) or {}).get("names") or []
    if set(names) != set(robot.action_features):
        raise ConfigError(
            f"The teleoperator gives {', '.join(names) or 'no named actions'}; the robot {robot.name} takes "
            f"{', '.join(robot.action_features)}.",
            option="teleop.type",
        )
    return list(names)
