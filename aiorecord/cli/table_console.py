"""The console that prints the commands' tables."""

from __future__ import annotations

import sys

from ..monitor.safe_console import PlainConsole

PIPE_WIDTH = 160
"""Columns of output that is not a terminal: rich would use 80, and cut off the rest."""


def output_console(*, highlight: bool = True) -> PlainConsole:
    """Standard output; in a file or pipe wide enough for every table."""
    return PlainConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=highlight)
