"""Handles Ctrl-C while the command `aiorecord` starts: one line and exit code 130, whatever is being
imported.

An interrupt in the middle of an import shows up as a traceback, or as an error of the library that was being
imported. Nothing has begun then that would need an orderly end, so the process simply exits. This module is
imported before all others of the package; it does nothing in programs that use aiorecord as a library.
"""

from __future__ import annotations

import os
import sys

_NAME = "aiorecord"
_LINE = b"aiorecord: stopped before anything began.\n"
STOPPED = 130
"""The exit code that shells report for a program that Ctrl-C ended."""


def is_command() -> bool:
    """Whether this process is the command: the script of its environment, or ``python -m aiorecord``."""
    given = sys.orig_argv
    if "-m" in given[:-1] and given[given.index("-m") + 1] == _NAME:
        return True
    script = os.path.realpath(sys.argv[0]) if getattr(sys, "argv", None) else ""
    name, _ = os.path.splitext(os.path.basename(script))
    return name == _NAME and os.path.dirname(script) == os.path.dirname(sys.executable)


def starting() -> None:
    """Let Ctrl-C end the command at once, until `begun` is called."""
    if is_command():
        _replace(_default(), _leave)


def begun() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    _replace(_leave, _default())


def ending() -> None:
    """Let Ctrl-C end the process silently: the command has printed everything."""
    if is_command():
        _replace(_default(), _leave_silently)


def _replace(old: object, new: object) -> None:
    """Exchange the handler of SIGINT, unless it is another one: shells ignore it for background jobs."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == old:
        signal.signal(signal.SIGINT, new)  # type: ignore[arg-type]


def _default() -> object:
    import signal

    return signal.default_int_handler


def _leave(number: int, frame: object) -> None:
    try:
        os.write(2, _LINE)
    finally:
        os._exit(STOPPED)


def _leave_silently(number: int, frame: object) -> None:
    os._exit(STOPPED)
