"""Collects the state of a session at one moment into plain data, for views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..capture.episode import CaptureStatus, EpisodeCapture
from ..capture.frames import CameraStatus
from ..clock import NS_PER_S
from ..robots.guarding.source_policy import SourceStatus, short
from ..saving.backlog import Backlog
from ..saving.handle import EpisodeSave, Stage
from ..session import Phase, Session
from ..system.disk import DiskStatus
from .units import size_text, time_text


@dataclass(frozen=True)
class SaveRow:
    """One save under way, in the order in which they are saved."""

    label: str
    frames: int
    stage: Stage
    progress: float
    held: bool
    error: str | None
    priority: int = 0

    @property
    def text(self) -> str:
        """Its stage for a view, and its priority if it has one."""
        return stage_text(self.stage, self.priority)


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
        cameras: of the running episode, by the names for people.
        backlog: what ended episodes still need.
        wait_s: how long it will take until the next episode may begin; None if it may, or if unknown.
        disk: the dataset's disk.
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
    cameras: dict[str, CameraStatus]
    saves: list[SaveRow]
    backlog: Backlog
    disk: DiskStatus
    messages: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    running_flags: list[str] = field(default_factory=list)
    sources: list[SourceStatus] = field(default_factory=list)
    wait_s: float | None = None
    index: int = 0
    phase_s: float | None = None
    last: Take | None = None
    over: bool = False
    again: bool = False
    stopping: bool = False
    foreground: bool = False

    @property
    def coming(self) -> tuple[str, str]:
        """Which episode and which take is recorded now or next."""
        return f"episode {self.index}", f"take {self.number} of {self.total}"

    def waiting_text(self) -> str:
        """Why the next episode does not begin yet."""
        known = _about(self.wait_s)
        staged = size_text(self.backlog.bytes)
        return f"episode {self.index} waits until earlier ones are saved: {staged} in staging{known}"

    def backlog_text(self, *, with_time: bool = True) -> str | None:
        """What is still to be encoded, and how long that takes if it is known; None if nothing."""
        if not self.backlog.frames:
            return None
        known = _about(self.backlog.seconds) if with_time else ""
        return f"{self.backlog.frames} frames to encode{known}"

    def disk_warning(self) -> str | None:
        """A warning about the disk for the operator, None while it has room."""
        return self.disk.describe() if self.disk.is_low else None


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
        rate, late_ms, late_ticks = None, 0.0, 0
        if ticker is not None and len(ticker.lateness):
            elapsed_ns = recorder.clock.now_ns() - ticker.start_ns
            # Whole periods, including the running one: otherwise the second tick would show twice the rate.
            # (Deadlines are rounded to a nanosecond.)
            periods = (elapsed_ns + 1) * recorder.fps // NS_PER_S + 1
            rate = len(ticker.lateness) * recorder.fps / periods
            late_ms, late_ticks = ticker.lateness.counts()["worst_ms"], ticker.lateness.recent()[1]
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
            cameras=self._cameras(status.episode),
            saves=self._saves(status.pending),
            backlog=status.backlog,
            wait_s=_wait_s(status.backlog, recorder.options.max_backlog_gb * 1e9),
            disk=status.disk or DiskStatus(0),
            messages=list(self.messages),
            sources=failed_sources(session.sources()),
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
                save.stage,
                save.progress,
                session.can_take_back(save),
                None if save.error is None else str(save.error),
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
        if isinstance(record.save.source, EpisodeCapture):
            cameras = self._cameras(record.save.source.status())
            problems += [f"{name}: {counts}" for name, c in cameras.items() if (counts := camera_counts(c))]
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

    def _cameras(self, capture: CaptureStatus | None) -> dict[str, CameraStatus]:
        if capture is None:
            nothing = CameraStatus(0, 0, 0, 0, 0, None)
            return {short(key): nothing for key in self.session.recorder.schema.cameras}
        return {short(key): status for key, status in capture.cameras.items()}


def _wait_s(backlog: Backlog, limit_bytes: float) -> float | None:
    """How long encoding takes until the backlog fits its limit, if bytes shrink in proportion to frames."""
    if not limit_bytes or backlog.bytes <= limit_bytes or backlog.seconds is None:
        return None
    return backlog.seconds * (1 - limit_bytes / backlog.bytes)


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f", about {time_text(seconds)}"


def stage_text(stage: Stage, priority: int = 0) -> str:
    """The stage of an ended episode's save, as a view shows it, and its priority if it has one."""
    return f"{stage.words}, priority {priority}" if priority else stage.words


def camera_counts(c: CameraStatus) -> str:
    """The problems of a camera, empty if there are none. Late ticks are not a camera's fault."""
    counts = {"spilled": c.spilled, "repeated": c.repeated, "stale": c.stale, "lost": c.lost}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


SOURCE_COLUMNS = ("source", "failures", "retried", "held", "lost", "connected again")
"""Headings of a source's name and `source_counts`."""


def source_counts(source: SourceStatus) -> tuple[int, int, int, int, int]:
    """How often a source failed and was retried, held, lost and connected again."""
    return source.errors, source.retries, source.held, source.lost, source.reconnects


def failed_sources(sources: Iterable[SourceStatus]) -> list[SourceStatus]:
    """Those that have failed so far."""
    return [source for source in sources if source.errors or source.held]


def camera_error(c: CameraStatus) -> str:
    """What stopped the capture of a camera, or its encoder; empty if nothing did."""
    error = c.error or c.encoder_error
    return "" if error is None else str(error)
