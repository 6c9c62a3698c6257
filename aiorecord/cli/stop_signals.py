"""Handles signals in commands that drive a robot: the first stops it in order, the second at once.

SIGINT and SIGTERM are requests to stop. SIGHUP means that the terminal was closed: it counts as the first
request and never as the second, because a shell and the kernel may both send it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from ..clock import Ticker
from ..session import Command
from ..system.tasks import beside


async def watch_signals(on_signal: Callable[[], None], on_hangup: Callable[[], None] | None = None) -> None:
    """Call a function for each request to stop, until cancelled.

    Args:
        on_signal: called on the event loop.
        on_hangup: called for SIGHUP instead.
    """
    if sys.platform == "win32":  # signals arrive as KeyboardInterrupt there
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup a closed terminal must be ignored
        numbers.append(signal.SIGHUP)
    asked = False

    def received(number: signal.Signals) -> None:
        nonlocal asked
        if number is not signal.SIGHUP:
            on_signal()
        elif not asked:
            (on_hangup or on_signal)()
        asked = True

    loop = asyncio.get_running_loop()
    try:
        for number in numbers:
            loop.add_signal_handler(number, received, number)
        await asyncio.Event().wait()
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class StoppableRun:
    """Runs one coroutine that SIGINT, SIGTERM, SIGHUP and the operator's keys can stop.

    The first request ends its ticker, so that it ends by itself; if there is no ticker yet, and at the second
    request, the coroutine is cancelled by a cancel scope of anyio.

    Attributes:
        ticker: set by the coroutine, when its loop begins.
        stopped: a signal came.
    """

    def __init__(self) -> None:
        self.ticker: Ticker | None = None
        self.stopped = False
        self._scope: anyio.CancelScope | None = None

    async def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it to its end; if a signal cancelled it, return without an error.

        Raises:
            Exception: the coroutine's error.
        """
        async with beside(self._watch(), "aiorecord-signals"):
            with anyio.CancelScope() as self._scope:
                await coroutine

    def command(self, command: Command) -> None:
        """Handle an operator's key: *stop* acts like a signal."""
        if command is Command.STOP:
            self._on_signal()

    async def _watch(self) -> None:
        await watch_signals(self._on_signal)

    def _on_signal(self) -> None:
        again, self.stopped = self.stopped, True
        if not again and self.ticker is not None:
            self.ticker.end()
        elif self._scope is not None:
            self._scope.cancel()
