"""Owns a recorder's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from ..errors import StateError
from .uncancellable import UncancellableTask, ended, finished


class TaskOwner:
    """One `asyncio.TaskGroup` whose life is not tied to a block of one task.

    A task group must be entered and left by the same task. A recorder may be opened in one task and closed
    in another (a notebook runs each cell in a task of its own), so the group lives in a task of its own.

    That task cannot be cancelled. Somebody who tries, or who cancels one of the tasks, ends the event loop or
    cancels every task in it: then the owner has its user close, and ends when that is done, which
    `asyncio.run` waits for.

    Args:
        name: the owning task's name.
        on_end: called when the tasks have ended, whether they were closed or one of them failed.
        on_cancel: called when others cancel the tasks: begins to close what they work for, soon, and returns
            the task that does so.
    """

    def __init__(
        self,
        name: str,
        on_end: Callable[[], None] | None = None,
        on_cancel: Callable[[], asyncio.Task[Any]] | None = None,
    ) -> None:
        self._name = name
        self._on_end = on_end
        self._on_cancel = on_cancel
        self._owner: UncancellableTask[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._closer: asyncio.Task[Any] | None = None
        self._failed = False
        self._ended: asyncio.Future[None] | None = None
        self._error: BaseException | None = None

    async def start(self) -> None:
        """Enter the group."""
        ready = asyncio.Event()
        self._ended = asyncio.get_running_loop().create_future()
        self._owner = UncancellableTask(self._own(ready), name=self._name, on_cancel=self._cancelled)
        await ready.wait()

    def create(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a named task, which is cancelled when the owner is closed.

        Raises:
            StateError: the owner is closed, or a task failed and took the others with it.
        """
        if self._group is None or not self.alive or self._closing.is_set():
            coroutine.close()
            raise StateError("This recorder is closed.")
        task = self._group.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def finish(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a named task that is not cancelled: closing the owner waits for its end.

        It may be started while the owner is being closed.

        Raises:
            StateError: the owner is closed.
        """
        if self._owner is None:
            coroutine.close()
            raise StateError("This recorder is closed.")
        task = UncancellableTask(coroutine, name=name)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return task

    @property
    def alive(self) -> bool:
        """Whether the tasks run: started, not closed, and none has failed."""
        return self._ended is not None and not self._ended.done()

    async def aclose(self) -> None:
        """Cancel the tasks that are left and wait for all to end. Idempotent.

        Cancelling it waits too.

        Raises:
            Exception: what a task failed with; a single error as itself.
        """
        if self._ended is None:
            return
        self._closing.set()
        await finished(self._ended)
        while self._finishing:  # started when the tasks had ended
            await ended(next(iter(self._finishing)))
        self._owner = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def _own(self, ready: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready.set()
                await self._closing.wait()
                for task in self._tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            self._error = single(errors)
        finally:
            while self._finishing:
                await asyncio.wait(self._finishing)
            assert self._ended is not None
            self._ended.set_result(None)
            if self._on_end is not None:
                self._on_end()
        if self._closer is not None:
            await asyncio.wait((self._closer,))

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._failed = self._failed or task.exception() is not None
        elif not self._closing.is_set():
            self._cancelled()

    def _cancelled(self) -> None:
        """Close because others want it; also called by the group when one of its tasks has failed."""
        if not self._closing.is_set() and not self._failed and self._on_cancel is not None:
            self._closer = self._on_cancel()
        self._closing.set()


@asynccontextmanager
async def beside(coroutine: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run a task beside a block, and cancel it when the block is left. Errors of the block stay themselves.

    Raises:
        Exception: what the task failed with, if the block did not.
    """
    task = asyncio.create_task(coroutine, name=name)
    try:
        yield
    finally:
        task.cancel()
        await ended(task)
    if not task.cancelled():
        task.result()


def single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The only error inside nested groups as itself, else the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
