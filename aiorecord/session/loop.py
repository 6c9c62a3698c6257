"""The record loop: runs robot and teleoperator through the phases that `SessionMachine` decides on.

A session may be made on a loop before its recorder is open. What needs libav, numpy and Arrow is therefore
imported where it is used; opening the recorder has imported it by then, off the loop.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from ..clock import NS_PER_S, Ticker
from ..errors import SourceError, SourceLostError
from ..recording.device_frames import DeviceFrames
from ..recording.device_loop import drive_devices
from ..recording.recorder import Recorder
from ..robots.connecting import connected
from ..robots.guarding.guard_pair import guarded, regain
from ..robots.guarding.source_policy import SourcePolicy, SourceStatus
from ..robots.protocols import Robot, Teleoperator
from ..system.loop_owner import LoopOwner
from .plan import SessionPlan
from .session_events import EpisodeRecord, PhaseChanged, SessionEvents, SourceReported
from .state_machine import Command, Phase, SessionMachine

if TYPE_CHECKING:
    from ..saving.handle import EpisodeSave


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
        foreground: an ended episode is being saved in the foreground: what comes next waits for it.
    """

    recorder: Recorder
    robot: Robot
    teleop: Teleoperator
    plan: SessionPlan
    events: SessionEvents = field(default_factory=SessionEvents)
    policy: SourcePolicy = field(default_factory=SourcePolicy)

    def __post_init__(self) -> None:
        self.plan.check_rate(self.recorder.fps)
        self.recorder.note_robot(self.robot)
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
            guard.on_change = self._report_source
        self.robot, self.teleop = self._guards.robot, self._guards.teleop
        self._lost: SourceLostError | None = None
        self._stopped = False
        self._until_stop: anyio.CancelScope | None = None
        self._owner = LoopOwner("session")
        self.records: list[EpisodeRecord] = []
        self.dropped = 0
        self.ticker: Ticker | None = None
        self.foreground = False
        self._last_frame_ns: int | None = None
        self._reset_ns = 0
        self._repeats = 0
        self._ending = False
        self._judged: EpisodeRecord | None = None  # ended; its last frames may still wait

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self.machine.phase

    def sources(self) -> list[SourceStatus]:
        """What happened to the robot, the teleoperator and each feature they supply. Cheap."""
        return self._guards.status()

    @property
    def phase_s(self) -> float | None:
        """Seconds that the running phase lasts in all, None if it has no end of its own."""
        if self.phase is Phase.RECORDING:
            return self.plan.episode_time_s
        return self._reset_s() if self.phase is Phase.RESETTING else None

    @property
    def next_index(self) -> int:
        """The number that the episode which is recorded now or next will have in the dataset.

        It is so unless one that waits before it fails, or is taken back.
        """
        return self.recorder.saver.expected_index() - self.machine.taking_back

    def index_of(self, save: EpisodeSave) -> int | None:
        """The number of an ended episode in the dataset, LeRobot's ``episode_index``.

        Returns:
            The number it has, or will have unless a save before it fails; None if it failed or was dropped.
        """
        from ..saving.stages import Stage

        if save.done():
            return save.result().episode_index if save.stage is Stage.COMMITTED else None
        return self.recorder.saver.expected_index(save)

    def name_of(self, save: EpisodeSave) -> str:
        """What an ended episode is called on screen: by its number in the dataset, else by its take."""
        index = self.index_of(save)
        if index is not None:
            return f"episode {index}"
        for record in self.records:
            if record.save is save:
                return f"take {record.number}"
        return save.episode_id

    def names_of_pending(self) -> dict[EpisodeSave, str]:
        """`name_of` every save that is not done, in one look at them."""
        return {save: f"episode {index}" for save, index in self.recorder.saver.expected_indices().items()}

    def can_take_back(self, save: EpisodeSave) -> bool:
        """Whether *re-record* would drop this episode now: in the reset after it, if it is not saved."""
        from ..saving.stages import Stage

        return (
            self.phase is Phase.RESETTING
            and not self.machine.dropping
            and bool(self.records)
            and self.records[-1].save is save
            and (save.held or save.stage is Stage.FAILED)
        )

    def command(self, command: Command) -> None:
        """Take an operator's command; what it ends, ends before the next tick.

        Raises:
            StateError: it is called from another thread than that of the loop that runs the session, or in a
                forked child.
        """
        self._owner.check("Session.command()")
        if command is Command.STOP:
            self._stopped = True
            if self._until_stop is not None:
                self._until_stop.cancel()
        if command is Command.RERECORD and self.phase is Phase.RESETTING and not self.machine.dropping:
            save = self.records[-1].save if self.records else None
            if save is not None and not self.can_take_back(save):
                self.events.on_refused(f"{self.name_of(save)} cannot be taken back any more.")
                return
        if self.machine.command(command):
            self._ending = True  # for a phase whose first tick is still to come
            if self.ticker is not None:
                self.ticker.end()

    async def run(self) -> list[EpisodeRecord]:
        """Connect, record, disconnect. Episodes are saved in the background; drain the recorder afterwards.

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
        self._owner.bind()
        self._publish_phase()
        async with connected(self.robot, self.teleop):
            self.machine.connected()
            while self.phase in (Phase.RECORDING, Phase.RESETTING):
                full = self.recorder.backlog_is_full or self.recorder.disk_is_full
                if self.phase is Phase.RECORDING and full:
                    await self._wait_for_room()
                    continue
                self._publish_phase()
                await (self._record() if self.phase is Phase.RECORDING else self._reset())
        self._publish_phase()
        if self._judged is not None:
            await self._judged.save.job.wait_durable()
            self._judge()
        return self.records

    async def _wait_for_room(self) -> None:
        """Wait until the saves leave room for the next episode, or for the operator to stop."""
        self.machine.wait()
        self._publish_phase()
        await self._unless_stopped(self.recorder.wait_for_room())
        self.machine.waited()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something, or cancel it when the operator stops the session; True when it was done."""
        with anyio.CancelScope() as self._until_stop:
            if self._stopped:
                self._until_stop.cancel()
            await work
        return not self._until_stop.cancelled_caught

    async def _record(self) -> None:
        number = self.machine.number
        episode = self.recorder.episode(self.plan.task, hold=True, limits=self.plan.limits)
        async with episode:
            frames = DeviceFrames(self.recorder.core, episode, self.robot, self.teleop)
            ready_ns = self.recorder.clock.now_ns()
            dead_ns = None if self._last_frame_ns is None else ready_ns - self._last_frame_ns - self._reset_ns
            ticker = await self._run_ticks(self.plan.episode_time_s, frames)
            flags, pace = episode.flags, episode.pace
            lost = self._lost is not None
            keep = self.machine.recorded(episode.frames, flagged=bool(flags), lost=lost)
            self._ending = False
            sources = frames.note_sources()
            if not keep:
                episode.discard()
            self.foreground = keep  # only then does leaving the block take more than an instant
        self.foreground = False
        if episode.has_save and self.phase is not Phase.RESETTING:
            episode.save.release()  # there is no reset in which it could be taken back
        self._reset_ns = 0
        if not episode.has_save:
            self.dropped += 1
            self._repeats += 1
            self.events.on_dropped(number)
            return
        record = EpisodeRecord(
            number=number,
            save=episode.save,
            frames=episode.frames,
            duration_s=(pace.span_s if pace else 0.0) + 1 / self.recorder.fps,
            effective_fps=pace.fps if pace else None,
            lateness=ticker.lateness.summary(),
            dead_time_s=None if dead_ns is None else dead_ns / NS_PER_S,
            repeats=self._repeats,
            flags=flags,
            sources=sources.get("sources", {}),
            end_reason=episode.end_reason,
            cut_by_machine=episode.end_reason is not None and not lost,
        )
        self._repeats = 0
        self.records.append(record)
        self.events.on_episode(record)
        if flags:
            self.events.on_flagged(record)
        self._judged = record

    def _judge(self) -> None:
        """Look again at an episode whose last frames were still waiting for a camera's thread."""
        from ..saving.stages import Stage

        record = self._judged
        if record is None or (capture := record.save.job.capture) is None:
            return
        if record.save.stage is not Stage.RECORDING:
            self._judged = None  # every frame is counted
        known, cameras = len(record.flags), capture.status().cameras
        record.flags = self.plan.limits.flags(
            record.lateness, cameras, pace=capture.pace, fps=self.recorder.fps
        )
        if len(record.flags) > known:
            self.events.on_flagged(record)

    async def _reset(self) -> None:
        started_ns = self.recorder.clock.now_ns()
        left_s: float | None = self._reset_s()
        while left_s is not None:
            if self._lost is not None:
                await self._regain(self._lost)
            ticker = await self._run_ticks(left_s, None)
            left_s = None if self._lost is None or self.machine.stopping else ticker.seconds_left
        if self.machine.taking_back and not await self.recorder.take_back(self.records[-1].save):
            self.machine.keep_last()
        take_back = self.machine.reset()
        self._ending = False
        if take_back:
            record = self.records.pop()
            self._judged = None
            self.dropped += 1
            self._repeats = record.repeats + 1
            self.events.on_dropped(record.number)
        self._reset_ns = self.recorder.clock.now_ns() - started_ns

    def _reset_s(self) -> float:
        """Seconds of the reset that is due: there is one after a flagged last episode even without."""
        return self.plan.review_s if self.machine.finished else self.plan.reset_time_s

    def _publish_phase(self) -> None:
        self.events.on_phase(self.phase)
        self.recorder.publish(PhaseChanged(self.phase, self.machine.number, self.plan.num_episodes))

    def _report_source(self, line: str) -> None:
        self.events.on_source(line)
        self.recorder.publish(SourceReported(line))

    async def _regain(self, lost: SourceLostError) -> None:
        """Wait for a lost source to come back, or for the operator to stop.

        Raises:
            SourceLostError: it did not come back in time.
        """
        self._report_source(f"{lost} Trying to bring it back, for {self.policy.reconnect_s:g} s at most.")
        work = regain(
            self._guards, self.recorder.features, self.policy, self.recorder.clock, self._report_source
        )
        if await self._unless_stopped(work):
            self._lost = None

    def _is_fatal(self, error: SourceError) -> bool:
        """Whether an error of a source ends the session."""
        if isinstance(error, SourceLostError):
            return self._guards.never_came
        # Else a source that has given nothing so far, and has still time to.
        return self.policy.on_error == "raise" or self._guards.is_well

    async def _run_ticks(self, seconds: float, frames: DeviceFrames | None) -> Ticker:
        ticker = self.ticker = self.recorder.ticks(seconds)
        if self._ending:
            ticker.end()

        def on_frame(frame: dict[str, Any]) -> None:
            if frames is not None:
                self._last_frame_ns = self.recorder.clock.now_ns()
            self.events.on_frame(frame, frames is not None)
            self._judge()

        try:
            lost = await drive_devices(
                ticker,
                self.robot,
                self.teleop,
                self.recorder.features,
                frames,
                is_fatal=self._is_fatal,
                on_frame=on_frame,
                on_tick=lambda: self.events.on_tick(ticker),
            )
            self._lost = lost or self._lost
        finally:
            self.ticker = None
        return ticker
