"""The plan of a session: how many episodes, how long, and when one is flagged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..errors import ConfigError
from ..options import check_number, check_task
from ..quality import QualityLimits


@dataclass(frozen=True)
class SessionPlan:
    """The plan of a session: what to record.

    Attributes:
        task: the task, in words.
        num_episodes: episodes to keep.
        episode_time_s: seconds of each episode, unless ended early.
        reset_time_s: seconds between episodes to put things back, 0 for none.
        flagged_reset_s: seconds of the reset that follows a flagged last episode, in which it can be taken
            back, where `reset_time_s` is 0. Use 0 for none if no operator is present.
        max_late_ms: flag an episode in which a tick was later than this; None sets no limit.
        max_repeats: flag an episode in which a camera repeated more frames than this; None sets no limit.
        pace: limits of the rate, of missed deadlines and of gaps; `aiorecord.quality.OFFLINE` has none.
    """

    task: str = ""
    num_episodes: int = 50
    episode_time_s: float = 60
    reset_time_s: float = 60
    max_late_ms: float | None = None
    max_repeats: int | None = None
    pace: QualityLimits = field(default_factory=QualityLimits)
    flagged_reset_s: float = 5

    @property
    def review_s(self) -> float:
        """Seconds of the reset that follows a flagged last episode, 0 for none."""
        return self.reset_time_s or self.flagged_reset_s

    @property
    def limits(self) -> QualityLimits:
        """The limits that are given here, those of `pace` included."""
        return replace(self.pace, max_late_ms=self.max_late_ms, max_repeats=self.max_repeats)

    def __post_init__(self) -> None:
        """Raise ConfigError for a plan that cannot be recorded."""
        check_task(self.task)
        if self.num_episodes < 1:
            raise ConfigError(
                f"num_episodes must be 1 or more, not {self.num_episodes}.", option="num_episodes"
            )
        check_number("episode_time_s", self.episode_time_s, above=0)
        check_number("reset_time_s", self.reset_time_s)
        check_number("flagged_reset_s", self.flagged_reset_s)
        _ = self.limits  # checked by making them

    def check_rate(self, fps: float) -> None:
        """Check that an episode has at least one frame.

        Raises:
            ConfigError: it has none.
        """
        if round(self.episode_time_s * fps) < 1:
            raise ConfigError(
                f"An episode of {self.episode_time_s:g} s has no frame at {fps:g} fps; "
                f"episode_time_s must be {1 / fps:.3g} s or more.",
                option="episode_time_s",
            )
