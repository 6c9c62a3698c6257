"""Runs a recorder on an event loop in a separate thread, for synchronous callers.

Frames are added from the caller's thread, directly to the capture, which never waits; everything else goes
through an anyio blocking portal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ...errors import AiorecordError, StateError
from ...printable import get_logger
from ...staging.folder import Staging
from ...system.threads import wrapped
from .dropin_recorder import PortalRecorder

logger = get_logger(__name__)

LOOP_THREAD = "aiorecord-portal"


class RecorderPortal:
    """A `PortalRecorder` on a loop of its own, for callers without one.

    Closing commits pending episodes. If the program ends without closing it, uncommitted episodes stay in
    staging.

    Args:
        root: the dataset's folder.
        make: makes the recorder; called on the loop.

    Raises:
        AiorecordError: as raised by `Recorder` and `Recorder.open`.

    Attributes:
        root: the dataset's folder.
        recorder: open.
    """

    def __init__(self, root: Path, make: Callable[[], PortalRecorder]) -> None:
        for portal in list(_open_portals):
            portal.finish_release(root)
        self.root = root
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._closed = False
        self._released = False
        self._releasing: asyncio.Task[None] | None = None
        self._portal: BlockingPortal = self._stack.enter_context(start_blocking_portal("asyncio"))
        try:
            self._loop, self._thread = self._portal.call(_where)
            self.recorder = self._open(make)
        except BaseException:
            self._stack.close()
            raise
        _open_portals.add(self)
        _close_at_exit()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or belongs to the process that this one was forked from."""
        return self._closed or os.getpid() != self._pid

    def start(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Start a function or coroutine function on the loop.

        Raises:
            StateError: the portal is closed.
        """
        if self.closed:
            raise StateError("The dataset is finalized; `resume` it to record more.")
        return self._portal.start_task_soon(function, *args)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function or coroutine function on the loop and wait for its result.

        An interrupt (Ctrl-C) ends the waiting; the call goes on.

        Raises:
            StateError: the portal is closed.
        """
        return self.start(function, *args).result()

    async def acall(self, function: Callable[..., Any], *args: Any) -> Any:
        """`call` for asyncio; cancelling it ends only the waiting."""
        return await wrapped(self.start(function, *args))

    def ask[T](self, question: Callable[[], T]) -> T:
        """Call a query on the loop, which may be changing the answer; here once it is closed."""
        try:
            answer: T = self.call(question)
        except (RuntimeError, CancelledError):  # it is closed, or ends in this moment
            return question()
        return answer

    def close(self) -> None:
        """Commit pending episodes, pack, release the dataset, end the loop. Idempotent.

        An interrupt (Ctrl-C) leaves uncommitted episodes in staging and is raised when everything is closed.

        Raises:
            AiorecordError: the packing failed; everything is committed and closed anyway.
        """
        with self._closing:
            if self.closed:
                return
            try:
                if self._released:
                    self._thread.join()
                else:
                    self._close_recorder()
            finally:
                self._closed = True
                _open_portals.discard(self)
                self._stack.close()

    def leave(self) -> None:
        """Close without a new thread, since the interpreter starts none when the program ends.

        Every ended episode and the running one are made durable; uncommitted ones stay in staging.
        """
        with self._closing:
            if self.closed:
                return
            recorder = self.recorder
            try:
                if self._thread.is_alive():
                    self.call(recorder.let_go)
            finally:
                self._closed = True
                _open_portals.discard(self)
                self._stack.close()
                recorder.leave()

    def release(self) -> None:
        """Close in the background; `close` waits for it. For finalizers: it takes no lock and never waits.

        The garbage collector may run in any thread, even while that thread holds a lock that closing needs.
        """
        if not self._released and not self.closed:
            self._released = True
            self._loop.call_soon_threadsafe(self._begin_release)

    def finish_release(self, root: Path) -> None:
        """Close a released portal whose loop has ended, or whose dataset, in this folder, is wanted again."""
        if self._released and (self.root == root or not self._thread.is_alive()):
            self.close()

    def _open(self, make: Callable[[], PortalRecorder]) -> PortalRecorder:
        opening = self._portal.start_task_soon(_open_recorder, make)
        try:
            return opening.result()
        except BaseException:  # possibly an interrupt: then nothing must be left open
            if not opening.cancel() and opening.exception() is None:
                self._portal.call(opening.result().core.aclose)
            raise

    def _begin_release(self) -> None:
        self._releasing = self._loop.create_task(self._release(), name="aiorecord-release")

    async def _release(self) -> None:
        logger.warning("A dataset was not finalized: %s is finished now.", self.root)
        try:
            await self.recorder.core.aclose()
        except AiorecordError as error:  # there is no caller left to raise it to
            logger.error("%s could not be finished: %s", self.root, error)
        finally:
            await self._portal.stop()

    def _close_recorder(self) -> None:
        pending = self.call(lambda: len(self.recorder.saver.pending))
        if pending:
            logger.info(
                "Finishing %d saves. Ctrl-C leaves them in staging, for `aiorecord recover`.", pending
            )
        try:
            self.call(self.recorder.core.aclose)
        except Exception:
            raise
        except BaseException:  # an interrupt
            logger.warning("Interrupted: what is not committed yet stays in staging.")
            self.call(functools.partial(self.recorder.core.aclose, drain=False))
            raise


async def _where() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    thread = threading.current_thread()
    thread.name = LOOP_THREAD
    return asyncio.get_running_loop(), thread


async def _open_recorder(make: Callable[[], PortalRecorder]) -> PortalRecorder:
    recorder = make()
    await recorder.open()
    return recorder


# A strong reference: a portal must not be collected before it is closed, and it does not refer to its owner.
_open_portals: set[RecorderPortal] = set()


@functools.cache
def _close_at_exit() -> None:
    """Close the open portals when the program ends.

    `atexit` runs too late, after the thread pools are shut down. The hook of `threading`, which
    `concurrent.futures` uses too, runs before that, the last registered one first.
    """
    register: Callable[[Callable[[], None]], None] = getattr(threading, "_register_atexit")  # noqa: B009
    register(_leave_open_portals)


def _leave_open_portals() -> None:
    for portal in list(_open_portals):
        if portal.closed:
            continue
        try:
            portal.leave()
        except Exception:
            logger.exception("%s could not be closed.", portal.root)
        if Staging(portal.root).episode_paths():
            logger.warning(
                "The program ended without finalize(): episodes wait in the staging area of %s. "
                "`aiorecord recover` finishes them, `resume` too.",
                portal.root,
            )
