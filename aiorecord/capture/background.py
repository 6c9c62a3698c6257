"""Helpers for capture threads: a lower priority than the loop's, and an end when the program ends."""

from __future__ import annotations

import os
import sys
import threading
from queue import Empty, SimpleQueue

EXIT_CHECK_S = 2.0
"""How often a sleeping thread checks whether the program has ended without stopping it."""


def lower_thread_priority(nice: int) -> None:
    """Give the calling thread at least this nice value, where threads have their own (Linux)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < nice:
            os.setpriority(os.PRIO_PROCESS, thread, nice)


def interpreter_ends() -> bool:
    """Whether the interpreter waits for its threads to end, because the program is over."""
    return not threading.main_thread().is_alive()


def next_token(tokens: SimpleQueue[bool]) -> bool:
    """Wait for the next token; False also when the program is over and no token will come."""
    while True:
        try:
            return tokens.get(timeout=EXIT_CHECK_S)
        except Empty:
            if interpreter_ends():
                return False


def wait_set(event: threading.Event) -> bool:
    """Wait until an event is set; False when the program is over and nothing will set it."""
    while not event.wait(EXIT_CHECK_S):
        if interpreter_ends():
            return False
    return True


def join_started(thread: threading.Thread) -> None:
    """Wait for a thread to end, if it was started."""
    if thread.ident is not None:
        thread.join()
