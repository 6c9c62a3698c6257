"""Draws the live view on a terminal."""

from __future__ import annotations

import io
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from rich.box import ASCII, ROUNDED
from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.panel import Panel
from rich.segment import ControlType
from rich.text import Text

from ..printable import plain_lines
from .safe_console import PlainConsole
from .screen import screen
from .snapshot import Snapshot

FRAME_COLUMNS, FRAME_ROWS = 50, 14
"""Smaller terminals get no frame around the view, which needs all columns and rows."""

TITLE = "aiorecord"
KEPT_LINES = 100
"""Lines above the view that are printed again when the terminal is resized."""

_ASCII = str.maketrans({"→": ">", "←": "<", "━": "=", "╸": "-", "─": ".", "…": "~"})


Lines = Callable[[int, int], list[Text]]
"""Returns the lines of a view, for at most this many columns and rows."""


class LiveScreen:
    """Draws lines in place, on a terminal whose size may change.

    Drawing takes a few milliseconds of Python, so it is done between ticks, when `fits` allows it.

    Args:
        console: where to draw; default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or PlainConsole(file=sys.stdout)
        self._live = self._new_live()
        self._cost_s = 0.005
        self._size = self._console.size
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._moved = self._away = False

    def _new_live(self) -> Live:
        return Live(console=self._console, auto_refresh=False, transient=True, screen=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._follow_size()
        self._live.stop()

    def show(self, lines: Lines) -> None:
        """Show lines in place of those before."""
        if self._away:
            return
        started_s = time.perf_counter()
        self._follow_size()
        ascii_only = not self._console.encoding.startswith("utf")
        self._live.update(framed(lines, *self._size, ascii_only=ascii_only), refresh=True)
        self._cost_s = max(time.perf_counter() - started_s, 0.9 * self._cost_s)

    def fits(self, slack_s: float) -> bool:
        """Whether a drawing fits twice into the time, by the slowest of the recent ones.

        A slow one is forgotten gradually, also while nothing fits: otherwise the view would never be drawn
        again.
        """
        if slack_s > 2 * self._cost_s:
            return True
        self._cost_s *= 0.9
        return False

    def line(self, text: str) -> None:
        """Print a line above the view."""
        self._lines.append(text)
        if self._away:
            print(plain_lines(text), file=self._console.file, flush=True)
            return
        self._follow_size()
        self._console.print(text, markup=False, highlight=False)

    def terminal(self, has: bool) -> None:
        """Note that another process, such as a shell, has the terminal, or that it is back.

        Nothing is drawn meanwhile, and the screen is drawn from the start afterwards.
        """
        self._away = not has
        self._moved = has

    def _follow_size(self) -> None:
        """Clear the screen and draw it from the start if the position of the last drawing is unknown.

        That is so after a shell has written to it, or after a resize, which each terminal handles in its own
        way. The lines above the view are printed again.
        """
        size = self._console.size
        if not self._live.is_started or not (self._moved or size != self._size):
            return
        self._size, self._moved = size, False
        self._live.stop()
        # Row by row: some terminals move a screen that is cleared at once into their scrollback.
        rows = [(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_DOWN, 1)] * size.height
        self._console.control(Control.home(), Control(*rows), Control.home())
        for text in self._lines:
            self._console.print(text, markup=False, highlight=False)
        self._live = self._new_live()
        self._live.start()


class LiveView(LiveScreen):
    """Draws snapshots of a session in place, on a terminal.

    Args:
        keys: there is a keyboard: the keys are explained. Otherwise Ctrl-C is.
        console: where to draw; default standard output.
    """

    def __init__(self, keys: bool = False, console: Console | None = None) -> None:
        super().__init__(console)
        self._keys = keys

    def draw(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        self.show(partial(screen, snapshot, self._keys))


def render(
    snapshot: Snapshot, keys: bool = False, *, width: int = 120, height: int = 40, ascii_only: bool = False
) -> RenderableType:
    """The whole view of one snapshot.

    Args:
        snapshot: what is shown.
        keys: there is a keyboard.
        width: columns of the terminal.
        height: rows of the terminal.
        ascii_only: with ASCII characters only.
    """
    return framed(partial(screen, snapshot, keys), width, height, ascii_only=ascii_only)


def framed(lines: Lines, width: int, height: int, *, ascii_only: bool) -> RenderableType:
    """Lines with a frame around them where a terminal of this size has room for one."""
    roomy = width >= FRAME_COLUMNS and height >= FRAME_ROWS
    made = lines(width - 4, height - 2) if roomy else lines(width, height)
    if ascii_only:
        made = [Text(line.plain.translate(_ASCII), style=line.style, spans=line.spans) for line in made]
    for line in made:
        line.no_wrap, line.overflow = True, "crop"
    shown = Group(*made)
    if not roomy:
        return shown
    return Panel(
        shown, title=TITLE, title_align="left", border_style="dim", box=ASCII if ascii_only else ROUNDED
    )


def render_svg(snapshot: Snapshot, keys: bool = True, *, width: int = 100, height: int = 24) -> str:
    """The view of one snapshot as an SVG picture.

    Args:
        snapshot: what is shown.
        keys: show the keys, as if there were a keyboard.
        width: columns of the terminal.
        height: rows of the terminal, at most; the picture has as many as the view takes.
    """
    console = PlainConsole(
        record=True,
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(render(snapshot, keys, width=width, height=height))
    picture = console.export_svg(title="aiorecord record")
    # Rich's fonts would be loaded from the network; the reader's own monospace font is used instead.
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
