"""The terminal view of loops that record nothing: `teleoperate` and `replay`."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from types import TracebackType
from typing import Self

from rich.text import Text

from ..clock import Ticker
from ..monitor.live_view import LiveScreen
from ..monitor.terminal_layout import Section, bar, fit, flow
from .keys import has_keyboard
from .output import say

REFRESH_S = 0.25
PLAIN_EVERY_S = 5.0


class LoopView:
    """Drawn when there is time left before the next turn.

    Args:
        kind: ``live``, ``plain`` or ``none``.
        doing: a word for the activity.
    """

    def __init__(self, kind: str, doing: str) -> None:
        self._kind = kind
        self._doing = doing
        self._screen = LiveScreen() if kind == "live" else None
        self._stack = contextlib.ExitStack()
        self._next_s = 0.0

    def __enter__(self) -> Self:
        if self._screen is not None:
            self._stack.enter_context(self._screen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def line(self, text: str) -> None:
        """Print a line."""
        if self._screen is not None:
            self._screen.line(text)
        elif self._kind == "plain":
            say(text, flush=True)

    def terminal(self, has: bool) -> None:
        """Note that another process has the terminal, or that it is back; see `LiveScreen.terminal`."""
        if self._screen is not None:
            self._screen.terminal(has)

    def is_due(self, ticker: Ticker, now_ns: int) -> bool:
        """Whether the next drawing is due, and there is time for it."""
        if self._kind == "none" or time.monotonic() < self._next_s or len(ticker.lateness) < 2:
            return False
        slack_s = (ticker.next_deadline_ns - now_ns) / 1e9
        return self._screen.fits(slack_s) if self._screen is not None else slack_s > 0

    def show(self, facts: list[str], share: float | None, values: list[tuple[str, float]]) -> None:
        """Show the progress of the loop.

        Args:
            facts: a phrase each.
            share: progress from 0 to 1; None if the loop has no planned end.
            values: the sent values, by name.
        """
        if self._screen is None:
            self._next_s = time.monotonic() + PLAIN_EVERY_S
            self.line(f"[{self._doing}]  {', '.join(facts)}")
            return
        self._next_s = time.monotonic() + REFRESH_S
        self._screen.show(partial(self._lines, facts, share, values))

    def _lines(
        self, facts: list[str], share: float | None, values: list[tuple[str, float]], width: int, height: int
    ) -> list[Text]:
        head = Text(f" {self._doing.upper()} ", style="bold black on cyan")
        longest = max((len(name) for name, _ in values), default=0)
        cells = [Text(f"{name:<{longest}} {value:9.2f}") for name, value in values]
        sections = [
            Section(flow([head, *facts], width), rank=2),
            Section([bar(share, min(width, 80))] if share is not None else [], rank=1),
            Section(flow(cells, width) if len(cells) > height - 4 else cells, rank=0, least=2),
            Section([Text("Esc q stop" if has_keyboard() else "Ctrl-C stop", style="dim")], rank=3),
        ]
        return fit(sections, height)
