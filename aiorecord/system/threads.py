"""The one place where blocking work leaves the event loop, for a pool of named threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import StateError
from .loop_owner import ProcessOwner


class Threads:
    """A named thread pool whose calls are never abandoned.

    Cancelling `run` does not leave the call behind: the cancellation is delivered when the call has ended,
    so that whatever comes next finds the files in a known state.

    All threads start with the first call, so that no later one, the closing least of all, lacks a thread.
    Where they cannot be started the first call raises, and what comes then (only the closing) runs on the
    loop.

    Args:
        size: threads at most.
        name: prefix of the threads' names.
    """

    def __init__(self, size: int, name: str = "aiorecord") -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._size = size
        self._started = self._lacking = False
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._owner = ProcessOwner("thread pool")

    async def run[T](self, function: Callable[..., T], *args: Any) -> T:
        """Call `function(*args)` in a thread.

        Cancelling waits for the call to end, then raises `asyncio.CancelledError`; an error of the call is
        then lost to the caller, who was cancelled anyway.

        Raises:
            StateError: the pool is closed, or no threads can be started; this is a forked child, which has
                none of its threads; or the call was cancelled by others than the caller (a future in it was).
        """
        if self._closed:
            raise StateError("This recorder is closed.")
        self._owner.check_process("Work in a thread")
        if self._lacking:
            return function(*args)
        if not self._started:
            self._start()
        future = asyncio.get_running_loop().run_in_executor(self._pool, _uncancelled, function, args)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await uninterrupted(future, self._owner)

    def _start(self) -> None:
        together = threading.Barrier(self._size)
        try:
            for _ in range(self._size):
                self._pool.submit(together.wait)
        except RuntimeError as error:
            together.abort()
            self._lacking = True
            raise no_threads(error) from error
        self._started = True

    async def aclose(self) -> None:
        """Wait for the calls under way, then let the threads end. Idempotent; cancelling waits too."""
        self._closed = True
        await uninterrupted(asyncio.create_task(self._end(), name="aiorecord-threads-end"))

    async def _end(self) -> None:
        while self._running:
            await asyncio.wait(self._running)
        # No call is left, so the threads only have to return: this does not hold up the loop.
        self._pool.shutdown(wait=True)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        StateError: the machine, or a limit of this user or service, allows no more.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise no_threads(error) from error


def no_threads(error: RuntimeError) -> StateError:
    """What to raise where a thread could not be started."""
    return StateError(
        f"No thread could be started ({error}): the limit of threads and processes is reached, or memory is. "
        "Close other programs, or raise it (`ulimit -u`, TasksMax of the service)."
    )


def _uncancelled[T](function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Call a function; its `asyncio.CancelledError` would look like that of whoever waits for it."""
    try:
        return function(*args)
    except asyncio.CancelledError as error:
        raise StateError("What was waited for in a thread was cancelled by somebody else.") from error


async def uninterrupted[T](future: asyncio.Future[T], owner: ProcessOwner | None = None) -> T:
    """Wait for a future to its end even when cancelled meanwhile; the cancellation is raised afterwards.

    Args:
        future: what to wait for.
        owner: of what completes it; a child forked from its process does not wait: nobody does it there.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            if owner is not None and owner.is_forked:
                raise
            cancelled = error
    if cancelled is not None:
        with contextlib.suppress(asyncio.CancelledError):
            future.exception()  # retrieved: the caller is gone
        raise cancelled
    return future.result()
