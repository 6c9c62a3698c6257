"""What a session is to record."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..quality import QualityLimits


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
