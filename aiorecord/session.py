"""The record loop: what the operator asks for decides what comes next.

`SessionMachine` is pure: phases and commands in, the next phase out. `Session` is the thin shell that runs
the robot through them. Commands mean what lerobot's keys mean: *end early* ends the episode or the reset;
*re-record* drops the running or the last episode and records it again after a reset; *stop* ends the
recording and keeps the running episode.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .capture.episode import EpisodeCapture
from .clock import NS_PER_S, Ticker
from .episode import Episode
from .errors import ConfigError, EncodeError, SourceError, SourceLostError, StorageError
from .quality import QualityLimits
from .recorder import Recorder
from .robots.base import Robot, Teleoperator
from .robots.guards import TOLD_PER_S, HeldFrames, guarded, regain
from .robots.measured import frame_times, lap, must_copy
from .robots.policy import SourcePolicy, SourceStatus
from .robots.step import control_step
from .saving.saves import EpisodeSave, Stage


class Phase(enum.StrEnum):
    """What the session is doing."""

    CONNECTING = "connecting"
    RECORDING = "recording"
    RESETTING = "resetting"
    WAITING = "waiting"
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
        max_late_ms: flag an episode in which a deadline waited longer than this; None never does.
        max_repeats: flag an episode in which a camera repeated more frames than this; None never does.
    """

    task: str = ""
    num_episodes: int = 50
    episode_time_s: float = 60
    reset_time_s: float = 60
    max_late_ms: float | None = None
    max_repeats: int | None = None

    @property
    def limits(self) -> QualityLimits:
        """The two limits together."""
        return QualityLimits(self.max_late_ms, self.max_repeats)

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
        _ = self.limits  # checked by making them


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

    def wait(self) -> None:
        """The next episode cannot begin yet: there is too much to save."""
        self.phase = Phase.WAITING

    def waited(self) -> None:
        """It can begin, or the operator does not want it any more."""
        self.phase = Phase.DRAINING if self.stopping else Phase.RECORDING

    def recorded(self, frames: int, *, flagged: bool = False, lost: bool = False) -> bool:
        """The running episode ended.

        Args:
            frames: recorded in it.
            flagged: it exceeds a limit: a reset follows even the last one, in which it can be taken back.
            lost: a source was lost: it is brought back in a reset, also where the plan has none.

        Returns:
            True to keep it, False to drop it (empty, or to be recorded again).
        """
        keep = frames > 0 and not self.dropping
        self.kept += keep
        if self.stopping or (self._finished and keep and not (flagged and self.plan.reset_time_s > 0)):
            self.phase = Phase.DRAINING
        elif self.plan.reset_time_s > 0 or lost:
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
        if self.stopping or self._finished:
            self.phase = Phase.DRAINING
        else:
            self._next_episode()
        self._take_back = False
        return take_back

    @property
    def _finished(self) -> bool:
        return self.kept >= self.plan.num_episodes

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
        sources: what failed in it, see `HeldFrames.facts`; empty if nothing did.
        end_reason: what ended it, if it was neither the plan nor the operator.
        flags: what exceeds the plan's limits, in words. Frames that still waited for a camera's thread when
            the episode ended may add to it, see `SessionEvents.on_flagged`.
    """

    number: int
    save: EpisodeSave
    frames: int
    duration_s: float
    lateness: dict[str, float | int]
    dead_time_s: float | None
    repeats: int
    flags: list[str] = field(default_factory=list)
    sources: dict[str, Any] = field(default_factory=dict)
    end_reason: str | None = None


@dataclass
class SessionEvents:
    """What an application may listen to. Callbacks run on the event loop and must be quick.

    Attributes:
        on_phase: the phase changed.
        on_tick: a tick's work is done.
        on_frame: the robot moved: the frame, and whether it was recorded (False during resets). To be looked
            at, not changed.
        on_episode: an episode ended and is kept.
        on_flagged: an episode exceeds a limit of the plan (`EpisodeRecord.flags`). Called right after
            `on_episode`, and again if its last frames exceed another one.
        on_dropped: an episode was dropped; its number.
        on_source: a robot, teleoperator or camera failed, is lost, or is back: a line for the operator.
    """

    on_phase: Callable[[Phase], None] = lambda phase: None
    on_tick: Callable[[Ticker], None] = lambda ticker: None
    on_frame: Callable[[dict[str, Any], bool], None] = lambda frame, recording: None
    on_episode: Callable[[EpisodeRecord], None] = lambda record: None
    on_flagged: Callable[[EpisodeRecord], None] = lambda record: None
    on_dropped: Callable[[int], None] = lambda number: None
    on_source: Callable[[str], None] = lambda line: None


@dataclass
class Session:
    """Records a plan's episodes with a robot and a teleoperator.

    Both are guarded: what fails is held at its last good value for a while; then the running episode is ended
    and kept, and in the reset that follows the source is brought back. See `SourcePolicy`.

    Attributes:
        recorder: open, and closed by its owner.
        robot: connected by `run`; the guarded one, once the session is made.
        teleop: connected by `run`; likewise.
        plan: what to record.
        events: callbacks.
        policy: what to do about sources that fail.
        records: the kept episodes so far.
        dropped: episodes that were recorded again.
        ticker: the running phase's deadlines, None in between.
    """

    recorder: Recorder
    robot: Robot
    teleop: Teleoperator
    plan: SessionPlan
    events: SessionEvents = field(default_factory=SessionEvents)
    policy: SourcePolicy = field(default_factory=SourcePolicy)

    def __post_init__(self) -> None:
        self.machine = SessionMachine(self.plan)
        self._guards = guarded(
            self.robot,
            self.teleop,
            self.recorder.schema,
            self.policy,
            clock=self.recorder.clock,
            fps=self.recorder.fps,
            finite=self.recorder.options.nonfinite == "refuse",
        )
        for guard in self._guards.all:
            guard.on_change = self._tell
        self.robot, self.teleop = self._guards.robot, self._guards.teleop
        self._lost: SourceLostError | None = None
        self._held = HeldFrames(self._guards.all)
        self._stopped = asyncio.Event()
        self.records: list[EpisodeRecord] = []
        self.dropped = 0
        self.ticker: Ticker | None = None
        self._last_frame_ns: int | None = None
        self._reset_ns = 0
        self._repeats = 0
        self._ending = False
        self._frame_times: Callable[[], dict[str, int]] | None = None
        self._copy = True
        self._judged: EpisodeRecord | None = None  # ended; its last frames may still wait

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self.machine.phase

    def sources(self) -> list[SourceStatus]:
        """What happened to the robot, the teleoperator and each feature they supply. Cheap."""
        return self._guards.status()

    def command(self, command: Command) -> None:
        """Take an operator's command; what it ends, ends before the next tick."""
        if command is Command.STOP:
            self._stopped.set()
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
            SourceLostError: robot or teleoperator failed and did not come back in the policy's time, or never
                gave what is recorded. The episode that ended on it is saved like any other.
            DiskFullError: an episode could not begin for want of space, which no pending save can make. What
                was recorded before is saved as ever.
            SourceError: it could not be connected or disconnected; or it failed under the policy ``raise``:
                then the running episode stays in staging as interrupted.
            AiorecordError: what the recorder raises.
        """
        self.events.on_phase(self.phase)
        async with connected(self.robot, self.teleop):
            self.machine.connected()
            while self.phase in (Phase.RECORDING, Phase.RESETTING):
                full = self.recorder.backlog_is_full or self.recorder.disk_is_full
                if self.phase is Phase.RECORDING and full:
                    await self._wait_for_room()
                    continue
                self.events.on_phase(self.phase)
                await (self._record() if self.phase is Phase.RECORDING else self._reset())
        self.events.on_phase(self.phase)
        if self._judged is not None:
            await self._judged.save.wait_durable()
            self._judge()
        return self.records

    async def _wait_for_room(self) -> None:
        """Wait until the saves leave room for the next episode, or for the operator to stop."""
        self.machine.wait()
        self.events.on_phase(self.phase)
        room = asyncio.create_task(self.recorder.wait_for_room(), name="aiorecord-wait-for-room")
        stop = asyncio.create_task(self._stopped.wait(), name="aiorecord-wait-for-room-stop")
        try:
            await asyncio.wait((room, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (room, stop):
                task.cancel()
            await asyncio.wait((room, stop))
        if not room.cancelled():
            room.result()
        self.machine.waited()

    async def _record(self) -> None:
        number = self.machine.number
        episode = self.recorder.episode(self.plan.task, hold=True, limits=self.plan.limits)
        self._frame_times = frame_times(self.robot, self.recorder.features)
        self._copy = must_copy(self.robot, self.teleop, self.recorder.schema)
        async with episode:
            lap(self.robot, self.teleop)
            ready_ns = self.recorder.clock.now_ns()
            dead_ns = None if self._last_frame_ns is None else ready_ns - self._last_frame_ns - self._reset_ns
            ticker = await self._run_ticks(self.plan.episode_time_s, episode)
            flags = self.plan.limits.flags(ticker.lateness.summary(), episode.cameras)
            lost = self._lost is not None
            keep = self.machine.recorded(episode.frames, flagged=bool(flags), lost=lost)
            self._ending = False
            sources = self._held.facts()
            if sources:
                episode.annotate(**sources)
            episode.note_calls(lap(self.robot, self.teleop))
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
            flags=flags,
            sources=sources.get("sources", {}),
            end_reason=episode.end_reason,
        )
        self._repeats = 0
        self.records.append(record)
        self.events.on_episode(record)
        if flags:
            self.events.on_flagged(record)
        self._judged = record

    def _judge(self) -> None:
        """Look again at an episode whose last frames were still waiting for a camera's thread."""
        record = self._judged
        if record is None or not isinstance(record.save.source, EpisodeCapture):
            return
        if record.save.stage is not Stage.RECORDING:
            self._judged = None  # every frame is counted
        known, cameras = len(record.flags), record.save.source.status().cameras
        record.flags = self.plan.limits.flags(record.lateness, cameras)
        if len(record.flags) > known:
            self.events.on_flagged(record)

    async def _reset(self) -> None:
        started_ns = self.recorder.clock.now_ns()
        left_s: float | None = self.plan.reset_time_s
        while left_s is not None:
            if self._lost is not None:
                await self._regain(self._lost)
            ticker = await self._run_ticks(left_s, None)
            left_s = None if self._lost is None or self.machine.stopping else ticker.seconds_left
        take_back = self.machine.reset()
        self._ending = False
        if take_back:
            record = self.records.pop()
            self._judged = None
            await self.recorder.take_back(record.save)
            self.dropped += 1
            self._repeats = record.repeats + 1
            self.events.on_dropped(record.number)
        self._reset_ns = self.recorder.clock.now_ns() - started_ns

    def _tell(self, line: str) -> None:
        self.events.on_source(line)

    async def _regain(self, lost: SourceLostError) -> None:
        """Wait for a lost source to come back, or for the operator to stop.

        Raises:
            SourceLostError: it did not come back in time.
        """
        self._tell(f"{lost} Trying to bring it back, for {self.policy.reconnect_s:g} s at most.")
        work = asyncio.create_task(
            regain(self._guards, self.recorder.features, self.policy, self.recorder.clock, self._tell),
            name="aiorecord-regain",
        )
        stop = asyncio.create_task(self._stopped.wait(), name="aiorecord-regain-stop")
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.wait((work, stop))
        if not work.cancelled():
            work.result()
            self._lost = None

    async def _step(self, ticker: Ticker, episode: Episode | None) -> dict[str, Any] | None:
        """One turn of teleoperation; None when it gave no frame.

        A source that is lost ends the phase; the episode is kept.
        """
        try:
            return await control_step(self.robot, self.teleop, self.recorder.features)
        except SourceLostError as error:
            if self._guards.never_came:
                raise
            self._lost = error
            if episode is not None:
                episode.request_end(str(error))
            ticker.end()
        except SourceError:
            if self.policy.on_error == "raise" or self._guards.is_well:
                raise
            # A source that has given nothing so far, and has still time to.
        return None

    async def _run_ticks(self, seconds: float, episode: Episode | None) -> Ticker:
        self._held = HeldFrames(self._guards.all)
        ticker = self.ticker = self.recorder.ticks(seconds)
        if self._ending:
            ticker.end()
        every = max(1, self.recorder.fps // TOLD_PER_S)
        try:
            async for _ in ticker:
                frame = await self._step(ticker, episode)
                if frame is None:
                    self.events.on_tick(ticker)
                    continue
                if episode is not None:
                    times = self._frame_times
                    try:
                        index = episode.add_frame(
                            frame, frame_times_ns=times() if times else None, copy=self._copy
                        )
                    except (StorageError, EncodeError):
                        if not episode.frames:
                            raise  # it would be the same with the next episode
                        continue  # the ticker has ended; what was recorded before is kept
                    self._held.add(index)
                    if news := self._held.news(index, every):
                        episode.annotate(**news)
                    self._last_frame_ns = self.recorder.clock.now_ns()
                self.events.on_frame(frame, episode is not None)
                self._judge()
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
