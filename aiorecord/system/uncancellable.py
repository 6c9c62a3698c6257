"""Waiting for work to its end although the caller is cancelled: the only place that delays a cancellation.

Three kinds of cancellation arrive in a task, and each of them is held back until what it waits for is done:

- ``task.cancel()`` of asyncio, also that of `asyncio.timeout`, once or many times. The future that the task
  waits for refuses it; asyncio then remembers it, and raises it, once, when the future is done.
- a cancel scope of anyio, which cancels the task again in every turn of the event loop until it has left the
  scope. A shielded scope keeps that away, and the turns with it.
- the end of the event loop, or a program that cancels every task of the loop. What must come to its end runs
  in an `UncancellableTask`: `cancel` is a request to hurry, and `asyncio.run` waits for the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import anyio

from .loop_owner import ProcessOwner

_BACKEND = "anyio._backends._asyncio"
"""anyio's part for asyncio, which is slow to import. Before it is loaded there can be no cancel scope."""


class UncancellableTask[T](asyncio.Task[T]):
    """A task that runs to its end. `cancel` only asks it to hurry.

    Nothing in it may rely on being cancelled: `asyncio.timeout` and cancel scopes do not work in it, but they
    do in tasks that it starts. In a child forked from its process it is an ordinary task.

    Args:
        coroutine: what to run.
        name: of the task.
        on_cancel: called on the event loop after each `cancel`.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        name: str,
        on_cancel: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(coroutine, loop=asyncio.get_running_loop(), name=name)
        self._on_cancel = on_cancel
        self._process = ProcessOwner("task")

    def cancel(self, msg: Any | None = None) -> bool:
        """Ask the task to hurry; returns False, for it is not cancelled."""
        if self._process.is_forked:
            return super().cancel(msg)
        if self._on_cancel is not None and not self.done():
            self.get_loop().call_soon(self._on_cancel)
        return False


async def finished[T](future: asyncio.Future[T], owner: ProcessOwner | None = None) -> T:
    """Wait for a future or task to its end; a cancellation that comes meanwhile is raised then, once.

    The result, or the error, is then lost to the caller, who was cancelled anyway.

    Args:
        future: what to wait for.
        owner: of what completes it; a child forked from its process does not wait: the work runs in the
            parent.
    """
    await ended(future, owner)
    if _BACKEND in sys.modules:
        from anyio.lowlevel import checkpoint_if_cancelled

        try:
            await checkpoint_if_cancelled()
        except asyncio.CancelledError:
            _retrieve(future)
            raise
    return future.result()


async def ended(future: asyncio.Future[Any], owner: ProcessOwner | None = None) -> None:
    """As `finished`, but give neither result nor error. A cancelled scope of anyio cancels what follows."""
    if future.done():
        return
    waiter = _Waiter(owner)
    future.add_done_callback(waiter.wake)
    try:
        with _shield():
            await waiter
    except asyncio.CancelledError:
        _retrieve(future)
        raise
    finally:
        future.remove_done_callback(waiter.wake)


def load_shield() -> None:
    """Import what `finished` needs of anyio: blocking, some hundredths of a second."""
    import_module(_BACKEND)
    import_module("anyio.lowlevel")


class _Waiter(asyncio.Future[None]):
    """A future that does not let itself be cancelled; asyncio raises the cancellation when it is done."""

    def __init__(self, owner: ProcessOwner | None) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._owner = owner

    def cancel(self, msg: Any | None = None) -> bool:
        if self._owner is not None and self._owner.is_forked:
            return super().cancel(msg)
        return False

    def wake(self, _: asyncio.Future[Any]) -> None:
        if not self.done():
            self.set_result(None)


def _shield() -> contextlib.AbstractContextManager[Any]:
    if _BACKEND not in sys.modules:
        return contextlib.nullcontext()
    return anyio.CancelScope(shield=True)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Take note of a future's error: its caller is gone."""
    if future.done() and not future.cancelled():
        future.exception()
