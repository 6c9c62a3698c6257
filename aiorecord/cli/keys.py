"""The operator's keys, read from the terminal by the event loop.

They are the terminal's own bytes, so they work over SSH and need no rights to watch the keyboard.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator

from ..session import Command

KEYS_LINE = "→ n end the episode   ← r record it again   Esc q stop   (q twice: leave the rest in staging)"

_SEQUENCES = {
    b"\x1b[C": Command.END_EARLY,
    b"\x1bOC": Command.END_EARLY,
    **dict.fromkeys((b"n", b"N"), Command.END_EARLY),
    b"\x1b[D": Command.RERECORD,
    b"\x1bOD": Command.RERECORD,
    **dict.fromkeys((b"r", b"R"), Command.RERECORD),
    **dict.fromkeys((b"\x1b", b"q", b"Q"), Command.STOP),
}
_TOKEN = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|\x1b|.", re.DOTALL)
ESCAPE_WAIT_S = 0.05
"""A lone Esc is told from the start of an arrow key by nothing following it for this long."""


class KeyDecoder:
    """Turns a terminal's bytes into commands. Pure; sequences may arrive in pieces."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[Command]:
        """Decode bytes; an Esc at the very end waits for `flush`, as it may begin an arrow key."""
        data = self._pending + data
        cut = data.rfind(b"\x1b")
        incomplete = cut >= 0 and data[cut:] in (b"\x1b", b"\x1b[", b"\x1bO")
        data, self._pending = (data[:cut], data[cut:]) if incomplete else (data, b"")
        return [_SEQUENCES[token] for token in _TOKEN.findall(data) if token in _SEQUENCES]

    @property
    def waiting(self) -> bool:
        """Whether an Esc may be the start of something longer."""
        return bool(self._pending)

    def flush(self) -> list[Command]:
        """Nothing followed: a pending Esc was the key itself."""
        pending, self._pending = self._pending, b""
        return [Command.STOP] if pending else []


def has_keyboard() -> bool:
    """Whether standard input is a terminal whose keys can be read one by one."""
    return sys.platform != "win32" and sys.stdin is not None and sys.stdin.isatty()


@contextlib.contextmanager
def reading_keys(on_command: Callable[[Command], None]) -> Iterator[None]:
    """Call `on_command` for each key while the block runs. Without a terminal, does nothing.

    The terminal gets its settings back on the way out. Ctrl-C stays a signal.
    """
    if not has_keyboard():
        yield
        return
    import termios  # not on Windows
    import tty

    fd = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    decoder = KeyDecoder()
    before = termios.tcgetattr(fd)
    alarm: asyncio.TimerHandle | None = None

    def flush() -> None:
        for command in decoder.flush():
            on_command(command)

    def read() -> None:
        nonlocal alarm
        if alarm is not None:
            alarm.cancel()
            alarm = None
        try:
            data = os.read(fd, 1024)
        except OSError:
            data = b""
        if not data:  # the terminal was closed
            loop.remove_reader(fd)
        for command in decoder.feed(data):
            on_command(command)
        if decoder.waiting:
            alarm = loop.call_later(ESCAPE_WAIT_S, flush)

    try:
        tty.setcbreak(fd)
        loop.add_reader(fd, read)
        yield
    finally:
        loop.remove_reader(fd)
        if alarm is not None:
            alarm.cancel()
        with contextlib.suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
