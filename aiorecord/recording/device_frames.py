"""Records the values and call times of a robot and its teleoperator into an episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..robots.guarding.device_reports import frame_times, must_copy, new_call_times
from ..robots.guarding.guard_pair import STORED_PER_S, HeldFrames
from ..robots.protocols import Robot, Teleoperator

if TYPE_CHECKING:
    from .core import RecorderCore
    from .episode import Episode


class DeviceFrames:
    """Adds the frames of a robot and its teleoperator to an open episode, and restarts their call timings.

    Images are copied only if a device may write into them again. Cameras that report a time are counted as
    stale when it does not advance. Frames with repeated values are noted in the episode while it runs.

    Args:
        core: of the recorder.
        episode: open, without frames so far.
        robot: connected; the held frames of a guard around it are noted.
        teleop: likewise.

    Attributes:
        episode: the episode.
    """

    def __init__(self, core: RecorderCore, episode: Episode, robot: Robot, teleop: Teleoperator) -> None:
        self.episode = episode
        self._robot, self._teleop = robot, teleop
        self._held = HeldFrames(robot, teleop)
        self._times = frame_times(robot, core.schema)
        self._copy = must_copy(robot, teleop, core.schema)
        self._every = max(1, core.fps // STORED_PER_S)
        new_call_times(robot, teleop)

    def add_frame(self, frame: Mapping[str, Any]) -> None:
        """Record the frame that `control_step` returned. Never waits.

        Raises:
            FrameError: it does not fit the features.
            StorageError: the disk accepted no more data; see `Episode.add_frame`.
            EncodeError: a capture encoder failed; likewise.
        """
        times = self._times
        index = self.episode.add_frame(frame, frame_times_ns=times() if times else None, copy=self._copy)
        self._held.note_frame(index)
        if facts := self._held.new_facts(index, self._every):
            self.episode.annotate(**facts)

    def note_sources(self) -> dict[str, Any]:
        """Note in the episode which sources failed in it, and how long driver calls took.

        Returns:
            The failures, see `HeldFrames.facts`.
        """
        facts = self._held.facts()
        if facts:
            self.episode.annotate(**facts)
        self.episode.note_calls(new_call_times(self._robot, self._teleop))
        return facts
