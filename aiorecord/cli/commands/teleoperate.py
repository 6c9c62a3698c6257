"""`aiorecord teleoperate`: move a robot with a teleoperator; nothing is recorded."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...clock import SystemClock, Ticker
from ...errors import AiorecordError, ConfigError
from ...monitor.units import time_text
from ...options import check_number
from ...robots.connecting import connected
from ..devices import CommandDevices, parse_device_flags, print_error
from ..keys import reading_keys
from ..loop_view import LoopView
from ..output import say
from ..record_config import RobotChoice, TeleopChoice
from ..stop_signals import StoppableRun
from ..viewing import viewing

EXAMPLES = """examples:
  # the simulated arm, for five seconds
  aiorecord teleoperate --robot.type=sim --teleop.type=sim --teleop_time_s=5

  # a follower and its leader (needs lerobot)
  aiorecord teleoperate --robot.type=so101_follower --robot.port=/dev/ttyACM0 \\
      --robot.id=black --teleop.type=so101_leader --teleop.port=/dev/ttyACM1 \\
      --teleop.id=blue

Esc, q or Ctrl-C stops. exit codes: 0 stopped or done, 1 a device failed, 2 wrong usage."""

PROG = "aiorecord teleoperate"
STOPPED_EARLY = "Stopped before anything moved."
NEEDED = {
    "--robot.type=sim": "the robot: sim, replay, or one of lerobot's",
    "--teleop.type=sim": "the teleoperator that moves it, likewise",
}
COMMON = ("--fps", "--teleop_time_s", "--display_data", "--display", "--config_path")


@dataclass
class TeleoperateFlags:
    """`aiorecord teleoperate`: move a robot with a teleoperator; nothing is recorded."""

    # The teleoperator; --teleop.type selects it.
    teleop: TeleopChoice
    # The robot; --robot.type selects it.
    robot: RobotChoice
    # Loop steps per second.
    fps: int = 60
    # Stop after this many seconds; if unset, only on request.
    teleop_time_s: float | None = None
    # Show cameras and states in a viewer (needs the extra 'viz').
    display_data: bool = False
    # The viewer: rerun or foxglove.
    display_mode: str = "rerun"
    # Address of the viewer; this machine if unset.
    display_ip: str | None = None
    # Port of the viewer, or the port to serve on (Foxglove).
    display_port: int | None = None
    # Send JPEG instead of raw images to the viewer.
    display_compressed_images: bool = False
    # Report calls of a lerobot driver that take longer than this many seconds.
    slow_call_s: float = 1.0
    # live, plain or none; default: live on a terminal, else plain.
    display: str | None = None


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    flags = parse_device_flags(
        TeleoperateFlags, argv, prog=PROG, examples=EXAMPLES, needed=NEEDED, common=COMMON
    )
    if isinstance(flags, int):
        return flags
    try:
        check_flags(flags, terminal=sys.stdout.isatty())
        return asyncio.run(TeleoperateCommand(flags).run())
    except AiorecordError as error:
        print_error(error)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        say(STOPPED_EARLY)
        return 0


def check_flags(flags: TeleoperateFlags, *, terminal: bool) -> None:
    """Fill in defaults that depend on the environment, and check what draccus cannot.

    Raises:
        ConfigError: a flag has an unusable value.
    """
    check_number("fps", flags.fps, least=1)
    check_number("slow_call_s", flags.slow_call_s, above=0)
    if flags.teleop_time_s is not None:
        check_number("teleop_time_s", flags.teleop_time_s, above=0)
    flags.display = flags.display or ("live" if terminal else "plain")
    if flags.display not in ("live", "plain", "none"):
        raise ConfigError(f"--display is live, plain or none, not {flags.display!r}.", option="display")
    for device in (flags.robot, flags.teleop):
        # Simulated and replayed devices advance one step per turn.
        if isinstance(device, RobotChoice | TeleopChoice) and hasattr(device, "fps"):
            device.fps = flags.fps


class TeleoperateCommand:
    """One run of the command.

    Args:
        flags: checked flags.
    """

    def __init__(self, flags: TeleoperateFlags) -> None:
        self.flags = flags
        self._run = StoppableRun()
        self._view = LoopView(flags.display or "plain", "teleoperating")

    async def run(self) -> int:
        """Teleoperate until the time is over or a signal comes; returns the exit code.

        Raises:
            ConfigError: a device cannot be made as configured.
            SourceError: a device failed; both are disconnected.
        """
        devices = CommandDevices(
            self.flags.robot, self.flags.teleop, feedback_first=True, slow_call_s=self.flags.slow_call_s
        )
        started_s = time.monotonic()
        await self._run.run(self._teleoperate(devices))
        if self._run.ticker is None:
            say(STOPPED_EARLY)
        elif self.flags.display != "none":
            late = self._run.ticker.lateness.summary()
            say(
                f"teleoperated {time.monotonic() - started_s:.1f} s: {late['ticks']} turns, late p99 "
                f"{late['p99_ms']:.1f} ms, at worst {late['worst_ms']:.1f} ms, {late['missed']} missed"
            )
        return 0

    async def _teleoperate(self, devices: CommandDevices) -> None:
        robot, teleop = devices.robot, devices.teleop
        assert teleop is not None
        clock = SystemClock()
        try:
            async with viewing(self.flags, "teleoperation") as viewer, connected(robot, teleop):
                ticker = self._run.ticker = Ticker(clock, self.flags.fps, self.flags.teleop_time_s)
                with self._view, reading_keys(self._run.command, self._view.terminal):
                    async for _ in ticker:
                        observation = await robot.get_observation()
                        action = await teleop.get_action()
                        await robot.send_action(action)
                        if viewer is not None:
                            viewer.show(observation, action, devices.features)
                        if self._view.is_due(ticker, now_ns := clock.now_ns()):
                            self._show(ticker, now_ns, named_numbers(action, devices.features))
                        for line in devices.slow_calls():
                            self._view.line(line)
                    if self._run.stopped:
                        self._view.line("Stopping: robot and teleoperator are being disconnected.")
        finally:
            clock.close()

    def _show(self, ticker: Ticker, now_ns: int, sent: list[tuple[str, float]]) -> None:
        turns = len(ticker.lateness) - 1  # the first one is due at once
        rate = turns * 1e9 / max(now_ns - ticker.start_ns, 1)
        facts = [
            f"{rate:.1f} Hz of {self.flags.fps}",
            f"at worst {ticker.lateness.counts()['worst_ms']:.1f} ms late",
        ]
        share = None
        if self.flags.teleop_time_s is not None and ticker.seconds_left is not None:
            facts.append(f"{time_text(ticker.seconds_left)} left of {time_text(self.flags.teleop_time_s)}")
            share = 1 - ticker.seconds_left / self.flags.teleop_time_s
        self._view.show(facts, share, sent)


def named_numbers(
    action: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, float]]:
    """The numbers of an action, by the joint names if the features have them.

    Args:
        action: keyed as in a frame, or flat.
        features: the dataset's feature dict.
    """
    rows = []
    for key, value in action.items():
        values = np.asarray(value).ravel()
        if values.dtype.kind not in "biuf":
            continue
        names = features.get(key, {}).get("names")
        if not isinstance(names, list | tuple) or len(names) != len(values):
            names = [key] if len(values) == 1 else [f"{key}[{i}]" for i in range(len(values))]
        rows += [(str(name), float(number)) for name, number in zip(names, values, strict=True)]
    return rows
