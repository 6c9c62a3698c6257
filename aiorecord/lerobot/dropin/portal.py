"""Runs a recorder on an event loop in a separate thread, for synchronous callers.

Frames are added from the caller's thread, directly to the capture, which never waits; everything else goes
through an anyio blocking portal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ...errors import AiorecordError, StateError
from ...printable import get_logger
from ...staging.folder import Staging
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
        _close_released(root)
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
        _close_at_exit(self)

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

    @property
    def is_released(self) -> bool:
        """Whether nobody needs it any more."""
        return self._released

    @property
    def gone(self) -> bool:
        """Whether a released portal is closed."""
        return self._released and not self._thread.is_alive()

    def _open(self, make: Callable[[], PortalRecorder]) -> PortalRecorder:
        opening = self._portal.start_task_soon(_open_recorder, make)
        try:
            return opening.result()
        except BaseException:  # possibly an interrupt: then nothing must be left open
            if not opening.cancel() and opening.exception() is None:
                self._portal.call(opening.result().aclose)
            raise

    def _begin_release(self) -> None:
        self._releasing = self._loop.create_task(self._release(), name="aiorecord-release")

    async def _release(self) -> None:
        logger.warning("A dataset was not finalized: %s is finished now.", self.root)
        try:
            await self.recorder.aclose()
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
            self.call(self.recorder.aclose)
        except Exception:
            raise
        except BaseException:  # an interrupt
            logger.warning("Interrupted: what is not committed yet stays in staging.")
            self.call(_abandon, self.recorder)
            raise


async def _where() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    thread = threading.current_thread()
    thread.name = LOOP_THREAD
    return asyncio.get_running_loop(), thread


async def _open_recorder(make: Callable[[], PortalRecorder]) -> PortalRecorder:
    recorder = make()
    await recorder.open()
    return recorder


async def _abandon(recorder: PortalRecorder) -> None:
    await recorder.aclose(drain=False)


# A strong reference: a portal must not be collected before it is closed, and it does not refer to its owner.
_open_portals: set[RecorderPortal] = set()
_registering = threading.Lock()
_registered = False


def _close_released(root: Path) -> None:
    """Wait for a released portal of the same dataset, and remove closed ones."""
    for portal in list(_open_portals):
        if portal.gone or (portal.is_released and portal.root == root):
            portal.close()


def _close_at_exit(portal: RecorderPortal) -> None:
    """Close the portal when the program ends.

    `atexit` runs too late, after the thread pools are shut down. The hook of `threading`, which
    `concurrent.futures` uses too, runs before that, the last registered one first.
    """
    global _registered
    with _registering:
        _open_portals.add(portal)
        if not _registered:
            register: Callable[[Callable[[], None]], None] = getattr(threading, "_register_atexit")  # noqa: B009
            register(_leave_open_portals)
            _registered = True


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
