"""Prints one line per event, for logs and for terminals without cursor control."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from ...printable import plain_lines
from ...robots.guarding.source_policy import short
from ...session import Phase
from ..snapshot import Snapshot, camera_counts
from ..units import size_text

EVERY_S = 5.0
"""Shortest time between two progress lines, in seconds."""


class NoView:
    """A view that shows nothing: the messages that are necessary are printed elsewhere."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def draw(self, snapshot: Snapshot) -> None:
        """Show nothing."""

    def terminal(self, has: bool) -> None:
        """Do nothing: whoever has the terminal, nothing in it is moved."""

    def fits(self, slack_s: float) -> bool:
        """Always false: there is nothing to show."""
        return False

    def line(self, text: str) -> None:
        """Show nothing."""


class PlainView(NoView):
    """Prints what changes, line by line."""

    def __init__(self) -> None:
        self._phase: tuple[Phase, int] | None = None
        self._printed_s = 0.0

    def draw(self, snapshot: Snapshot) -> None:
        """Print the snapshot if the phase changed, or if the last line is some seconds old."""
        now_s = time.monotonic()
        changed = (snapshot.phase, snapshot.number) != self._phase
        if changed or now_s - self._printed_s >= EVERY_S:
            self._phase, self._printed_s = (snapshot.phase, snapshot.number), now_s
            self.line(describe(snapshot))

    def fits(self, slack_s: float) -> bool:
        """Always true: printing a line is cheap."""
        return True

    def line(self, text: str) -> None:
        """Print a line."""
        print(plain_lines(text), flush=True)  # noqa: T201 - printing is what this view does


def describe(s: Snapshot) -> str:
    """A snapshot in one line."""
    parts = [f"[{s.phase.value}]"]
    if s.foreground:
        parts = [f"[{Phase.DRAINING.value}]", "in the foreground: the next take waits"]
    elif s.phase in (Phase.RECORDING, Phase.RESETTING):
        next_ = "next: " if s.phase is Phase.RESETTING else ""
        if s.over:
            parts.append("the last take is over")
        else:
            parts.append(next_ + ", ".join(s.coming))
        if s.seconds_left is not None:
            parts.append(f"{s.seconds_left:.0f} s left")
        if s.phase is Phase.RECORDING and s.rate is not None:
            parts.append(f"{s.rate:.1f} fps, at worst {s.late_ms:.1f} ms late")
    elif s.phase is Phase.WAITING:
        parts.append(s.waiting_text())
    parts += [f"FLAGGED: {flag}" for flag in s.running_flags]
    parts += [f"{name}: {counts}" for name, c in s.cameras.items() if (counts := camera_counts(c))]
    parts += [
        f"{short(source.source)}: {source.errors} failures, {source.held} times held"
        for source in s.sources
        if source.held_s is not None
    ]
    if s.saves:
        stages = ", ".join(f"{save.label} {save.text} {save.progress:.0%}" for save in s.saves[:3])
        more = f" and {len(s.saves) - 3} more" if len(s.saves) > 3 else ""
        parts.append(f"saving {stages}{more}")
    if (backlog := s.backlog_text()) is not None:
        parts.append(backlog)
    parts.append(f"{s.episodes} in the dataset, {size_text(s.disk.free)} free")
    if (warning := s.disk_warning()) is not None:
        parts.append(f"DISK: {warning}")
    return "  ".join(parts)
