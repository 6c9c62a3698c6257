"""The way from synchronous callers to the asyncio core: a recorder on an event loop in a thread of its own.

Frames are added from the caller's thread, straight into the capture, which never waits; everything else goes
through an anyio blocking portal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..capture.episode import EpisodeCapture
from ..capture.staging import EpisodeFolder, Staging
from ..errors import AiorecordError, StateError
from ..recorder import Recorder
from ..saver import AsyncEpisodeSaver
from ..saves import EpisodeSave, EpisodeSaveResult, Stage

logger = logging.getLogger(__name__)

LOOP_THREAD = "aiorecord-portal"


class FedCapture(EpisodeCapture):
    """A capture that may be given a whole episode at once, and takes it in when it is finished.

    Attributes:
        feed: adds all frames; called once, in the thread that finishes the episode. None for a live episode.
    """

    feed: Callable[[EpisodeCapture], None] | None = None

    def finish(self, interrupted: bool = False) -> EpisodeFolder:
        """As `EpisodeCapture.finish`, after taking in what `feed` adds. When that fails, nothing is kept.

        Raises:
            AiorecordError: what `feed` and `EpisodeCapture.finish` raise.
        """
        feed, self.feed = self.feed, None
        if feed is not None:
            try:
                feed(self)
            except BaseException:
                self.discard()
                raise
        return super().finish(interrupted)


class PortalRecorder(Recorder):
    """A `Recorder` whose captures are filled from another thread, several of them at a time.

    Its coroutines run on the portal's loop.

    Attributes:
        expected_episodes: episodes that the dataset has when every save under way succeeds.
        highest_index: the index that the next episode would have if none had failed.
        last_results: outcomes that nobody fetched before the recorder was closed.
    """

    def __init__(self, root: Path, *, fps: int, features: Mapping[str, Any], **options: Any) -> None:
        # The name only chooses a default folder, and lerobot allows more names than aiorecord does.
        super().__init__("dataset", fps=fps, features=features, root=root, resume=True, **options)
        self.expected_episodes = 0
        self.highest_index = 0
        self.last_results: list[EpisodeSaveResult] = []
        self._live: set[EpisodeCapture] = set()

    @property
    def failures(self) -> list[EpisodeSaveResult]:
        """Outcomes of the saves that failed, oldest first."""
        return [save.result() for save in self._failed if save.stage is Stage.FAILED]

    async def next_capture(self) -> FedCapture:
        """The next episode's capture, ready for its first frame.

        Raises:
            AiorecordError: it could not be made.
            StateError: the recorder is closed.
        """
        if self._closing is not None:
            raise StateError("The dataset is finalized.")
        capture = await self._prepared_capture()
        assert isinstance(capture, FedCapture)
        self._ready = None
        self._prepare()
        self._live.add(capture)
        return capture

    async def submit(self, capture: EpisodeCapture, task: str, length: int) -> bool:
        """Save an ended episode behind; False when the queue is full and nothing was done."""
        if not self.saver.submit_episode(self._save_of(capture, task, length, hold=False)):
            return False
        self._accepted(capture)
        return True

    async def submit_feed(self, feed: Callable[[EpisodeCapture], None], task: str, length: int) -> bool:
        """Likewise for an episode that `feed` adds to a capture of its own."""
        status = self.saver.get_status()
        if status["queue_size"] >= status["max_queue_size"]:
            return False
        capture = await self.next_capture()
        capture.feed = feed
        if await self.submit(capture, task, length):
            return True
        self.drop(capture)
        return False

    async def save(self, capture: EpisodeCapture, task: str, length: int) -> EpisodeSaveResult:
        """Save an ended episode and return when it is committed.

        Raises:
            SaveError: it was not.
        """
        save = self._save_of(capture, task, length, hold=False)
        self._accepted(capture)
        return await self.saver.save_now(save)

    async def save_feed(
        self, feed: Callable[[EpisodeCapture], None], task: str, length: int
    ) -> EpisodeSaveResult:
        """Likewise for an episode that `feed` adds to a capture of its own."""
        capture = await self.next_capture()
        capture.feed = feed
        return await self.save(capture, task, length)

    def drop(self, capture: EpisodeCapture) -> None:
        """Discard a capture, behind."""
        self._live.discard(capture)
        self._tasks.create(self._drop(capture), f"aiorecord-discard-{capture.id}")

    async def renew_saver(self, max_queue_size: int, save_timeout: float | None) -> None:
        """Replace the saver by one with other limits and fresh counts, once the pending saves are done.

        Raises:
            ConfigError: limits that make no sense.
        """
        renewed = AsyncEpisodeSaver(
            self.writer,
            max_queue_size=max_queue_size,
            save_timeout=save_timeout,
            encode_executor=self.saver.executor,
            encode_workers=self.options.encode_workers,
            clock=self.clock,
        )
        await self.saver.stop()
        await renewed.start()
        self._saver = renewed

    async def let_go(self) -> None:
        """Wait until every ended episode is durable, and stop the encodes."""
        for save in self.saver.pending:
            await save.wait_durable()
        self.saver.abandon()

    def leave(self) -> None:
        """Let go of the files when the loop is gone, without it and without a new thread. Blocking."""
        for capture in self._live:
            if capture.length:
                capture.finish(True)
            else:
                capture.discard()
        if self._ready is not None:
            self._ready.discard()
        if self._pool is not None:
            self._pool.shutdown()
        self._release_dataset()

    def _accepted(self, capture: EpisodeCapture) -> None:
        self._live.discard(capture)
        self.expected_episodes += 1
        self.highest_index += 1

    def _prepare_capture(self) -> EpisodeCapture:
        options = self.options
        return FedCapture.prepare(
            self._staging,
            schema=self.schema,
            fps=self.fps,
            rgb_encoder=options.rgb_encoder,
            depth_encoder=options.depth_encoder,
            encoder_threads=options.encoder_threads,
            robot_type=options.robot_type,
            budget=self._budget,
        )

    async def _finish_staged(self) -> None:
        await super()._finish_staged()
        self.expected_episodes = self.highest_index = self.writer.total_episodes + len(self.saver.pending)

    def _save_of(
        self, source: EpisodeCapture | EpisodeFolder, task: str, length: int, *, hold: bool
    ) -> EpisodeSave:
        save = super()._save_of(source, task, length, hold=hold)
        save.on_failure = self._note_failure
        return save

    def _note_failure(self, save: EpisodeSave) -> None:
        self._failed.append(save)
        self.expected_episodes -= 1

    async def _close(self, drain: bool) -> None:
        try:
            for capture in self._live:
                await self._keep_partial(capture, StateError("The dataset was closed while it recorded."))
        finally:
            await super()._close(drain)
            if self._saver is not None:
                self.last_results = await self._saver.get_results()


class RecorderPortal:
    """A `PortalRecorder` on a loop of its own, for callers without one.

    Closing commits what is pending. When the program ends and nobody has closed it, what is not committed is
    left in staging.

    Args:
        root: the dataset's folder.
        make: makes the recorder; called on the loop.

    Raises:
        AiorecordError: what `Recorder` and `Recorder.open` raise.

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
            self.recorder = self._portal.call(_open_recorder, make)
        except BaseException:
            self._stack.close()
            raise
        _close_at_exit(self)

    @property
    def closed(self) -> bool:
        """Whether it was closed, or belongs to the process that this one was forked from."""
        return self._closed or os.getpid() != self._pid

    def start(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Begin to call a function or coroutine function on the loop.

        Raises:
            StateError: the portal is closed.
        """
        if self.closed:
            raise StateError("The dataset is finalized; `resume` it to record more.")
        return self._portal.start_task_soon(function, *args)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function or coroutine function on the loop and wait for what it returns.

        An interrupt (Ctrl-C) ends the waiting; the call goes on.

        Raises:
            StateError: the portal is closed.
        """
        return self.start(function, *args).result()

    def close(self) -> None:
        """Commit what is pending, pack, release the dataset, end the loop. Idempotent.

        An interrupt (Ctrl-C) leaves what is not committed in staging and is raised when everything is closed.

        Raises:
            AiorecordError: the packing failed; everything is committed and closed all the same.
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
        """Close without a new thread, which the interpreter does not start any more when the program ends.

        Every ended episode is made durable, the running one too; what is not committed stays in staging.
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
        """Close behind the caller; `close` waits for it. For finalizers: it takes no lock and never waits.

        The garbage collector runs in whatever thread, wherever that is, perhaps while it holds a lock that
        the closing needs.
        """
        if not self._released and not self.closed:
            self._released = True
            self._loop.call_soon_threadsafe(self._begin_release)

    @property
    def gone(self) -> bool:
        """Whether a released portal has come to its end."""
        return self._released and not self._thread.is_alive()

    def _begin_release(self) -> None:
        self._releasing = self._loop.create_task(self._release(), name="aiorecord-release")

    async def _release(self) -> None:
        logger.warning("A dataset was not finalized: %s is finished now.", self.root)
        try:
            await self.recorder.aclose()
        except AiorecordError as error:  # nobody is left to whom it could be raised
            logger.error("%s could not be finished: %s", self.root, error)
        finally:
            await self._portal.stop()

    def _close_recorder(self) -> None:
        pending = len(self.recorder.saver.pending)
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


# Not weak: a portal must not be collected before it is closed, and nothing in it refers to its owner.
_open_portals: set[RecorderPortal] = set()
_registering = threading.Lock()
_registered = False


def _close_released(root: Path) -> None:
    """Wait for a released portal of the same dataset, and clear away those that have come to their end."""
    for portal in list(_open_portals):
        if portal.gone or (portal._released and portal.root == root):
            portal.close()


def _close_at_exit(portal: RecorderPortal) -> None:
    """Have it closed when the program ends.

    Not by `atexit`: that runs when the thread pools are shut down already. The hook of `threading`, which is
    what `concurrent.futures` uses for that, runs before, the last one first.
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
