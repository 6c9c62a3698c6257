"""A recorder whose captures are filled from a thread other than its event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from ...capture.episode import EpisodeCapture
from ...capture.unsaved import drop, keep_partial
from ...clock import Clock
from ...errors import StateError
from ...features import Schema
from ...options import RecorderKeywords, parse_options, resolve_root
from ...printable import get_logger
from ...recording.core import RecorderCore
from ...recording.current_recording import Recording
from ...saving.handle import EpisodeSave
from ...saving.saver import AsyncEpisodeSaver
from ...saving.stages import EpisodeSaveResult
from ...staging.folder import EpisodeFolder
from ...system.uncancellable import UncancellableTask, ended, finished

logger = get_logger(__name__)


type Feed = Callable[[EpisodeCapture], None]
"""Adds all frames of an episode to a capture; called once, in the thread that finishes the episode."""


class FedCapture(EpisodeCapture):
    """A capture that accepts a whole episode at once, and stores it when it is finished.

    Attributes:
        feed: of an episode that is passed in; None for a live one.
    """

    feed: Feed | None = None

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


class PortalRecorder:
    """Records like `aiorecord.Recorder`, into captures that another thread fills, several at a time.

    Its coroutines run on the portal's loop.

    Args:
        root: the dataset's folder.
        fps: frames per second.
        features: LeRobot's feature dict.
        clock: of reports; None makes one.
        options: see `aiorecord.options.RecorderOptions`; the dataset is always continued.

    Attributes:
        core: what it shares with `Recorder`.
        highest_index: the index that the next episode would have if none had failed.
        last_results: results that were not fetched before the recorder was closed.

    Raises:
        ConfigError: a setting that cannot work.
        FeatureError: features that no dataset could hold.
    """

    def __init__(
        self,
        root: Path,
        /,
        *,
        fps: int,
        features: Mapping[str, Any],
        clock: Clock | None = None,
        **options: Unpack[RecorderKeywords],
    ) -> None:
        options |= {"root": root, "resume": True}
        parsed = parse_options(options)
        # lerobot allows more names of datasets than aiorecord, so only the folder counts.
        self.core = RecorderCore(
            resolve_root("dataset", root),
            fps,
            Schema(features),
            parsed,
            clock,
            capture_type=FedCapture,
            on_closed=self._keep_results,
        )
        self.core.recording = Recording(self._growing_folder, self._warn_of_disk, self._keep_live)
        self.root, self.schema, self.clock = self.core.root, self.core.schema, self.core.clock
        self.highest_index = 0
        self._warned_of_disk = False
        self.last_results: list[EpisodeSaveResult] = []
        self._live: set[EpisodeCapture] = set()
        self._renewing: UncancellableTask[None] | None = None

    @property
    def saver(self) -> AsyncEpisodeSaver:
        """The saver.

        Raises:
            StateError: the recorder is not open.
        """
        return self.core.saver

    async def open(self) -> None:
        """Open the dataset and prepare to record; see `Recorder.open`."""
        self.core.owner.check_process("Opening a dataset")
        self.core.owner.bind()
        await self.core.open()
        self.highest_index = self.core.episodes_at_open

    @property
    def failures(self) -> list[EpisodeSaveResult]:
        """Results of the failed saves, oldest first."""
        return [failed.job.result for failed in self.core.failed if failed.job.result is not None]

    @property
    def expected_episodes(self) -> int:
        """Number of episodes in the dataset if every save under way succeeds. Call it on the event loop."""
        return self.highest_index - len(self.failures)

    async def next_capture(self) -> FedCapture:
        """The next episode's capture, ready for its first frame, once there is room for one.

        Raises:
            DiskFullError: there is no room.
            AiorecordError: it could not be made.
            StateError: the recorder is closed.
        """
        if self.core.is_closing:
            raise StateError("The dataset is finalized.")
        capture = await self.core.take_capture()
        assert isinstance(capture, FedCapture)
        self._live.add(capture)
        capture.annotate({"limits": asdict(self.core.options.limits)})
        return capture

    async def submit(self, source: EpisodeCapture | Feed, task: str, length: int, priority: int = 0) -> bool:
        """Save an ended episode in the background.

        Args:
            source: its capture, or what adds the frames to one that is made for it.
            task: of the first frame.
            length: frames.
            priority: of the episodes that wait, higher ones are encoded and committed first.

        Returns:
            False if the queue is full, and nothing was done.
        """
        status = self.saver.get_status()
        if status["queue_size"] >= status["max_queue_size"]:
            return False
        capture = await self._capture_of(source)
        capture.manifest.priority = priority
        if self.saver.submit_episode(self._ended_save(capture, task, length)):
            self._accepted(capture)
            return True
        if capture is not source:
            self.drop(capture)
        return False

    async def save(self, source: EpisodeCapture | Feed, task: str, length: int) -> EpisodeSaveResult:
        """Save an ended episode, as given to `submit`, and return when it is committed.

        Raises:
            SaveError: it was not.
        """
        capture = await self._capture_of(source)
        save = self._ended_save(capture, task, length)
        self._accepted(capture)
        return await self.saver.save_now(save)

    async def _capture_of(self, source: EpisodeCapture | Feed) -> EpisodeCapture:
        if isinstance(source, EpisodeCapture):
            return source
        capture = await self.next_capture()
        capture.feed = source
        return capture

    def drop(self, capture: EpisodeCapture) -> None:
        """Discard a capture in the background."""
        self._live.discard(capture)
        self.core.tasks.finish(drop(capture, self.core.threads), f"aiorecord-discard-{capture.id}")

    async def renew_saver(self, max_queue_size: int, save_timeout: float | None) -> None:
        """Replace the saver by one with other limits and fresh counts, once the pending saves are done.

        Cancelling waits for that.

        Raises:
            ConfigError: a limit is invalid.
            StateError: the recorder is closed.
        """
        if self.core.is_closing:
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
        renewed = self.core.make_saver(self.saver.executor, max_queue_size, save_timeout)
        await self.saver.stop()
        await renewed.start()
        self.core.replace_saver(renewed)

    async def let_go(self) -> None:
        """Wait until every ended episode is durable, then stop the encodes."""
        for save in self.saver.pending:
            await save.job.wait_durable()
        self.saver.abandon()

    def leave(self) -> None:
        """Close the files after the loop has ended, without it and without a new thread. Blocking."""
        for capture in self._live:
            if capture.length:
                capture.keep(True)
            else:
                capture.discard()
        self.core.leave()

    def _ended_save(self, capture: EpisodeCapture, task: str, length: int) -> EpisodeSave:
        cameras, limits = capture.status().cameras, self.core.options.limits
        flags = limits.flags({}, cameras, pace=capture.pace, fps=self.core.fps) if capture.length else []
        return self.core.save_of(capture, task, length, flags=flags)

    def _accepted(self, capture: EpisodeCapture) -> None:
        self._live.discard(capture)
        self.highest_index += 1

    def _growing_folder(self) -> Path | None:
        return max((c.path for c in list(self._live) if c.length), default=None)

    def _warn_of_disk(self, reason: str) -> None:
        # The caller's code decides when its episode ends; the next one is refused.
        if not self._warned_of_disk:
            self._warned_of_disk = True
            logger.warning("%s No further episode can begin; save this one.", reason)

    async def _keep_live(self, error: StateError) -> None:
        if self._renewing is not None:
            await asyncio.wait((self._renewing,))
        while self._live:
            await keep_partial(self._live.pop(), error, self.core.threads)

    async def _keep_results(self) -> None:
        if self.core.is_open:
            self.last_results = await self.saver.get_results()
