"""A recorder whose captures are filled from a thread other than its event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from ...capture.episode import EpisodeCapture
from ...capture.unsaved import drop, keep_partial
from ...errors import StateError
from ...options import RecorderKeywords
from ...printable import get_logger
from ...recording.recorder import Recorder
from ...saving.handle import EpisodeSave, EpisodeSaveResult, Stage
from ...saving.saver import AsyncEpisodeSaver
from ...staging.folder import EpisodeFolder
from ...system.uncancellable import UncancellableTask, ended, finished

logger = get_logger(__name__)


class FedCapture(EpisodeCapture):
    """A capture that accepts a whole episode at once, and stores it when it is finished.

    Attributes:
        feed: adds all frames; called once, in the thread that finishes the episode. None for a live episode.
    """

    feed: Callable[[EpisodeCapture], None] | None = None

    def finish(self, interrupted: bool = False) -> EpisodeFolder:
        """As `EpisodeCapture.finish`, after calling `feed`. If that fails, nothing is kept.

        Raises:
            AiorecordError: as raised by `feed` and `EpisodeCapture.finish`.
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
        highest_index: the index that the next episode would have if none had failed.
        last_results: results that were not fetched before the recorder was closed.
    """

    capture_type = FedCapture

    def __init__(
        self, root: Path, /, *, fps: int, features: Mapping[str, Any], **options: Unpack[RecorderKeywords]
    ) -> None:
        # The name only selects a default folder, and lerobot allows more names than aiorecord.
        options |= {"root": root, "resume": True}
        super().__init__("dataset", fps=fps, features=features, **options)
        self.highest_index = 0
        self._ended_episodes = 0
        self._warned_of_disk = False
        self.last_results: list[EpisodeSaveResult] = []
        self._live: set[EpisodeCapture] = set()
        self._renewing: UncancellableTask[None] | None = None

    @property
    def failures(self) -> list[EpisodeSaveResult]:
        """Results of the failed saves, oldest first."""
        return [save.result() for save in self._failed if save.stage is Stage.FAILED]

    @property
    def expected_episodes(self) -> int:
        """Number of episodes in the dataset if every save under way succeeds. Call it on the event loop."""
        return self._ended_episodes - len(self.failures)

    async def next_capture(self) -> FedCapture:
        """The next episode's capture, ready for its first frame, once there is room for one.

        Raises:
            DiskFullError: there is no room.
            AiorecordError: it could not be made.
            StateError: the recorder is closed.
        """
        if self._closing is not None:
            raise StateError("The dataset is finalized.")
        await self.wait_for_room()
        capture = await self._standby.take()
        assert isinstance(capture, FedCapture)
        self._live.add(capture)
        capture.annotate({"limits": asdict(self.options.limits)})
        return capture

    async def submit(self, capture: EpisodeCapture, task: str, length: int, priority: int = 0) -> bool:
        """Save an ended episode in the background; False if the queue is full and nothing was done."""
        if self._queue_is_full:
            return False
        capture.manifest.priority = priority
        if not self.saver.submit_episode(self._ended_save(capture, task, length)):
            return False
        self._accepted(capture)
        return True

    async def submit_feed(
        self, feed: Callable[[EpisodeCapture], None], task: str, length: int, priority: int = 0
    ) -> bool:
        """Likewise for an episode that `feed` adds to a capture of its own."""
        if self._queue_is_full:
            return False
        capture = await self.next_capture()
        capture.feed = feed
        if await self.submit(capture, task, length, priority):
            return True
        self.drop(capture)
        return False

    async def save(self, capture: EpisodeCapture, task: str, length: int) -> EpisodeSaveResult:
        """Save an ended episode and return when it is committed.

        Raises:
            SaveError: it was not.
        """
        save = self._ended_save(capture, task, length)
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
        """Discard a capture in the background."""
        self._live.discard(capture)
        self._tasks.finish(drop(capture, self._threads), f"aiorecord-discard-{capture.id}")

    async def renew_saver(self, max_queue_size: int, save_timeout: float | None) -> None:
        """Replace the saver by one with other limits and fresh counts, once the pending saves are done.

        Cancelling waits for that.

        Raises:
            ConfigError: a limit is invalid.
            StateError: the recorder is closed.
        """
        if self._closing is not None:
            raise StateError("The dataset is finalized.")
        while self._renewing is not None:
            await ended(self._renewing)
        work = self._renew_saver(max_queue_size, save_timeout)
        renewing = self._renewing = UncancellableTask(work, name="aiorecord-renew-saver")
        renewing.add_done_callback(self._renewed)
        await finished(renewing)

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._renewing = None

    async def _renew_saver(self, max_queue_size: int, save_timeout: float | None) -> None:
        renewed = AsyncEpisodeSaver(
            self.writer,
            max_queue_size=max_queue_size,
            save_timeout=save_timeout,
            encode_executor=self.saver.executor,
            encode_workers=self.options.encode_workers,
            clock=self.clock,
            save_order=self.options.save_order,
            fallback_vcodec=self.options.fallback_vcodec,
        )
        await self.saver.stop()
        await renewed.start()
        self._saver = renewed
        if self._disk is not None:
            self._disk.follow(renewed)

    async def let_go(self) -> None:
        """Wait until every ended episode is durable, then stop the encodes."""
        for save in self.saver.pending:
            await save.wait_durable()
        self.saver.abandon()

    def leave(self) -> None:
        """Close the files after the loop has ended, without it and without a new thread. Blocking."""
        for capture in self._live:
            if capture.length:
                capture.keep(True)
            else:
                capture.discard()
        self._standby.discard()
        if self._pool is not None:
            self._pool.shutdown()
        self._home.close()
        self._events.close()
        if self._unclosed is not None:
            self._unclosed.detach()

    @property
    def _queue_is_full(self) -> bool:
        status = self.saver.get_status()
        return bool(status["queue_size"] >= status["max_queue_size"])

    def _ended_save(self, capture: EpisodeCapture, task: str, length: int) -> EpisodeSave:
        cameras, limits = capture.status().cameras, self.options.limits
        flags = limits.flags({}, cameras, pace=capture.pace, fps=self.fps) if capture.length else []
        return self._save_of(capture, task, length, hold=False, flags=flags)

    def _accepted(self, capture: EpisodeCapture) -> None:
        self._live.discard(capture)
        self._ended_episodes += 1
        self.highest_index += 1

    async def _finish_staged(self) -> None:
        await super()._finish_staged()
        self._ended_episodes = self.highest_index = self.writer.total_episodes + len(self.saver.pending)

    def _running_folder(self) -> Path | None:
        return max((c.path for c in list(self._live) if c.length), default=None)

    def _end_running(self, reason: str) -> None:
        # The caller's code decides when its episode ends; the next one is refused.
        if not self._warned_of_disk:
            self._warned_of_disk = True
            logger.warning("%s No further episode can begin; save this one.", reason)

    async def _close(self, drain: bool) -> None:
        if self._renewing is not None:
            await asyncio.wait((self._renewing,))
        try:
            while self._live:
                capture = self._live.pop()
                error = StateError("The dataset was closed while it recorded.")
                await keep_partial(capture, error, self._threads)
        finally:
            await super()._close(drain)
            if self._saver is not None:
                self.last_results = await self._saver.get_results()
