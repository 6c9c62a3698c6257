"""Tracks the health of one source: good, failing while its last good value is repeated, or lost."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...clock import NS_PER_S, Clock
from ...errors import SourceLostError
from .source_policy import SourceStatus, short

REPORT_AGAIN_S = 5.0
"""Shortest time between two messages about a source that fails repeatedly."""

MAX_TEXT = 200
"""Most characters kept of a driver's error message."""


class SourceHealth:
    """Counts the successes and failures of one source, and decides when it is lost.

    Args:
        name: of the source.
        hold_s: seconds for which its last good value may be repeated.
        clock: measures that time.
        early_s: seconds by which a tick may be early or late.
        say: called with a line for the operator.
        asked_s: longest time between two calls of the device while the loop runs, in seconds. If the loop
            stood still for longer (a starved or suspended machine), that time does not count as a failure.
    """

    def __init__(
        self,
        name: str,
        hold_s: float,
        clock: Clock,
        early_s: float,
        say: Callable[[str], None],
        *,
        asked_s: float = math.inf,
    ) -> None:
        self.name = name
        self.errors = self.retries = self.held = self.lost = 0
        self.last_error: str | None = None
        self.was_well = False
        self.is_lost = False
        self._hold_ns = round(hold_s * NS_PER_S)
        self._clock = clock
        self._early_s = early_s
        self._longest_ns = asked_s * NS_PER_S  # from one call to the next
        self._say = say
        self._since_ns: int | None = None
        self._asked_ns = 0  # when it failed last
        self._stood_ns = 0.0  # how long the loop stood still since the first failure
        self._reported_ns: int | None = None
        self._is_reported = False

    @property
    def is_well(self) -> bool:
        """Whether it worked when it was last asked."""
        return self._since_ns is None

    def status(self, reconnects: int) -> SourceStatus:
        """The status so far.

        Args:
            reconnects: how often its device was connected again.
        """
        held_s = None if self._since_ns is None else (self._clock.now_ns() - self._since_ns) / NS_PER_S
        return SourceStatus(
            self.name,
            self.errors,
            self.retries,
            self.held,
            self.lost,
            reconnects,
            held_s,
            self.last_error,
        )

    def note_well(self) -> None:
        """Note a success; the operator is told if a failure was reported before."""
        if self._since_ns is not None and (self._is_reported or self.is_lost):
            held_s = (self._clock.now_ns() - self._since_ns) / NS_PER_S
            self._say(f"{short(self.name)} is back after {held_s:.1f} s.")
        self._since_ns = None
        self.was_well = True
        self.is_lost = self._is_reported = False

    def note_retry(self, error: Exception) -> None:
        """Count a failure after which the call is made again at once."""
        self.retries += 1
        self._count(error)

    def note_failure(self, call: str, error: Exception | str | None, instead: str) -> None:
        """Count a failure.

        Args:
            call: the method that failed.
            error: the error; None for a failure that was counted before and goes on.
            instead: what happens now, a sentence for the operator.

        Raises:
            SourceLostError: the source was held for the longest allowed time.
        """
        now_ns = self._clock.now_ns()
        if error is not None:
            self._count(error)
        if self._since_ns is None:
            self._since_ns, self._stood_ns = now_ns, 0.0
            if self._hold_ns:
                self._report(f"{short(self.name)}: {self.last_error} {instead}")
        elif self.was_well:  # a source that never worked has no value to repeat: only the clock decides
            self._stood_ns += max(0, now_ns - self._asked_ns - self._longest_ns)
        self._asked_ns = now_ns
        # To the nearest tick: ticks are a little early or late.
        if now_ns - self._since_ns - self._stood_ns + self._early_s * NS_PER_S < self._hold_ns:
            return
        if not self.is_lost:
            self.is_lost = True
            self.lost += 1
        raise SourceLostError(
            f"{short(self.name)} was lost: {self.last_error or 'its device does not return.'}",
            source=self.name,
            call=call,
        ) from (error if isinstance(error, Exception) else None)

    def _count(self, error: Exception | str) -> None:
        self.errors += 1
        self.last_error = _text(error)

    def _report(self, message: str) -> None:
        """Tell the operator, but not at every failure of a loose contact."""
        now_ns = self._clock.now_ns()
        if self._reported_ns is None or now_ns - self._reported_ns >= REPORT_AGAIN_S * NS_PER_S:
            self._reported_ns = now_ns
            self._is_reported = True
            self._say(message)


def _text(error: Exception | str) -> str:
    if isinstance(error, str) or type(error).__module__.startswith("aiorecord."):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    # A driver's message is stored in JSON and shown on one line of a terminal.
    text = " ".join(text.encode("utf-8", "replace").decode().split())[:MAX_TEXT]
    return text if text.endswith(".") else f"{text}."
