"""Interrupts a blocking call in another thread, as Ctrl-C does in lerobot's own scripts.

Connecting a lerobot device may calibrate it, which asks the operator questions and waits for Enter without a
time limit. In lerobot's scripts Ctrl-C raises KeyboardInterrupt there, because they run in the main thread;
here the interrupt must be passed on to the device's thread.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

POLL_S = 0.1
"""How often a question that waits for an answer checks for an interruption, in seconds."""


class InterruptibleCall:
    """Runs one function at a time, in whichever thread calls `run`."""

    def __init__(self) -> None:
        self._thread: int | None = None
        self._guard = (
            threading.Lock()
        )  # the interruption must reach the function, not later work of the thread

    def run(self, function: Callable[[], Any]) -> Any:
        """Call the function.

        Raises:
            InterruptedError: it was interrupted.
        """
        try:
            with _interruptible_input():
                with self._guard:
                    self._thread = threading.get_ident()
                try:
                    return function()
                finally:
                    with self._guard:
                        self._thread = None
                    time.sleep(0)  # a pending interruption is raised here at the latest
        except KeyboardInterrupt as interruption:
            raise InterruptedError("interrupted by the operator") from interruption

    def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the function, at its next Python instruction.

        Returns:
            False if no function runs.
        """
        with self._guard:
            if self._thread is None:
                return False
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread), ctypes.py_object(KeyboardInterrupt)
            )
            return True


@contextlib.contextmanager
def _interruptible_input() -> Iterator[None]:
    """Make `input` in this thread interruptible: the original waits in C code, which is not."""
    original, owner = builtins.input, threading.get_ident()
    if sys.platform == "win32":  # select does not support terminals on Windows
        yield
        return

    def ask(prompt: object = "") -> str:
        if threading.get_ident() != owner or sys.stdin is None or not sys.stdin.isatty():
            return original(prompt)
        sys.stdout.write(str(prompt))
        sys.stdout.flush()
        while not select.select([sys.stdin], [], [], POLL_S)[0]:
            pass
        line = sys.stdin.readline()
        if not line:
            raise EOFError("the terminal was closed")
        return line.rstrip("\n")

    builtins.input = ask
    try:
        yield
    finally:
        builtins.input = original
