"""Collects the state of a session at one moment into plain data, for views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..clock import NS_PER_S
from ..robots.guarding.source_policy import SourceStatus
from ..saving.backlog import Backlog
from ..saving.handle import EpisodeSave
from ..saving.stages import Stage
from ..session import Phase, Session
from ..system.disk import DiskStatus


@dataclass(frozen=True)
class CameraRow:
    """One camera of the running episode; counts as in `CameraStatus`."""

    name: str
    captured: int
    queued: int
    queued_bytes: int
    spilled: int
    error: str | None
    late: int = 0
    repeated: int = 0
    stale: int | None = None
    lost: int = 0


@dataclass(frozen=True)
class SaveRow:
    """One save under way, in the order in which they are saved."""

    label: str
    frames: int
    stage: str
    progress: float
    held: bool
    error: str | None
    priority: int = 0

    @property
    def text(self) -> str:
        """Its stage for a view, and its priority if it has one."""
        shown = stage_text(self.stage)
        return f"{shown}, priority {self.priority}" if self.priority else shown


@dataclass(frozen=True)
class Take:
    """The previous take, as the reset after it shows it.

    Attributes:
        name: its name, see `Session.name_of`.
        frames: frames recorded.
        duration_s: seconds.
        fps: frames per second as measured, None for a single frame.
        worst_ms: the longest lateness of a deadline, including skipped ones.
        late_ticks: ticks that came late.
        missed: deadlines that were skipped.
        problems: other problems, a phrase each.
        can_be_taken_back: the key ← can still drop it.
    """

    name: str
    frames: int
    duration_s: float
    fps: float | None
    worst_ms: float
    late_ticks: int
    missed: int
    problems: list[str]
    can_be_taken_back: bool


@dataclass(frozen=True)
class Snapshot:
    """A session at one moment. Times in seconds, sizes in bytes.

    Attributes:
        number: which take is recorded now or next, from 1.
        total: number of planned takes.
        seconds_left: of the running phase, None if it has no planned end.
        rate: effective ticks per second of the running phase.
        late_ms: the worst lateness in the running phase, including skipped deadlines.
        late_ticks: ticks of the running phase that came late.
        backlog_frames: frames of ended episodes that are not encoded yet, over all cameras.
        backlog_s: how long encoding them will take at the rate measured so far, None if unknown.
        backlog_bytes: space that ended episodes take in staging.
        wait_s: how long it will take until the next episode may begin; None if it may, or if unknown.
        minutes_left: recording time for which the disk has room, None before it is known.
        disk_warning: a warning about the disk for the operator, None while it has room.
        sources: the robot, the teleoperator and each feature that has failed so far.
        flags: during a reset, the plan's limits that the previous episode exceeded.
        running_flags: the limits that the running episode has exceeded so far.
        index: the number that the episode which is recorded now or next will have in the dataset.
        phase_s: planned length of the running phase, None if it has no planned end.
        last: during a reset, the take before it, None if that was dropped.
        over: during a reset, that no episode follows it.
        again: during a reset, that the take before it is dropped and recorded again.
        stopping: the operator asked to stop.
        foreground: an ended episode is saved in the foreground; the phase begins when that is done.
    """

    phase: Phase
    number: int
    total: int
    task: str
    seconds_left: float | None
    fps: int
    rate: float | None
    late_ms: float
    late_ticks: int
    frames: int
    episodes: int
    cameras: list[CameraRow]
    saves: list[SaveRow]
    backlog_frames: int
    backlog_s: float | None
    free: int
    minutes_left: float | None
    messages: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    running_flags: list[str] = field(default_factory=list)
    sources: list[SourceStatus] = field(default_factory=list)
    backlog_bytes: int = 0
    wait_s: float | None = None
    disk_warning: str | None = None
    index: int = 0
    phase_s: float | None = None
    last: Take | None = None
    over: bool = False
    again: bool = False
    stopping: bool = False
    foreground: bool = False


class Observer:
    """Takes snapshots of a session, and keeps what is needed to compute rates.

    Args:
        session: the session; its recorder is open.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        """Keep a message for the view; the newest few are shown."""
        self.messages.append(message)
        del self.messages[:-5]

    def take(self) -> Snapshot:
        """A snapshot of this moment. Cheap: no I/O."""
        session = self.session
        recorder, plan, ticker = session.recorder, session.plan, session.ticker
        status = recorder.get_status()
        cameras = self._cameras(status.episode)
        rate, late_ms, late_ticks = None, 0.0, 0
        if ticker is not None and len(ticker.lateness):
            elapsed_ns = recorder.clock.now_ns() - ticker.start_ns
            # Whole periods, including the running one: otherwise the second tick would show twice the rate.
            # (Deadlines are rounded to a nanosecond.)
            periods = (elapsed_ns + 1) * recorder.fps // NS_PER_S + 1
            rate = len(ticker.lateness) * recorder.fps / periods
            late_ms, late_ticks = ticker.lateness.counts()["worst_ms"], ticker.lateness.recent()[1]
        backlog, disk = status.backlog, status.disk or DiskStatus(0)
        disk_left_s = disk.seconds_left
        return Snapshot(
            phase=session.phase,
            number=session.machine.number,
            total=plan.num_episodes,
            task=plan.task,
            seconds_left=session.phase_s if ticker is None else ticker.seconds_left,
            fps=recorder.fps,
            rate=rate,
            late_ms=late_ms,
            late_ticks=late_ticks,
            frames=status.episode.frames if status.episode else 0,
            episodes=status.episodes,
            cameras=cameras,
            saves=self._saves(status.pending),
            backlog_frames=backlog.frames,
            backlog_s=backlog.seconds,
            backlog_bytes=backlog.bytes,
            wait_s=_wait_s(backlog, recorder.options.max_backlog_gb * 1e9),
            free=disk.free,
            minutes_left=None if disk_left_s is None else disk_left_s / 60,
            disk_warning=disk.describe() if status.disk is not None and disk.is_low else None,
            messages=list(self.messages),
            sources=[source for source in session.sources() if source.errors or source.held],
            flags=list(session.records[-1].flags)
            if session.records and session.phase is Phase.RESETTING
            else [],
            running_flags=list(status.flags),
            index=session.next_index,
            phase_s=session.phase_s,
            last=self._last(),
            over=session.phase is Phase.RESETTING and session.machine.finished,
            again=session.machine.taking_back or session.machine.dropping,
            stopping=session.machine.stopping,
            foreground=session.foreground and session.phase in (Phase.RECORDING, Phase.RESETTING),
        )

    def _saves(self, pending: Sequence[EpisodeSave]) -> list[SaveRow]:
        session, names = self.session, self.session.names_of_pending()
        return [
            SaveRow(
                names.get(save) or session.name_of(save),
                save.length,
                save.stage.value,
                save.progress,
                session.can_take_back(save),
                _text(save.error),
                save.priority,
            )
            for save in pending
        ]

    def _last(self) -> Take | None:
        session = self.session
        if session.phase is not Phase.RESETTING or session.machine.dropping or not session.records:
            return None
        record = session.records[-1]
        late = record.lateness
        problems = [] if record.end_reason is None else [f"cut short: {record.end_reason}"]
        if (capture := record.save.job.capture) is not None:
            for row in self._cameras(capture.status()):
                if counts := camera_counts(row):
                    problems.append(f"{row.name}: {counts}")
        return Take(
            session.name_of(record.save),
            record.frames,
            record.duration_s,
            record.effective_fps,
            late["worst_ms"],
            int(late["late"]),
            int(late["missed"]),
            problems,
            session.can_take_back(record.save),
        )

    def _cameras(self, capture: Any) -> list[CameraRow]:
        if capture is None:
            return [CameraRow(_short(key), 0, 0, 0, 0, None) for key in self.session.recorder.schema.cameras]
        return [
            CameraRow(
                _short(key),
                c.captured,
                c.queued_frames,
                c.queued_bytes,
                c.spilled,
                _text(c.error or c.encoder_error),
                late=c.late,
                repeated=c.repeated,
                stale=c.stale,
                lost=c.lost,
            )
            for key, c in capture.cameras.items()
        ]


def _wait_s(backlog: Backlog, limit_bytes: float) -> float | None:
    """How long encoding takes until the backlog fits its limit, if bytes shrink in proportion to frames."""
    if not limit_bytes or backlog.bytes <= limit_bytes or backlog.seconds is None:
        return None
    return backlog.seconds * (1 - limit_bytes / backlog.bytes)


def stage_text(stage: str) -> str:
    """The stage of an ended episode's save, as a view shows it, including whether it is not durable yet."""
    return Stage(stage).words


def _short(key: str) -> str:
    return key.removeprefix("observation.images.").removeprefix("observation.")


def _text(error: object) -> str | None:
    return None if error is None else str(error)


def camera_counts(c: CameraRow) -> str:
    """The problems of a camera, empty if there are none. Late ticks are not a camera's fault."""
    counts = {"spilled": c.spilled, "repeated": c.repeated, "stale": c.stale, "lost": c.lost}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
