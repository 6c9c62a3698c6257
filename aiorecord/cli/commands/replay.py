"""`aiorecord replay`: play the actions of a recorded episode on a robot."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ...clock import SystemClock, Ticker
from ...errors import AiorecordError, ConfigError
from ...lerobot.drivers import device_flags as lerobot_flags
from ...monitor.units import time_text
from ...options import check_repo_id, resolve_root
from ...robots.connecting import connected
from ...robots.replay.recorded_dataset import ReplayDataset
from ...robots.schema import ACTION
from ...system.tasks import beside
from ...system.threads import run_in_thread
from ..devices import CommandDevices, parse_device_flags, print_error
from ..keys import reading_keys
from ..loop_view import LoopView
from ..output import say
from ..record_config import RobotChoice
from ..sounds import Speaker
from ..stop_signals import StoppableRun
from .teleoperate import named_numbers

EXAMPLES = """examples:
  # a dataset of `aiorecord record`, on the simulated arm
  aiorecord replay --robot.type=sim --dataset.repo_id=demo/pick-cube \\
      --dataset.root=data/pick-cube --dataset.episode=0

  # on an arm (needs lerobot); a dataset that is not on this machine is downloaded
  aiorecord replay --robot.type=so101_follower --robot.port=/dev/ttyACM0 \\
      --robot.id=black --dataset.repo_id=me/pick-cube --dataset.episode=0

Esc, q or Ctrl-C stops. exit codes: 0 stopped or done, 1 the robot failed, 2 wrong usage."""

PROG = "aiorecord replay"
NEEDED = {
    "--robot.type=sim": "the robot: sim, or one of lerobot's",
    "--dataset.repo_id=demo/pick-cube": "the dataset's name",
    "--dataset.episode=0": "the episode, counted from 0",
}
AGAIN = "The same command plays the episode from its first action."
COMMON = ("--dataset.root", "--play_sounds", "--config_path")


@dataclass
class ReplayDatasetFlags:
    """Which episode (`--dataset.*`)."""

    # Name of the dataset, 'name' or 'user/name'.
    repo_id: str
    # The episode to play.
    episode: int
    # Folder of the dataset. Default: $HF_LEROBOT_HOME/repo_id.
    root: str | None = None
    # No effect, as in lerobot: an episode is played at its recorded rate.
    fps: int = 30


@dataclass
class ReplayFlags:
    """`aiorecord replay`: play the actions of a recorded episode on a robot."""

    # The robot; --robot.type selects it.
    robot: RobotChoice
    dataset: ReplayDatasetFlags
    # Speak announcements, if the machine has a speech program.
    play_sounds: bool = True


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    flags = parse_device_flags(
        ReplayFlags, argv, prog=PROG, examples=EXAMPLES, fields=("robot",), needed=NEEDED, common=COMMON
    )
    if isinstance(flags, int):
        return flags
    try:
        return asyncio.run(ReplayCommand(flags).run())
    except AiorecordError as error:
        print_error(error)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        say(f"Stopped before anything was played. {AGAIN}")
        return 0


class ReplayCommand:
    """One run of the command.

    Args:
        flags: as parsed.
    """

    def __init__(self, flags: ReplayFlags) -> None:
        self.flags = flags
        self._run = StoppableRun()
        self._played = 0
        self._view = LoopView("live" if sys.stdout.isatty() else "plain", "replaying")

    async def run(self) -> int:
        """Play the episode; returns the exit code.

        Raises:
            ConfigError: there is no such episode, or it is not for this robot.
            SourceError: the robot failed, and is disconnected; or a file of the dataset is damaged.
        """
        flags = self.flags.dataset
        dataset = await run_in_thread(open_episode, flags.repo_id, flags.root, flags.episode)
        fps = int(dataset.fps or 0)
        if fps < 1:
            raise ConfigError(f"The dataset {dataset.root} does not say its rate.", option="dataset.repo_id")
        if isinstance(self.flags.robot, RobotChoice) and hasattr(self.flags.robot, "fps"):
            self.flags.robot.fps = fps
        devices = CommandDevices(self.flags.robot, None)
        names = check_actions(dataset, devices)
        rows = await run_in_thread(_read_actions, dataset)
        await self._run.run(self._play(devices, rows, names, fps))
        for line in self._ending(len(rows), fps):
            say(line)
        return 0

    def _ending(self, total: int, fps: int) -> list[str]:
        """What was played, and how to continue if that is not all."""
        late = self._run.ticker.lateness.summary() if self._played and self._run.ticker is not None else None
        played = f"played {self._played} of {total} actions of episode {self.flags.dataset.episode}"
        times = f"{self._played / fps:.1f} of {total / fps:.1f} s"
        if late:
            times += f", late p99 {late['p99_ms']:.1f} ms, {late['missed']} ticks missed"
        if self._played == total:
            return [f"{played}: {times}"]
        return [f"Stopped: {played}: {times}", f"The robot is disconnected. {AGAIN}"]

    async def _play(
        self, devices: CommandDevices, rows: list[dict[str, Any]], names: list[str] | None, fps: int
    ) -> None:
        robot, clock, speaker = devices.robot, SystemClock(), Speaker(self.flags.play_sounds)
        try:
            async with beside(speaker.run(), "aiorecord-speaker"), connected(robot, None):
                speaker.say("Replaying episode")
                ticker = self._run.ticker = Ticker(clock, fps)
                with self._view, reading_keys(self._run.command, self._view.terminal):
                    for row in rows:
                        try:
                            await anext(ticker)
                        except StopAsyncIteration:  # stopped by a signal or a key
                            self._view.line("Stopping: the robot is being disconnected.")
                            return
                        await robot.get_observation()  # processors may need the observation, as in lerobot
                        action = (
                            row if names is None else dict(zip(names, map(float, row[ACTION]), strict=True))
                        )
                        await robot.send_action(action)
                        self._played += 1
                        if self._view.is_due(ticker, clock.now_ns()):
                            self._show(ticker, len(rows), named_numbers(action, devices.features), fps)
                        for line in devices.slow_calls():
                            self._view.line(line)
        finally:
            clock.close()

    def _show(self, ticker: Ticker, total: int, sent: list[tuple[str, float]], fps: int) -> None:
        facts = [
            f"episode {self.flags.dataset.episode}",
            f"{self._played} of {total} actions",
            f"{time_text((total - self._played) / fps)} left",
            f"at worst {ticker.lateness.counts()['worst_ms']:.1f} ms late",
        ]
        self._view.show(facts, self._played / total, sent)


def open_episode(repo_id: str, root: str | None, episode: int) -> ReplayDataset:
    """Open one episode of a dataset; download it if it is not here and lerobot is installed. Blocking.

    Raises:
        ConfigError: there is no such dataset or episode.
    """
    folder = resolve_root(check_repo_id(repo_id), root)
    if not (folder / "meta" / "info.json").is_file() and lerobot_flags.is_installed():
        from ...lerobot.dropin.download import download_episode

        say(f"{folder} holds no dataset; downloading {repo_id} ...", file=sys.stderr)
        folder = download_episode(repo_id, root, episode)
    return ReplayDataset(folder, [episode])


def check_actions(dataset: ReplayDataset, devices: CommandDevices) -> list[str] | None:
    """Check that the recorded actions are for this robot.

    Returns:
        The names of the action's elements, to be sent one by one; None to send the vector.

    Raises:
        ConfigError: there are no actions, or they have other names or another size than the robot's.
    """
    if ACTION not in dataset.schema.columns:
        raise ConfigError(f"The dataset {dataset.root} has no {ACTION!r}.", option="dataset.repo_id")
    recorded = dataset.features(ACTION)[ACTION]
    wanted = devices.features.get(ACTION)
    if wanted is None:  # the robot accepts any action
        return None
    names, known = recorded["names"], wanted["names"]
    if isinstance(names, list | tuple) and isinstance(known, list | tuple) and known:
        if foreign := [name for name in names if name not in known]:
            raise ConfigError(
                f"The episode's actions ({', '.join(foreign)}) are not for the robot {devices.robot.name}, "
                f"which takes {', '.join(known)}.",
                option="dataset.episode",
            )
        return list(names)
    if tuple(recorded["shape"]) != tuple(wanted["shape"]):
        raise ConfigError(
            f"The episode's actions have shape {tuple(recorded['shape'])}, those of the robot "
            f"{devices.robot.name} {tuple(wanted['shape'])}.",
            option="dataset.episode",
        )
    return None


def _read_actions(dataset: ReplayDataset) -> list[dict[str, Any]]:
    with contextlib.closing(dataset.endless_rows([ACTION])) as rows:
        return list(islice(rows, dataset.episodes[0].length))
