"""The terminal's bytes become commands, in one piece or in several."""

import os
import sys
import warnings

import pytest

from aiorecord.cli.keys import KeyDecoder
from aiorecord.session import Command

END, AGAIN, STOP = Command.END_EARLY, Command.RERECORD, Command.STOP


@pytest.mark.parametrize(
    ("data", "commands"),
    [
        (b"\x1b[C", [END]),
        (b"\x1bOC", [END]),
        (b"n", [END]),
        (b"N", [END]),
        (b"\x1b[D", [AGAIN]),
        (b"r", [AGAIN]),
        (b"q", [STOP]),
        (b"\x1b[A", []),
        (b"\x1b[1;5C", []),
        (b"\x1b[3~", []),
        (b"xyz \n\xff\x00", []),
        (b"n\x1b[Dq", [END, AGAIN, STOP]),
        (b"\x1b\x1b[C", [STOP, END]),
    ],
)
def test_whole_sequences(data, commands):
    decoder = KeyDecoder()
    assert decoder.feed(data) == commands
    assert not decoder.waiting


@pytest.mark.parametrize("cut", [1, 2])
def test_an_arrow_key_in_pieces(cut):
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b[C"[:cut]) == []
    assert decoder.waiting
    assert decoder.feed(b"\x1b[C"[cut:]) == [END]
    assert not decoder.waiting


def test_a_lone_escape_is_a_key_when_nothing_follows():
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.flush() == [STOP]
    assert decoder.flush() == []


KEYS = """
import asyncio, os, sys
from aiorecord.cli.keys import reading_keys
from aiorecord.session import Command

async def main():
    stopped = asyncio.Event()
    def command(given):
        print("key", given.name, flush=True)
        if given is Command.STOP:
            stopped.set()
    with reading_keys(command):
        print("running", flush=True)
        if sys.argv[1] == "short":
            return
        await stopped.wait()

asyncio.run(main())
"""

SHELL = """
import os, signal, subprocess, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)

def wait(process, *flags):
    state = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WSTOPPED)
    return {os.CLD_STOPPED: "stopped", os.CLD_EXITED: "exited"}.get(state.si_code, "killed"), state.si_status

def job(how):
    return subprocess.Popen([sys.executable, "-c", sys.argv[1], how], process_group=0)

before = termios.tcgetattr(0)
print("background", *wait(job("short")), flush=True)
print("settings", termios.tcgetattr(0) == before, flush=True)

process = job("long")
os.tcsetpgrp(0, process.pid)
print("suspended", *wait(process), flush=True)
os.tcsetpgrp(0, os.getpgrp())
termios.tcsetattr(0, termios.TCSADRAIN, before)
os.kill(-process.pid, signal.SIGCONT)  # bg
print("echoes", bool(termios.tcgetattr(0)[3] & termios.ECHO), sys.stdin.readline().strip(), flush=True)
os.tcsetpgrp(0, process.pid)  # fg, of which it is not told
print("foreground", *wait(process), flush=True)
os.tcsetpgrp(0, os.getpgrp())
modes = termios.ECHO | termios.ICANON  # a line discipline sets PENDIN by itself
print("settings", termios.tcgetattr(0)[3] & modes == before[3] & modes, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_the_background_and_back():
    """A shell with a terminal of its own puts the reader into the background, and back."""
    import pty

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child only executes another program
        pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", SHELL, KEYS])
    screen = b""

    def until(text, *, times=1):
        nonlocal screen
        while screen.count(text) < times:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                data = b""
            assert data, screen
            screen += data
        return screen

    try:
        until(b"settings True")
        assert b"background exited 0" in screen
        until(b"running", times=2)
        os.write(terminal, b"n")
        until(b"key END_EARLY")
        os.write(terminal, b"\x1a")  # Ctrl-Z
        until(b"suspended stopped")
        os.write(terminal, b"a line\n")
        until(b"echoes True a line")
        assert b"foreground" not in screen
        # The keys come back by themselves; what is typed before waits in the terminal.
        os.write(terminal, b"q\n")
        until(b"foreground exited 0")
        until(b"settings True", times=2)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
