"""The policy for sources that fail, and the status of a source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...errors import ConfigError
from ...values import is_whole

ON_ERROR = ("hold", "end", "raise")


@dataclass(frozen=True)
class SourcePolicy:
    """How a guard handles failures of a robot, a teleoperator or a camera.

    A *source* is a driver call (``robot`` for `get_observation`, ``robot.send_action``, ``teleop`` for
    `get_action`) or one feature of what such a call returns (``observation.images.front``).

    Attributes:
        on_error: ``hold`` repeats the last good value, for `max_hold_s` at most, then ends and keeps the
            episode; ``end`` ends and keeps it at the first failure that retries do not solve; ``raise``
            raises the driver's error.
        max_hold_s: seconds for which a value may be repeated.
        max_hold_s_of: other limits for single sources, by name; a camera's short name is accepted.
        retries: how often a failing call is repeated in the same tick, as long as half the tick's period is
            left. A source that is being held is asked once per tick.
        backoff_s: seconds before the first retry, doubled for each further one.
        call_timeout_s: seconds after which a call that does not return counts as failed.
        resend: while the teleoperator is held, send its last action again in every tick, for robots that need
            a stream of commands. Otherwise nothing is sent: position controllers keep their position, and
            speed-controlled robots are stopped by their own watchdog.
        reconnect: disconnect and connect a lost source again; otherwise it is only asked again.
        reconnect_s: seconds to wait for a lost source before the recording is ended.

    Raises:
        ConfigError: a value is invalid.
    """

    on_error: str = "hold"
    max_hold_s: float = 1.0
    max_hold_s_of: Mapping[str, float] = field(default_factory=dict)
    retries: int = 1
    backoff_s: float = 0.002
    call_timeout_s: float = 0.5
    resend: bool = False
    reconnect: bool = True
    reconnect_s: float = 60.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.on_error not in ON_ERROR:
            raise ConfigError(
                f"on_error must be {', '.join(ON_ERROR[:-1])} or {ON_ERROR[-1]}, not {self.on_error!r}.",
                option="on_error",
            )
        if not is_whole(self.retries, 0):
            raise ConfigError(f"retries must be 0 or more, not {self.retries!r}.", option="retries")
        limits = {f"max_hold_s_of[{name}]": value for name, value in self.max_hold_s_of.items()}
        for option in ("max_hold_s", "backoff_s", "reconnect_s"):
            limits[option] = getattr(self, option)
        for option, value in limits.items():
            if not 0 <= value < math.inf:
                raise ConfigError(
                    f"{option} must be a finite number of seconds, 0 or more, not {value!r}.", option=option
                )
        if not 0 < self.call_timeout_s < math.inf:
            raise ConfigError(
                f"call_timeout_s must be a finite number of seconds above 0, not {self.call_timeout_s!r}.",
                option="call_timeout_s",
            )

    def hold_s(self, source: str) -> float:
        """For how many seconds this source may be held."""
        if self.on_error != "hold":
            return 0.0
        for name in (source, short(source)):
            if name in self.max_hold_s_of:
                return self.max_hold_s_of[name]
        return self.max_hold_s


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The status of one source since its guard was made.

    Attributes:
        source: its name.
        errors: failures: calls that raised or did not return in time, values that do not fit.
        retries: calls made again in the same tick.
        held: ticks in which the last good value was repeated; for ``robot.send_action``: in which nothing was
            sent.
        lost: how often it was held for too long.
        reconnects: how often its device was connected again.
        held_s: seconds for which it has been held now, None if it works.
        last_error: the last error, None if there was none.
    """

    source: str
    errors: int
    retries: int
    held: int
    lost: int
    reconnects: int
    held_s: float | None
    last_error: str | None


def short(source: str) -> str:
    """A source's name for people: ``front`` for ``observation.images.front``."""
    return source.removeprefix("observation.images.").removeprefix("observation.")
