"""The capture of the next episode, made ready while the present one is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .capture.episode import EpisodeCapture
from .errors import AiorecordError, StateError
from .tasks import TaskOwner
from .threads import Threads


class Standby:
    """Keeps one prepared capture in hand, so that beginning an episode costs the loop nothing.

    Args:
        prepare: makes a capture ready; blocking, called in a thread.
        tasks: owns the preparing.
        threads: runs it.
    """

    def __init__(self, prepare: Callable[[], EpisodeCapture], tasks: TaskOwner, threads: Threads) -> None:
        self._make = prepare
        self._tasks = tasks
        self._threads = threads
        self._preparing: asyncio.Task[None] | None = None
        self._ready: EpisodeCapture | None = None
        self._error: AiorecordError | None = None

    def start(self) -> None:
        """Begin to prepare a capture, behind."""
        self._preparing = self._tasks.create(self._prepare(), "aiorecord-prepare-episode")

    async def wait(self) -> EpisodeCapture:
        """Wait until the capture is ready, and leave it here.

        Raises:
            AiorecordError: it could not be made. What failed is tried again with the next call.
            StateError: the recorder is closed.
        """
        if self._ready is None and self._error is not None:
            self.start()  # what failed may work now: the disk has room again
        assert self._preparing is not None
        await asyncio.wait((self._preparing,))
        if self._error is not None:
            raise self._error
        if self._ready is None:
            raise StateError("The recorder is closed.")
        return self._ready

    async def take(self) -> EpisodeCapture:
        """Wait until the capture is ready, hand it out, and begin to prepare the next one.

        Raises:
            AiorecordError: as `wait`.
            StateError: likewise.
        """
        capture = await self.wait()
        self._ready = None
        self.start()
        return capture

    def discard(self) -> None:
        """Drop the capture in hand. Blocking, idempotent; nothing is being prepared any more.

        Raises:
            StorageError: its folder could not be deleted.
        """
        if self._ready is not None:
            self._ready.discard()

    async def _prepare(self) -> None:
        self._error = None
        try:
            await self._threads.run(self._keep)
        except AiorecordError as error:  # raised to whoever begins the next episode
            self._error = error

    def _keep(self) -> None:
        # Kept from within the thread: if the task that waits for it is cancelled, it must still be found.
        self._ready = self._make()
