"""The record loop: what the operator asks for decides what comes next.

`SessionMachine` is pure: phases and commands in, the next phase out. `Session` is the thin shell that runs
the robot through them. Commands mean what lerobot's keys mean: *end early* ends the episode or the reset;
*re-record* drops the running or the last episode and records it again after a reset; *stop* ends the
recording and keeps the running episode.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .clock import NS_PER_S, Ticker
from .episode import Episode
from .errors import ConfigError
from .recorder import Recorder
from .robots.base import Robot, Teleoperator
from .robots.step import control_step
from .saves import EpisodeSave


class Phase(enum.StrEnum):
    """What the session is doing."""

    CONNECTING = "connecting"
    RECORDING = "recording"
    RESETTING = "resetting"
    DRAINING = "saving"
    PACKING = "packing"
    UPLOADING = "uploading"
    DONE = "done"


class Command(enum.StrEnum):
    """What the operator can ask for."""

    END_EARLY = "end_early"
    RERECORD = "rerecord"
    STOP = "stop"


@dataclass(frozen=True)
class SessionPlan:
    """What to record.

    Attributes:
        task: what is being done, in words.
        num_episodes: episodes to keep.
        episode_time_s: seconds of each episode, unless ended early.
        reset_time_s: seconds between episodes to put things back, 0 for none.
    """

    task: str = ""
    num_episodes: int = 50
    episode_time_s: float = 60
    reset_time_s: float = 60

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be recorded."""
        if self.num_episodes < 1:
            raise ConfigError(
                f"num_episodes must be 1 or more, not {self.num_episodes}.", option="num_episodes"
            )
        if not self.episode_time_s > 0:
            raise ConfigError(
                f"episode_time_s must be above 0, not {self.episode_time_s}.", option="episode_time_s"
            )
        if not self.reset_time_s >= 0:
            raise ConfigError(
                f"reset_time_s must be 0 or more, not {self.reset_time_s}.", option="reset_time_s"
            )


class SessionMachine:
    """Decides what follows what. Pure.

    Attributes:
        phase: the present one.
        kept: episodes ended and kept so far.
        dropping: the running episode will be dropped when it ends.
        stopping: the session ends with this phase.
    """

    def __init__(self, plan: SessionPlan) -> None:
        self.plan = plan
        self.phase = Phase.CONNECTING
        self.kept = 0
        self.dropping = False
        self.stopping = False
        self._take_back = False

    @property
    def number(self) -> int:
        """Which episode of the session is recorded now or next, from 1."""
        return min(self.kept + 1 - self._take_back, self.plan.num_episodes)

    def connected(self) -> None:
        """Robot and teleoperator are ready."""
        self.phase = Phase.DRAINING if self.stopping else Phase.RECORDING

    def command(self, command: Command) -> bool:
        """Take a command.

        Returns:
            True when the running phase must end now.
        """
        if command is Command.STOP:
            self.stopping = True
            return True
        if self.phase is Phase.RECORDING:
            self.dropping = self.dropping or command is Command.RERECORD
            return True
        if self.phase is Phase.RESETTING:
            self._take_back = self._take_back or (command is Command.RERECORD and not self.dropping)
            return True
        return False

    def recorded(self, frames: int) -> bool:
        """The running episode ended.

        Returns:
            True to keep it, False to drop it (empty, or to be recorded again).
        """
        keep = frames > 0 and not self.dropping
        self.kept += keep
        finished = self.kept >= self.plan.num_episodes
        if self.stopping or (finished and keep):
            self.phase = Phase.DRAINING
        elif self.plan.reset_time_s > 0:
            self.phase = Phase.RESETTING
        else:
            self._next_episode()
        return keep

    def reset(self) -> bool:
        """The reset ended.

        Returns:
            True when the last episode must be taken back.
        """
        take_back = self._take_back and self.kept > 0
        self.kept -= take_back
        if self.stopping:
            self.phase = Phase.DRAINING
        else:
            self._next_episode()
        self._take_back = False
        return take_back

    def _next_episode(self) -> None:
        self.dropping = False
        self.phase = Phase.RECORDING


@dataclass
class EpisodeRecord:
    """What happened in one kept episode.

    Attributes:
        number: in the session, from 1.
        save: its save, with the outcome.
        frames: frames recorded.
        duration_s: seconds from the first frame to the last, plus one period.
        lateness: `Lateness.summary` of its ticks.
        dead_time_s: seconds from the last frame of the episode before it until the recorder was ready for
            its first frame, without the reset in between; None for the first.
        repeats: how often it was recorded again before it was kept.
    """

    number: int
    save: EpisodeSave
    frames: int
    duration_s: float
    lateness: dict[str, float | int]
    dead_time_s: float | None
    repeats: int


@dataclass
class SessionEvents:
    """What an application may listen to. Callbacks run on the event loop and must be quick.

    Attributes:
        on_phase: the phase changed.
        on_tick: a tick's work is done.
        on_frame: the robot moved: the frame, and whether it was recorded (False during resets). To be looked
            at, not changed.
        on_episode: an episode ended and is kept.
        on_dropped: an episode was dropped; its number.
    """

    on_phase: Callable[[Phase], None] = lambda phase: None
    on_tick: Callable[[Ticker], None] = lambda ticker: None
    on_frame: Callable[[dict[str, Any], bool], None] = lambda frame, recording: None
    on_episode: Callable[[EpisodeRecord], None] = lambda record: None
    on_dropped: Callable[[int], None] = lambda number: None


@dataclass
class Session:
    """Records a plan's episodes with a robot and a teleoperator.

    Attributes:
        recorder: open, and closed by its owner.
        robot: connected by `run`.
        teleop: connected by `run`.
        plan: what to record.
        events: callbacks.
        records: the kept episodes so far.
        dropped: episodes that were recorded again.
        ticker: the running phase's deadlines, None in between.
    """

    recorder: Recorder
    robot: Robot
    teleop: Teleoperator
    plan: SessionPlan
    events: SessionEvents = field(default_factory=SessionEvents)

    def __post_init__(self) -> None:
        self.machine = SessionMachine(self.plan)
        self.records: list[EpisodeRecord] = []
        self.dropped = 0
        self.ticker: Ticker | None = None
        self._last_frame_ns: int | None = None
        self._reset_ns = 0
        self._repeats = 0
        self._ending = False

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self.machine.phase

    def command(self, command: Command) -> None:
        """Take an operator's command; what it ends, ends before the next tick."""
        if self.machine.command(command):
            self._ending = True  # for a phase whose first tick is still to come
            if self.ticker is not None:
                self.ticker.end()

    async def run(self) -> list[EpisodeRecord]:
        """Connect, record, disconnect. Ended episodes are saved behind it; drain the recorder afterwards.

        Cancelling it disconnects, and keeps the running episode in staging.

        Returns:
            The kept episodes.

        Raises:
            SourceError: robot or teleoperator failed; the running episode stays in staging as interrupted.
            AiorecordError: what the recorder raises.
        """
        self.events.on_phase(self.phase)
        async with connected(self.robot, self.teleop):
            self.machine.connected()
            while self.phase in (Phase.RECORDING, Phase.RESETTING):
                self.events.on_phase(self.phase)
                await (self._record() if self.phase is Phase.RECORDING else self._reset())
        self.events.on_phase(self.phase)
        return self.records

    async def _record(self) -> None:
        number = self.machine.number
        episode = self.recorder.episode(self.plan.task, hold=True)
        async with episode:
            ready_ns = self.recorder.clock.now_ns()
            dead_ns = None if self._last_frame_ns is None else ready_ns - self._last_frame_ns - self._reset_ns
            ticker = await self._run_ticks(self.plan.episode_time_s, episode)
            keep = self.machine.recorded(episode.frames)
            self._ending = False
            if not keep:
                episode.discard()
        self._reset_ns = 0
        if episode.save is None:
            self.dropped += 1
            self._repeats += 1
            self.events.on_dropped(number)
            return
        record = EpisodeRecord(
            number=number,
            save=episode.save,
            frames=episode.frames,
            duration_s=episode.frames / self.recorder.fps,
            lateness=ticker.lateness.summary(),
            dead_time_s=None if dead_ns is None else dead_ns / NS_PER_S,
            repeats=self._repeats,
        )
        self._repeats = 0
        self.records.append(record)
        self.events.on_episode(record)

    async def _reset(self) -> None:
        started_ns = self.recorder.clock.now_ns()
        await self._run_ticks(self.plan.reset_time_s, None)
        take_back = self.machine.reset()
        self._ending = False
        if take_back:
            record = self.records.pop()
            await self.recorder.take_back(record.save)
            self.dropped += 1
            self._repeats = record.repeats + 1
            self.events.on_dropped(record.number)
        self._reset_ns = self.recorder.clock.now_ns() - started_ns

    async def _run_ticks(self, seconds: float, episode: Episode | None) -> Ticker:
        ticker = self.ticker = self.recorder.ticks(seconds)
        if self._ending:
            ticker.end()
        try:
            async for _ in ticker:
                frame = await control_step(self.robot, self.teleop, self.recorder.features)
                if episode is not None:
                    episode.add_frame(frame)
                    self._last_frame_ns = self.recorder.clock.now_ns()
                self.events.on_frame(frame, episode is not None)
                self.events.on_tick(ticker)
        finally:
            self.ticker = None
        return ticker


@asynccontextmanager
async def connected(robot: Robot, teleop: Teleoperator) -> AsyncIterator[None]:
    """Connect both, teleoperator first; disconnect both on the way out, robot first (lerobot's order).

    Both are let go of whatever happened, also when connecting failed.

    Raises:
        SourceError: one of them failed. An error while disconnecting is added as a note to one before it.
    """
    devices: tuple[Teleoperator | Robot, ...] = (teleop, robot)
    started: list[Teleoperator | Robot] = []
    try:
        for device in devices:
            started.append(device)
            await device.connect()
        yield
    except BaseException as error:
        for problem in await _disconnect(started):
            error.add_note(f"And while disconnecting: {problem}")
        raise
    for problem in await _disconnect(started):
        raise problem


async def _disconnect(devices: list[Teleoperator | Robot]) -> list[Exception]:
    """Disconnect each, last first; returns what went wrong."""
    problems: list[Exception] = []
    for device in reversed(devices):
        try:
            await device.disconnect()
        except Exception as error:  # noqa: BLE001 - the other devices must be let go of too
            problems.append(error)
    return problems
