"""What a robot and its teleoperator give, recorded into an episode with what they tell about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .features import Schema
from .robots.base import Robot, Teleoperator
from .robots.guards import TOLD_PER_S, HeldFrames
from .robots.measured import frame_times, lap, must_copy

if TYPE_CHECKING:
    from .episode import Episode


class DeviceFrames:
    """Adds the frames of a robot and its teleoperator to an open episode; a new lap of their calls begins.

    Images are copied only where a device may write into them again, cameras that tell their time are counted
    as stale when it stands still, and held frames are noted in the episode while it runs.

    Args:
        episode: open, and not begun.
        robot: connected.
        teleop: connected.
        held: of the guards in them.
        schema: of the dataset.
        fps: of the dataset.

    Attributes:
        episode: the episode.
    """

    def __init__(
        self,
        episode: Episode,
        robot: Robot,
        teleop: Teleoperator,
        held: HeldFrames,
        *,
        schema: Schema,
        fps: int,
    ) -> None:
        self.episode = episode
        self._robot, self._teleop, self._held = robot, teleop, held
        self._times = frame_times(robot, schema)
        self._copy = must_copy(robot, teleop, schema)
        self._every = max(1, fps // TOLD_PER_S)
        lap(robot, teleop)

    def add(self, frame: Mapping[str, Any]) -> None:
        """Record what `control_step` gave. Never waits.

        Raises:
            FrameError: it does not fit the features.
            StorageError: the disk took no more; see `Episode.add_frame`.
            EncodeError: a capture encoder failed; likewise.
        """
        times = self._times
        index = self.episode.add_frame(frame, frame_times_ns=times() if times else None, copy=self._copy)
        self._held.add(index)
        if news := self._held.news(index, self._every):
            self.episode.annotate(**news)

    def finish(self) -> dict[str, Any]:
        """Note in the episode what failed in it, and how long driver calls took.

        Returns:
            What failed: `HeldFrames.facts`.
        """
        facts = self._held.facts()
        if facts:
            self.episode.annotate(**facts)
        self.episode.note_calls(lap(self._robot, self._teleop))
        return facts
