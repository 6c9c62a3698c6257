"""Reads the operator's keys from the terminal on the event loop.

Keys are the bytes that the terminal sends, so they work over SSH and need no permission to watch the
keyboard.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..session import Command

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
FOREGROUND_LOOK_S = 0.5
"""How often to check whether this process has the terminal: a shell does not notify a running process."""

ESCAPE_WAIT_S = 0.05
"""An Esc that nothing follows for this long is the Esc key, and not the beginning of an arrow key."""


class KeyDecoder:
    """Turns a terminal's bytes into commands. Pure; sequences may arrive in pieces."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[Command]:
        """Decode bytes; an Esc at the end waits for `flush`, as it may begin an arrow key."""
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
        """Return a pending Esc as the key itself: nothing followed it."""
        pending, self._pending = self._pending, b""
        return [Command.STOP] if pending else []


def has_keyboard() -> bool:
    """Whether standard input is a terminal whose keys can be read one by one."""
    return sys.platform != "win32" and sys.stdin is not None and sys.stdin.isatty()


def keys_notes() -> list[str]:
    """Notes on the keys for the operator before a recording, a line each."""
    text = (
        "the keys do not work on Windows: Ctrl-C stops, `aiorecord recover` finishes what is not saved then."
    )
    return [text] if sys.platform == "win32" else []


@contextlib.contextmanager
def reading_keys(
    on_command: Callable[[Command], None], on_terminal: Callable[[bool], None] = lambda has: None
) -> Iterator[None]:
    """Call `on_command` for each key while the block runs. Without a terminal, does nothing.

    `on_terminal` is called when this process gets the terminal back (True), and while another process has it.

    In the background (``record &``, or Ctrl-Z and ``bg``) another process has the terminal: it is not
    touched, and the kernel cannot stop this process for it. ``fg`` enables the keys again. The terminal's
    settings are restored at the end. Ctrl-C stays a signal.
    """
    if not has_keyboard():
        yield
        return
    keys = _TerminalKeys(sys.stdin.fileno(), on_command, on_terminal)
    # The kernel stops a background process that reads from the terminal or sets it; ignored, the calls fail
    # or succeed instead, also in the moment between a check of the foreground process and the call.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTTIN, signal.SIGTTOU)}
    try:
        keys.begin()
        yield
    finally:
        keys.end()
        for number, handler in before.items():
            signal.signal(number, handler)


class _TerminalKeys:
    """The keys of a terminal, as long as this process is in its foreground.

    Args:
        fd: the terminal.
        on_command: called on the event loop for each key.
        on_terminal: likewise, when the terminal is back (True), and while another process has it (False).
    """

    def __init__(
        self, fd: int, on_command: Callable[[Command], None], on_terminal: Callable[[bool], None]
    ) -> None:
        self._fd = fd
        self._on_command = on_command
        self._on_terminal = on_terminal
        self._decoder = KeyDecoder()
        self._loop = asyncio.get_running_loop()
        self._before: list[Any] | None = None  # the terminal's settings, once they were changed
        self._reading = False
        self._ended = False
        self._looked = False
        self._escape: asyncio.TimerHandle | None = None
        self._next_look: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Read from now on, and whenever this process is in the foreground."""
        # `fg` continues a stopped process; a process that ran in the background gets no signal.
        self._loop.add_signal_handler(signal.SIGCONT, self._continued)
        self._look()

    def end(self) -> None:
        """Stop reading; restore the terminal's settings if this process is in its foreground."""
        self._ended = True
        self._loop.remove_signal_handler(signal.SIGCONT)
        for timer in (self._escape, self._next_look):
            if timer is not None:
                timer.cancel()
        self._stop_reading()
        if self._before is not None and self._in_foreground():
            self._set(self._before)

    def _continued(self) -> None:
        self._stop_reading()  # the shell may have changed the settings meanwhile
        self._look()

    def _look(self) -> None:
        if self._ended:  # a signal that came before the end is handled after it
            return
        if self._next_look is not None:
            self._next_look.cancel()
        if not self._in_foreground():
            self._stop_reading()
            self._on_terminal(False)
        elif not self._reading:
            self._start_reading()
            if self._looked:  # otherwise no other process has had it
                self._on_terminal(True)
        self._looked = True
        self._next_look = self._loop.call_later(FOREGROUND_LOOK_S, self._look)

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except (
            OSError
        ):  # it was closed, or belongs to another session: then this process cannot be put in the background
            return _has_no_job_control(self._fd)

    def _start_reading(self) -> None:
        import termios  # not on Windows
        import tty

        try:
            if self._before is None:
                self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd, termios.TCSANOW)  # keys typed before count too
        except (termios.error, OSError):  # closed, or put in the background since the check
            return
        self._loop.add_reader(self._fd, self._read)
        self._reading = True

    def _stop_reading(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def _set(self, settings: list[Any]) -> None:
        import termios

        with contextlib.suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(self._fd, termios.TCSADRAIN, settings)

    def _read(self) -> None:
        if not self._in_foreground():
            self._stop_reading()
            return
        if self._escape is not None:
            self._escape.cancel()
            self._escape = None
        try:
            data = os.read(self._fd, 1024)
        except OSError:
            data = b""
        if not data:  # the terminal was closed, or taken by another process since the check
            self._stop_reading()
        for command in self._decoder.feed(data):
            self._on_command(command)
        if self._decoder.waiting:
            self._escape = self._loop.call_later(ESCAPE_WAIT_S, self._flush)

    def _flush(self) -> None:
        for command in self._decoder.flush():
            self._on_command(command)


def _has_no_job_control(fd: int) -> bool:
    """Whether the terminal is not the controlling terminal of this session."""
    try:
        os.ttyname(fd)
    except OSError:
        return False
    return True
