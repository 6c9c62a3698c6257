"""Produces items ahead in a thread; the event loop awaits them in order, and none is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator

from ...errors import SourceError, StateError
from ...system.threads import run_in_thread, start_thread

_CHECK_S = 0.5


class Prefetch[T]:
    """Runs an iterator in a named thread, a bounded number of items ahead.

    The thread is not a daemon. It ends at `aclose`, when the iterator ends or fails, and with the main
    thread, so that a program that forgets to close can exit. It closes the iterator.

    Args:
        items: consumed in the thread.
        name: of the thread.
        ahead: most items produced ahead.
    """

    def __init__(self, items: Generator[T], name: str, ahead: int) -> None:
        self._items = items
        self._ahead = ahead
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._ended = False
        self._error: Exception | None = None
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._thread = threading.Thread(target=self._run, name=name)
        self.waits = 0
        """How often `get` found nothing ready."""

    def start(self) -> None:
        """Start the thread."""
        start_thread(self._thread)

    @property
    def ready(self) -> int:
        """Items that wait to be taken."""
        return len(self._ready)

    async def get(self) -> T:
        """The next item. Cancelling takes nothing.

        Raises:
            StateError: closed.
            SourceError: the iterator ended.
            Exception: the iterator's error.
        """
        while True:
            with self._changed:
                if self._ready:
                    self._changed.notify()
                    return self._ready.popleft()
                if self._stopped:
                    raise StateError("The replay was disconnected.")
                if self._error is not None:
                    raise self._error
                if self._ended:
                    raise SourceError("There is nothing left to replay.", source="replay", call="get")
                loop = asyncio.get_running_loop()
                waiter = loop.create_future()
                self._waiter = loop, waiter
            self.waits += 1
            await waiter

    async def aclose(self) -> None:
        """Stop the thread and wait for it; at most one item is still produced. Idempotent.

        Cancelling waits too.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify()
            self._wake()
        if self._thread.is_alive():
            await run_in_thread(self._thread.join)

    def _run(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    while len(self._ready) >= self._ahead and not self._is_over():
                        self._changed.wait(_CHECK_S)
                    if self._is_over():
                        return
                    self._ready.append(item)
                    self._wake()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised by the next `get`
            self._error = error
        finally:
            self._items.close()
            with self._changed:
                self._ended = True
                self._wake()

    def _is_over(self) -> bool:
        return self._stopped or not threading.main_thread().is_alive()

    def _wake(self) -> None:
        """Let `get` check again. Called with the lock held."""
        if self._waiter is not None:
            (loop, waiter), self._waiter = self._waiter, None
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
