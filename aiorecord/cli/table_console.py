"""The consoles that the commands' tables and progress bars are printed on."""

from __future__ import annotations

import sys

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from ..monitor.safe_console import PlainConsole

PIPE_WIDTH = 160
"""Columns of output that is not a terminal: rich would use 80, and cut off the rest."""


def output_console(*, highlight: bool = True) -> PlainConsole:
    """Standard output; in a file or pipe wide enough for every table."""
    return PlainConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=highlight)


def progress_bar(*columns: ProgressColumn, stderr: bool = True) -> Progress:
    """A bar with its description before it and these columns behind it; it disappears at its end."""
    text = TextColumn("{task.description}", markup=False)
    return Progress(text, BarColumn(), *columns, transient=True, console=PlainConsole(stderr=stderr))
