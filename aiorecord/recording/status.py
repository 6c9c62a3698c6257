"""The status of a recorder at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..capture.episode import CaptureStatus
    from ..encoding.plans.choice import EncodePlan
    from ..saving.backlog import Backlog
    from ..saving.handle import EpisodeSave
    from ..system.disk import DiskStatus


@dataclass(frozen=True)
class RecorderStatus:
    """A snapshot of a recorder.

    Attributes:
        root: the dataset's folder.
        episodes: committed episodes.
        frames: committed frames.
        episode: the live capture, None between episodes.
        saves: the saver's `get_status()`.
        pending: saves that are not committed yet, in the order of their turns: by priority, then the oldest
            first.
        queued_bytes: memory held by frames that wait for the capture encoders.
        nonfinite_frames: accepted frames that held NaN or infinity.
        plans: how each camera's frames become its final file, and why.
        backlog: the work left for ended episodes: frames, seconds, bytes.
        disk: free space and how long it will last; None before the recorder is open.
        flags: the limits that the running episode has exceeded so far, in words.
        fps: rate of the frames of the running episode so far, or else of the one before it; None before the
            second frame.
        lateness: of the ticks of that episode, as `Episode.lateness_so_far`; None before the first episode.
    """

    root: Path
    episodes: int
    frames: int
    episode: CaptureStatus | None
    saves: dict[str, Any]
    pending: list[EpisodeSave]
    queued_bytes: int
    nonfinite_frames: int
    plans: dict[str, EncodePlan]
    backlog: Backlog
    disk: DiskStatus | None = None
    flags: list[str] = field(default_factory=list)
    fps: float | None = None
    lateness: dict[str, float | int] | None = None
