"""The plain view: one line per event, for logs and terminals without cursor control."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from ..session import Phase
from .snapshot import Snapshot
from .text import size_text, time_text

EVERY_S = 5.0
"""Progress lines come at most this often."""


class PlainView:
    """Prints what changes, line by line."""

    def __init__(self) -> None:
        self._phase: tuple[Phase, int] | None = None
        self._printed_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def draw(self, snapshot: Snapshot) -> None:
        """Print the snapshot if the phase changed, or if the last line is some seconds old."""
        now_s = time.monotonic()
        changed = (snapshot.phase, snapshot.number) != self._phase
        if changed or now_s - self._printed_s >= EVERY_S:
            self._phase, self._printed_s = (snapshot.phase, snapshot.number), now_s
            self.line(describe(snapshot))

    def fits(self, slack_s: float) -> bool:
        """Always: a line costs next to nothing."""
        return True

    def line(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)  # noqa: T201 - printing is what this view does


class NoView:
    """Shows nothing but what must be said."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def draw(self, snapshot: Snapshot) -> None:
        """Show nothing."""

    def fits(self, slack_s: float) -> bool:
        """Never: there is nothing to show."""
        return False

    def line(self, text: str) -> None:
        """Show nothing."""


def describe(s: Snapshot) -> str:
    """A snapshot in one line."""
    parts = [f"[{s.phase.value}]"]
    if s.phase in (Phase.RECORDING, Phase.RESETTING):
        parts.append(f"episode {s.number}/{s.total}")
        if s.seconds_left is not None:
            parts.append(f"{s.seconds_left:.0f} s left")
        if s.rate is not None:
            parts.append(f"{s.rate:.1f} fps, {s.late_ms:.1f} ms late at worst")
    if s.saves:
        stages = ", ".join(f"{save.label} {save.stage} {save.progress:.0%}" for save in s.saves[:3])
        more = f" and {len(s.saves) - 3} more" if len(s.saves) > 3 else ""
        parts.append(f"saving {stages}{more}")
    if s.backlog_frames and s.backlog_s is not None:
        parts.append(f"{s.backlog_frames} frames to encode, about {time_text(s.backlog_s)}")
    parts.append(f"{s.episodes} in the dataset, {size_text(s.free)} free")
    return "  ".join(parts)
