"""Owns a recorder's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from ..errors import StateError


class TaskOwner:
    """One `asyncio.TaskGroup` whose life is not tied to a block of one task.

    A task group must be entered and left by the same task. A recorder may be opened in one task and closed
    in another (a notebook runs each cell in a task of its own), so the group lives in a task of its own.

    Args:
        name: the owning task's name.
        on_end: called when the tasks have ended, whether they were closed or one of them failed.
    """

    def __init__(self, name: str, on_end: Callable[[], None] | None = None) -> None:
        self._name = name
        self._on_end = on_end
        self._owner: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def start(self) -> None:
        """Enter the group."""
        ready = asyncio.Event()
        self._owner = asyncio.create_task(self._own(ready), name=self._name)
        if self._on_end is not None:
            on_end = self._on_end
            self._owner.add_done_callback(lambda _: on_end())
        await ready.wait()

    def create(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a named task.

        Raises:
            StateError: the owner is closed, or a task failed and took the others with it.
        """
        if self._group is None or self._owner is None or self._owner.done() or self._closing.is_set():
            coroutine.close()
            raise StateError("This recorder is closed.")
        task = self._group.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def alive(self) -> bool:
        """Whether the tasks run: started, not closed, and none has failed."""
        return self._owner is not None and not self._owner.done()

    async def aclose(self) -> None:
        """Cancel the tasks that are left and wait for all to end. Idempotent.

        Cancelling it does not stop the closing; call it again to wait for the rest.

        Raises:
            Exception: what a task failed with; a single error as itself.
        """
        if self._owner is None:
            return
        self._closing.set()
        try:
            await asyncio.shield(self._owner)
        except BaseExceptionGroup as group:
            self._owner = None
            raise single(group) from None
        self._owner = None

    async def _own(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            ready.set()
            await self._closing.wait()
            for task in self._tasks:
                task.cancel()


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
        await asyncio.wait((task,))
    if not task.cancelled():
        task.result()


def single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The only error inside nested groups as itself, else the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
