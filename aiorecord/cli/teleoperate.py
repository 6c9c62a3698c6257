"""`aiorecord teleoperate`: move a robot with a teleoperator; nothing is recorded."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..clock import SystemClock, Ticker
from ..errors import AiorecordError, ConfigError
from ..monitor.consoles import PlainConsole
from ..options import check_number
from .devices import CommandDevices, parse_device_flags, print_error
from .output import say
from .record_config import RobotChoice, TeleopChoice
from .signals import StoppableRun
from .viewing import viewing

EXAMPLES = """examples:
  # the simulated arm, for five seconds
  aiorecord teleoperate --robot.type=sim --teleop.type=sim --teleop_time_s=5

  # a follower and its leader (needs lerobot)
  aiorecord teleoperate --robot.type=so101_follower --robot.port=/dev/ttyACM0 \\
      --robot.id=black --teleop.type=so101_leader --teleop.port=/dev/ttyACM1 \\
      --teleop.id=blue

Ctrl-C stops. exit codes: 0 stopped or done, 1 a device failed, 2 wrong usage."""

PROG = "aiorecord teleoperate"
NEEDED = {
    "--robot.type=sim": "the robot: sim, replay, or one of lerobot's",
    "--teleop.type=sim": "the teleoperator that moves it, likewise",
}
COMMON = ("--fps", "--teleop_time_s", "--display_data", "--display", "--config_path")
REFRESH_S = 0.25
PLAIN_EVERY_S = 5.0


@dataclass
class TeleoperateFlags:
    """`aiorecord teleoperate`: move a robot with a teleoperator; nothing is recorded."""

    # The teleoperator; --teleop.type chooses.
    teleop: TeleopChoice
    # The robot; --robot.type chooses.
    robot: RobotChoice
    # Turns of the loop per second.
    fps: int = 60
    # Stop after this many seconds; unset: only when asked to.
    teleop_time_s: float | None = None
    # Show cameras and states in a viewer (needs the extra 'viz').
    display_data: bool = False
    # The viewer: rerun or foxglove.
    display_mode: str = "rerun"
    # Address of the viewer; unset: on this machine.
    display_ip: str | None = None
    # Its port.
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
        return 0


def check_flags(flags: TeleoperateFlags, *, terminal: bool) -> None:
    """Fill in what depends on the surroundings and check what draccus cannot.

    Raises:
        ConfigError: a flag that cannot work.
    """
    check_number("fps", flags.fps, least=1)
    check_number("slow_call_s", flags.slow_call_s, above=0)
    if flags.teleop_time_s is not None:
        check_number("teleop_time_s", flags.teleop_time_s, above=0)
    flags.display = flags.display or ("live" if terminal else "plain")
    if flags.display not in ("live", "plain", "none"):
        raise ConfigError(f"--display is live, plain or none, not {flags.display!r}.", option="display")
    for device in (flags.robot, flags.teleop):
        # The simulated and replayed ones step once per turn.
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
        self._view = _View(flags.display or "plain", flags.fps)

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
        await self._run.run(self._teleoperate(devices), "aiorecord-teleoperate")
        if self._run.ticker is not None and self.flags.display != "none":
            late = self._run.ticker.lateness.summary()
            say(
                f"teleoperated {time.monotonic() - started_s:.1f} s: {late['ticks']} turns, late p99 "
                f"{late['p99_ms']} ms, max {late['max_ms']} ms, {late['missed']} missed"
            )
        return 0

    async def _teleoperate(self, devices: CommandDevices) -> None:
        robot, teleop = devices.robot, devices.teleop
        assert teleop is not None
        clock = SystemClock()
        try:
            async with viewing(self.flags, "teleoperation") as viewer, devices.connected():
                ticker = self._run.ticker = Ticker(clock, self.flags.fps, self.flags.teleop_time_s)
                with self._view:
                    async for _ in ticker:
                        observation = await robot.get_observation()
                        action = await teleop.get_action()
                        await robot.send_action(action)
                        if viewer is not None:
                            viewer.show(observation, action, devices.features)
                        self._view.show(action, ticker, clock.now_ns())
                        for line in devices.slow_calls():
                            self._view.line(line)
        finally:
            clock.close()


class _View:
    """What the loop does, on the terminal; drawn when there is time left before the next turn."""

    def __init__(self, kind: str, fps: int) -> None:
        self._kind = kind
        self._fps = fps
        self._live: Live | None = None
        if kind == "live":
            self._live = Live(console=PlainConsole(file=sys.stdout), auto_refresh=False, transient=True)
        self._next_s = 0.0
        self._cost_s = 0.005

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.__enter__()

    def __exit__(self, *exception: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*exception)

    def line(self, text: str) -> None:
        """Print a line."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        elif self._kind == "plain":
            say(text, flush=True)

    def show(self, action: Mapping[str, Any], ticker: Ticker, now_ns: int) -> None:
        """Show the action and the rate, if it is time to and there is time."""
        now_s = time.monotonic()
        slack_s = (ticker.next_deadline_ns - now_ns) / 1e9
        if (
            self._kind == "none"
            or len(ticker.lateness) < 2
            or now_s < self._next_s
            or slack_s < 2 * self._cost_s
        ):
            return
        turns = len(ticker.lateness) - 1  # the first one is due at once
        rate = turns * 1e9 / max(now_ns - ticker.start_ns, 1)
        late_ms, _ = ticker.lateness.recent()
        text = f"{rate:.1f} Hz of {self._fps}, {late_ms:.1f} ms late at worst"
        if self._live is None:
            self._next_s = now_s + PLAIN_EVERY_S
            self.line(f"[teleoperating]  {text}")
            return
        self._next_s = now_s + REFRESH_S
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("sent")
        table.add_column("", justify="right")
        for name, value in _numbers(action):
            table.add_row(name, f"{value:9.2f}")
        self._live.update(Group(Text(text), table, Text("Ctrl-C stops", style="dim")), refresh=True)
        self._cost_s = max(time.monotonic() - now_s, 0.9 * self._cost_s)


def _numbers(action: Mapping[str, Any]) -> list[tuple[str, float]]:
    rows = []
    for name, value in action.items():
        values = np.asarray(value).ravel()
        if values.dtype.kind in "biuf":
            names = [name] if len(values) == 1 else [f"{name}[{i}]" for i in range(len(values))]
            rows += [(n, float(v)) for n, v in zip(names, values, strict=True)]
    return rows
