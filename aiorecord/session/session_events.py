"""The events of a session, and the callbacks an application may pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..clock import Ticker
from ..recording.recorder_events import RecorderEvent
from .state_machine import Phase

if TYPE_CHECKING:
    from ..saving.handle import EpisodeSave


@dataclass
class EpisodeRecord:
    """The record of one kept episode.

    Attributes:
        number: which take of the session it is, from 1. Its index in the dataset is assigned when it is
            committed; `Session.index_of` predicts it.
        save: its save, with the outcome.
        frames: frames recorded.
        duration_s: seconds from the first frame to the last, plus one period.
        lateness: `Lateness.summary` of its ticks.
        dead_time_s: seconds from the last frame of the episode before it until the recorder was ready for
            its first frame, without the reset in between; None for the first.
        repeats: how often it was recorded again before it was kept.
        sources: the sources that failed in it, see `HeldFrames.facts`; empty if none did.
        end_reason: what ended it, if it was neither the plan nor the operator.
        cut_by_machine: the disk, or memory that ran out, ended it, and not a failed source.
        flags: the exceeded limits of the plan, in words. Frames that still waited for a camera's thread when
            the episode ended may add more, see `SessionEvents.on_flagged`.
        effective_fps: frames per second from the first to the last; None for a single frame.
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
    effective_fps: float | None = None
    cut_by_machine: bool = False


@dataclass(frozen=True)
class PhaseChanged(RecorderEvent):
    """A session entered a phase.

    Attributes:
        phase: the phase.
        number: of the episode that is recorded now or next, from 1.
        total: number of planned episodes.
    """

    phase: Phase
    number: int
    total: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return super().as_dict() | {
            "phase": self.phase.value,
            "number": self.number,
            "total": self.total,
        }


@dataclass(frozen=True)
class SourceReported(RecorderEvent):
    """A robot, teleoperator or camera of a session failed, is lost, or is back.

    Attributes:
        message: a line for the operator.
    """

    message: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return super().as_dict() | {"message": self.message}


@dataclass
class SessionEvents:
    """Callbacks of a session. They run on the event loop and must be quick.

    Attributes:
        on_phase: the phase changed.
        on_tick: a tick's work is done.
        on_frame: the robot moved: the frame, which must not be changed, and whether it was recorded (False
            during resets).
        on_episode: an episode ended and is kept.
        on_flagged: an episode exceeds a limit of the plan (`EpisodeRecord.flags`). Called right after
            `on_episode`, and again if its last frames exceed another one.
        on_dropped: an episode was dropped; the number of its take.
        on_refused: a command of the operator cannot be carried out; the reason, as a line for the operator.
        on_source: a robot, teleoperator or camera failed, is lost, or is back: a line for the operator.
    """

    on_phase: Callable[[Phase], None] = lambda phase: None
    on_tick: Callable[[Ticker], None] = lambda ticker: None
    on_frame: Callable[[dict[str, Any], bool], None] = lambda frame, recording: None
    on_episode: Callable[[EpisodeRecord], None] = lambda record: None
    on_flagged: Callable[[EpisodeRecord], None] = lambda record: None
    on_dropped: Callable[[int], None] = lambda number: None
    on_source: Callable[[str], None] = lambda line: None
    on_refused: Callable[[str], None] = lambda line: None
