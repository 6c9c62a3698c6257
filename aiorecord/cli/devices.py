"""Devices on the command line: parses their flags, makes them, and reports slow ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import AiorecordError, ConfigError
from ..flags.flag_names import HELP_ALL, spelled
from ..lerobot.drivers import device_flags as lerobot_flags
from ..printable import error_text
from ..robots import (
    ROBOTS,
    TELEOPERATORS,
    Robot,
    SimRobot,
    SlowCall,
    Teleoperator,
    ThreadedRobot,
    ThreadedTeleoperator,
)
from ..robots.faults import FaultyRobot, FaultyTeleoperator
from ..robots.guarding.sent_action import recording_sent_action
from ..robots.schema import dataset_features
from .flag_help import asked_for
from .output import complain, say
from .parse_flags import parse_flags
from .record_config import RobotChoice, TeleopChoice

REGISTRIES: dict[str, Any] = {"robot": RobotChoice, "teleop": TeleopChoice}


def parse_device_flags[T](
    kind: type[T],
    argv: Sequence[str],
    *,
    prog: str,
    examples: str,
    fields: Sequence[str] = ("robot", "teleop"),
    needed: Mapping[str, str] | None = None,
    common: Sequence[str] = (),
) -> T | int:
    """Parse a command line that chooses devices, lerobot's included; see `parse_flags`.

    Args:
        kind: the dataclass of flags.
        argv: the arguments.
        prog: the program's name for usage lines.
        examples: the first part of ``--help``.
        fields: which of ``robot`` and ``teleop`` the command has.
        needed: as of `parse_flags`.
        common: as of `parse_flags`.
    """
    argv = spelled(argv, lerobot_flags.looked_for(fields))
    registries = {field: REGISTRIES[field] for field in fields}
    asked = lerobot_flags.asked_types(argv, fields)
    foreign = [name for field, name in asked.items() if name not in registries[field].get_known_choices()]
    if foreign and lerobot_flags.is_installed() and sys.stderr.isatty():
        say(f"loading lerobot for {', '.join(foreign)} ...", file=sys.stderr)
    try:
        arguments = lerobot_flags.prepare(argv, registries)
    except ConfigError as error:
        print_error(error, prog)
        say(f"Try `{prog} --help`.", file=sys.stderr)
        return 2
    flags = parse_flags(kind, arguments, prog=prog, examples=examples, needed=needed, common=common)
    if flags == 0:  # --help
        say(flush=True)  # the following imports lerobot, which takes seconds
        everything = asked_for(argv) == "all"
        lines = lerobot_flags.help_lines(fields) if everything else lerobot_flags.help_hint(prog, HELP_ALL)
        say("\n".join(lines))
    return flags


def print_error(error: AiorecordError, prog: str = "aiorecord") -> None:
    """Print an error, its notes, and the errors before it, on standard error."""
    complain(error, prog)
    for note in getattr(error, "__notes__", ()):
        say(f"  {error_text(note)}", file=sys.stderr)
    earlier = error.__context__
    while earlier is not None:
        # An error raised while another was being handled, such as while disconnecting after it.
        if isinstance(earlier, AiorecordError) and earlier is not error.__cause__:
            say(f"  before that: {error_text(earlier)}", file=sys.stderr)
        earlier = earlier.__context__


class CommandDevices:
    """The devices of one run of a command.

    Args:
        robot: the robot's flags.
        teleop: the teleoperator's flags, None if the command has none.
        use_videos: False stores cameras as images.
        record_sent_action: record what `send_action` returned.
        feedback_first: see `aiorecord.lerobot.drivers.lerobot_devices.TeleoperatorDriver`.
        slow_call_s: calls of lerobot drivers that take longer are reported.

    Attributes:
        robot: not connected yet.
        teleop: not connected yet, or None.
        features: of a dataset that records them.

    Raises:
        ConfigError: a device cannot be made as configured.
    """

    def __init__(
        self,
        robot: Any,
        teleop: Any,
        *,
        use_videos: bool = True,
        record_sent_action: bool = False,
        feedback_first: bool = False,
        slow_call_s: float = 1.0,
    ) -> None:
        self.robot: Robot
        self.teleop: Teleoperator | None
        self.features: dict[str, Any]
        self._driven: tuple[ThreadedRobot | ThreadedTeleoperator, ...] = ()
        self._told: dict[int, SlowCall | None] = {}
        own_robot = _own(robot, RobotChoice, ROBOTS)
        own_teleop = _own(teleop, TeleopChoice, TELEOPERATORS)
        if own_robot is not None and (own_teleop is not None or teleop is None):
            self.robot, self.teleop = own_robot, own_teleop
            if own_teleop is not None and record_sent_action:
                self.robot, self.teleop = recording_sent_action(own_robot, own_teleop)
            acting = self.teleop if self.teleop is not None else self.robot
            self.features = dataset_features(
                self.robot.observation_features, acting.action_features, use_videos
            )
            return
        from ..lerobot.drivers.lerobot_devices import make_devices

        made = make_devices(
            own_robot if own_robot is not None else robot,
            own_teleop if own_teleop is not None else teleop,
            use_videos=use_videos,
            record_sent_action=record_sent_action,
            feedback_first=feedback_first,
            call_timeout_s=slow_call_s,
        )
        self.robot, self.teleop, self.features = made.robot, made.teleop, made.features
        self._driven = made.driven

    def slow_calls(self) -> list[str]:
        """A line for each driver call that took longer than its limit, and was not reported yet."""
        lines = []
        for device in self._driven:
            calls = list(device.slow_calls)
            last = self._told.get(id(device))
            start = next((i + 1 for i in reversed(range(len(calls))) if calls[i] is last), 0)
            self._told[id(device)] = calls[-1] if calls else last
            source = "robot" if isinstance(device, ThreadedRobot) else "teleop"
            lines += [
                f"slow: {source} {device.name}: {c.call}() took {c.seconds:.2f} s" for c in calls[start:]
            ]
        return lines


def _own(choice: Any, registry: Any, classes: Mapping[str, tuple[type[Any], type[Any]]]) -> Any | None:
    """The device if it is one of aiorecord's own; None if it is lerobot's."""
    if not isinstance(choice, registry):
        return None
    device = classes[registry.get_choice_name(type(choice))][1](choice)
    if isinstance(device, SimRobot):
        device.prepare()  # moves nothing, so it need not wait until everything else is known to work
    if faults := getattr(choice, "faults", None):
        return FaultyRobot(device, faults) if registry is RobotChoice else FaultyTeleoperator(device, faults)
    return device
