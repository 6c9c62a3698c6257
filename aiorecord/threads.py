"""The one place where blocking work leaves the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .errors import StateError


class Threads:
    """A named thread pool whose calls are never abandoned.

    Cancelling `run` does not leave the call behind: the cancellation is delivered when the call has ended,
    so that whatever comes next finds the files in a known state.

    Args:
        size: threads at most.
        name: prefix of the threads' names.
    """

    def __init__(self, size: int, name: str = "aiorecord") -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def run[T](self, function: Callable[..., T], *args: Any) -> T:
        """Call `function(*args)` in a thread.

        Cancelling waits for the call to end, then raises `asyncio.CancelledError`; an error of the call is
        then lost to the caller, who was cancelled anyway.

        Raises:
            StateError: the pool is closed.
        """
        if self._closed:
            raise StateError("This recorder is closed.")
        future = asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await uninterrupted(future)

    async def aclose(self) -> None:
        """Wait for the calls under way, then let the threads end. Idempotent; cancelling waits too."""
        self._closed = True
        await uninterrupted(asyncio.create_task(self._end(), name="aiorecord-threads-end"))

    async def _end(self) -> None:
        while self._running:
            await asyncio.wait(self._running)
        # No call is left, so the threads only have to return: this does not hold up the loop.
        self._pool.shutdown(wait=True)


async def uninterrupted[T](future: asyncio.Future[T]) -> T:
    """Wait for a future to its end even when cancelled meanwhile; the cancellation is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        with contextlib.suppress(asyncio.CancelledError):
            future.exception()  # retrieved: the caller is gone
        raise cancelled
    return future.result()
