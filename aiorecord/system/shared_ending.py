"""The end of something (a recorder, a saver) that is begun once and awaited by any number of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..printable import get_logger
from .uncancellable import UncancellableTask, ended

logger = get_logger(__name__)


class SharedEnding[T]:
    """Work that ends something. Once begun it runs to its end, whoever is cancelled.

    A task that waits for it may be cancelled, and then leaves at once, while others wait. The last one has
    the work hurry, and leaves when it is done.

    Args:
        what: what ends, for a message.
        name: of the task that does the work.
        hurry: called on the event loop to have the work end soon.
    """

    def __init__(self, what: str, name: str, hurry: Callable[[], None]) -> None:
        self._what, self._name, self._hurry = what, name, hurry
        self._task: UncancellableTask[T] | None = None
        self._waiting = 0

    @property
    def has_begun(self) -> bool:
        """Whether the work has begun."""
        return self._task is not None

    @property
    def is_done(self) -> bool:
        """Whether it came to its end."""
        return self._task is not None and self._task.done()

    def begin(self, work: Callable[[], Coroutine[Any, Any, T]], *, hurry: bool) -> UncancellableTask[T]:
        """Begin the work, unless it has begun: then `hurry` has it end soon."""
        if self._task is None:
            self._task = UncancellableTask(work(), name=self._name, on_cancel=self._hurry)
        elif hurry:
            self._hurry()
        return self._task

    async def wait(self) -> T:
        """Wait for the end of the work, which has begun.

        Raises:
            Exception: what it failed with. It is logged where the task that waits was cancelled.
        """
        assert self._task is not None
        self._waiting += 1
        try:
            await asyncio.wait((self._task,))
        except asyncio.CancelledError:
            if self._waiting == 1:
                self._hurry()
                await ended(self._task)
                if (error := self._task.exception()) is not None:
                    logger.error("%s was closed with an error: %s", self._what, error)
            raise
        finally:
            self._waiting -= 1
        return self._task.result()
