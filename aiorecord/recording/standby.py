"""Prepares the capture of the next episode while the current one is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from ..errors import AiorecordError, StateError
from ..system.tasks import TaskOwner
from ..system.threads import Threads

if TYPE_CHECKING:
    from ..capture.episode import EpisodeCapture

PREPARE_AFTER_S = 0.25
"""How long an episode goes before the next one's capture is prepared.

At its start the last frames of the episode before are still being captured, and that episode's save begins:
on two cores, opening files, codecs and threads at the same time makes ticks late.
"""


class Standby:
    """Keeps one prepared capture ready, so that beginning an episode takes no time on the loop.

    Args:
        prepare: makes a capture ready; blocking, called in a thread.
        tasks: owns the task that prepares.
        threads: runs it.
    """

    def __init__(self, prepare: Callable[[], EpisodeCapture], tasks: TaskOwner, threads: Threads) -> None:
        self._make = prepare
        self._tasks = tasks
        self._threads = threads
        self._preparing: asyncio.Task[None] | None = None
        self._ready: EpisodeCapture | None = None
        self._error: AiorecordError | None = None
        self._wanted = asyncio.Event()
        self._closed = False

    def start(self, after_s: float = 0.0) -> None:
        """Prepare a capture in the background: after some time, or as soon as a caller waits for it."""
        self._wanted.clear()
        self._preparing = self._tasks.create(self._prepare(after_s), "aiorecord-prepare-episode")

    async def wait(self) -> EpisodeCapture:
        """Wait until the capture is ready, without taking it.

        Raises:
            AiorecordError: it could not be made. The next call tries again.
            StateError: the recorder is closed.
        """
        if self._closed:
            raise StateError("The recorder is closed.")
        began_now = self._ready is None and self._error is not None
        if began_now:
            self.start()  # a second try may work: the disk may have room again
        await self._prepared()
        if self._error is not None and not began_now and not self._closed:
            self.start()  # likewise: the attempt may have begun before the disk had room again
            await self._prepared()
        if self._error is not None and not self._closed:
            raise self._error
        if self._ready is None or self._closed:
            raise StateError("The recorder is closed.")
        return self._ready

    async def _prepared(self) -> None:
        assert self._preparing is not None
        self._wanted.set()
        await asyncio.wait((self._preparing,))

    async def take(self) -> EpisodeCapture:
        """Wait until the capture is ready and return it. The next one is prepared a little later.

        Raises:
            AiorecordError: as `wait`.
            StateError: likewise.
        """
        capture = await self.wait()
        self._ready = None
        self.start(PREPARE_AFTER_S)
        return capture

    def close(self) -> None:
        """Hand out no more: from now on `wait` and `take` raise StateError."""
        self._closed = True

    def discard(self) -> None:
        """Drop the prepared capture. Blocking, idempotent; call it when nothing is being prepared.

        Raises:
            StorageError: its folder could not be deleted.
        """
        if self._ready is not None:
            self._ready.discard()

    async def _prepare(self, after_s: float) -> None:
        self._error = None
        if after_s:
            with anyio.move_on_after(after_s):
                await self._wanted.wait()
        try:
            await self._threads.run(self._keep)
        except AiorecordError as error:  # raised when the next episode begins
            self._error = error

    def _keep(self) -> None:
        # Stored by the thread itself: it must be found even if the task that waits for it is cancelled.
        self._ready = self._make()
