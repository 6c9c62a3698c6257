"""What everybody who records into a dataset shares: opening, captures, saves, packing, and closing.

`Recorder` and `Episode` use it for applications, lerobot's drop-in for its own recorder. It checks neither
threads nor loops: that is for those whom people call, with `RecorderCore.owner`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clock import Clock, SystemClock
from ..encoded_image import EncodedImage
from ..errors import StateError
from ..features import Schema
from ..options import RecorderOptions
from ..printable import get_logger
from ..saving.failed import FailedSaves
from ..system.loop_owner import LoopOwner
from ..system.shared_ending import SharedEnding
from ..system.tasks import TaskOwner
from ..system.threads import Threads
from ..system.uncancellable import UncancellableTask, finished, load_shield
from .captures import Captures
from .current_recording import Recording
from .limits import check_limits, check_rate
from .packing import Packing
from .recorder_events import Events, SaveChanged
from .standby import Standby
from .unclosed import watch_unclosed

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from ..capture.episode import EpisodeCapture
    from ..dataset.commit.writer import DatasetWriter
    from ..dataset.recovery.salvage import StagedEpisode
    from ..saving.disk_guard import DiskGuard
    from ..saving.handle import EpisodeSave
    from ..saving.saver import AsyncEpisodeSaver
    from ..staging.folder import EpisodeFolder
    from ..workers.pool import WorkerPool
    from .checked_frames import CheckedFrames
    from .open_dataset import DatasetHome

logger = get_logger(__name__)

NOT_OPEN = "The recorder is not open: use `async with Recorder(...)` or `await aiorecord.open`."
CLOSED = "The recorder is closed."


class RecorderCore:
    """One dataset while it is recorded into.

    Args:
        root: the dataset's folder.
        fps: frames per second.
        schema: the features.
        options: of the recorder.
        clock: the clock of ticks and reports; None makes one, which is closed with the core.
        capture_type: captures episodes; None is `EpisodeCapture`.
        on_closed: awaited last of all, when the saver has stopped and the dataset is released.

    Attributes:
        owner: the event loop and process that it belongs to.
        captures: how the cameras are captured.
        packing: merges the files of single episodes.
        recovered: what resuming found in staging, and what became of it.
        episodes_at_open: episodes in the dataset, and those of earlier sessions that are being saved.
        recording: what is recorded now.
        last_save: the save of the episode before; it is released when the next one begins.
        newest_images: of the newest frame, by feature key.
        last_pace: how fast and how late the episode before was, as in `RecorderStatus`.
        events: its streams.
        failed: the saves that failed.

    Raises:
        ConfigError: a setting that cannot work.
    """

    def __init__(
        self,
        root: Path,
        fps: int,
        schema: Schema,
        options: RecorderOptions,
        clock: Clock | None = None,
        *,
        capture_type: type[EpisodeCapture] | None = None,
        on_closed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        check_rate(fps)
        check_limits(schema, fps, options)
        self.root, self.fps, self.schema, self.options = root, fps, schema, options
        self.clock: Clock = clock or SystemClock()
        self.owner = LoopOwner("recorder")
        self.captures = Captures(schema, fps, options, capture_type)
        self.recovered: list[StagedEpisode] = []
        self.episodes_at_open = 0
        self.recording: Recording | None = None
        self.last_save: EpisodeSave | None = None
        self.newest_images: dict[str, NDArray[Any] | EncodedImage] = {}
        self.last_pace: dict[str, Any] = {}
        self.events = Events()
        self.failed = FailedSaves()
        self.threads = Threads(3, "aiorecord")
        self.packing = Packing(self.threads, self.events)
        self.tasks = TaskOwner("aiorecord-recorder", on_cancel=lambda: self.begin_closing(drain=False))
        self.standby = Standby(self._prepare_capture, self.tasks, self.threads)
        self.disk: DiskGuard | None = None
        self.pool: WorkerPool | None = None
        self._on_closed = on_closed
        self._owns_clock = clock is None
        self._saver: AsyncEpisodeSaver | None = None
        self._opened = False
        self._opening = asyncio.Event()
        self._closing: SharedEnding[None] = SharedEnding(str(root), "aiorecord-recorder-close", self._abandon)
        self._unclosed: weakref.finalize[..., object] | None = None

    @cached_property
    def home(self) -> DatasetHome:
        """The dataset's folder, lock, staging area and writer."""
        from .open_dataset import DatasetHome

        return DatasetHome(self.root)

    @cached_property
    def checked_frames(self) -> CheckedFrames:
        """Checks frames against the features."""
        from .checked_frames import CheckedFrames

        return CheckedFrames(self.schema, self.options.nonfinite)

    @property
    def writer(self) -> DatasetWriter:
        """The dataset's writer.

        Raises:
            StateError: the recorder is not open.
        """
        return self.home.writer

    @property
    def open_writer(self) -> DatasetWriter | None:
        """Likewise, None before the dataset is open; then this imports nothing."""
        return self.home.writer if "home" in self.__dict__ and self.home.is_open else None

    @property
    def saver(self) -> AsyncEpisodeSaver:
        """The saver.

        Raises:
            StateError: the recorder is not open.
        """
        if self._saver is None:
            raise StateError(NOT_OPEN)
        return self._saver

    @property
    def is_open(self) -> bool:
        """Whether there is a saver; it stays true after closing."""
        return self._saver is not None

    @property
    def is_closing(self) -> bool:
        """Whether closing has begun."""
        return self._closing.has_begun

    async def open(self) -> None:
        """Open the dataset and prepare to record, as `Recorder.open` says."""
        if self._opened:
            raise StateError("A recorder is opened once; make a new one.")
        self._opened = True
        self._unclosed = watch_unclosed(self, self.root)
        try:
            try:
                await self._open()
            finally:
                self._opening.set()
        except BaseException:
            await self.aclose(drain=False)
            raise

    async def take_capture(self) -> EpisodeCapture:
        """The next episode's capture, ready for its first frame, once there is room for one.

        Raises:
            DiskFullError: there is no room.
            AiorecordError: it could not be made.
            StateError: the recorder is not open, or closed.
        """
        if not self._opened or self._saver is None:
            raise StateError(NOT_OPEN)
        if self.is_closing:
            raise StateError(CLOSED)
        await self.wait_for_room()
        capture = await self.standby.take()
        capture.folder.manifest.robot_type = self.captures.robot_type  # it may have become known since
        return capture

    async def wait_for_room(self) -> None:
        """Wait until ended episodes take no more than they may, and the disk has room; see `Recorder`.

        Raises:
            DiskFullError: the disk is full, and no save is pending that could make room.
        """
        if self.backlog_limit is not None:
            await self.saver.wait_for_backlog(self.backlog_limit)
        if self.disk is not None:
            await self.disk.admit()

    @property
    def backlog_limit(self) -> int | None:
        """Bytes that ended episodes may take in staging, None without a limit."""
        limit_gb = self.options.max_backlog_gb
        return max(1, int(limit_gb * 1e9)) if limit_gb else None

    def save_of(
        self,
        source: EpisodeCapture | EpisodeFolder,
        task: str,
        length: int,
        *,
        hold: bool = False,
        size: int = 0,
        flags: Sequence[str] = (),
    ) -> EpisodeSave:
        """The save of an ended episode, which is not submitted yet.

        Args:
            source: the capture that has just ended, or an episode that is on disk already.
            task: what the episode was recorded for.
            length: frames.
            hold: encode, but do not commit before it is released.
            size: bytes of an episode that is on disk already.
            flags: the limits that it exceeds, in words.
        """
        from ..saving.handle import EpisodeSave

        save = EpisodeSave(
            source, task=task, length=length, now_ns=self.clock.now_ns, hold=hold, bytes_on_disk=size
        )
        save.job.on_stage = lambda stage: self.events.publish(SaveChanged(save, stage))
        save.job.flag(flags)
        return save

    async def submit(self, save: EpisodeSave) -> None:
        """Save an ended episode in the background; in the foreground if the queue is full, or is to be so.

        Raises:
            SaveError: it was saved in the foreground, and that failed.
        """
        if not self.options.async_saving:
            await self.saver.save_now(save)
        elif not self.saver.submit_episode(save):
            logger.warning(
                "The save queue is full (%d): episode %s is saved in the foreground. A larger "
                "save_queue_size or a faster codec keeps the robot going.",
                self.options.save_queue_size,
                save.episode_id,
            )
            await self.saver.save_now(save)

    def make_saver(
        self, executor: Executor, max_queue_size: int, save_timeout: float | None
    ) -> AsyncEpisodeSaver:
        """A saver with the options of this recorder, apart from these two limits; it is not started.

        Raises:
            ConfigError: a limit is invalid.
        """
        from ..saving.saver import AsyncEpisodeSaver

        return AsyncEpisodeSaver(
            self.writer,
            max_queue_size=max_queue_size,
            save_timeout=save_timeout,
            encode_executor=executor,
            encode_workers=self.options.encode_workers,
            clock=self.clock,
            save_order=self.options.save_order,
            fallback_vcodec=self.options.fallback_vcodec,
            failed=self.failed,
        )

    def replace_saver(self, saver: AsyncEpisodeSaver) -> None:
        """Submit to another saver from now on; the one before has been stopped."""
        self._saver = saver
        if self.disk is not None:
            self.disk.follow(saver)

    async def drain(self, timeout: float | None = None) -> bool:
        """As `Recorder.drain`."""
        for save in self.saver.pending:
            save.release()
        return await self.saver.wait_for_completion(timeout)

    def note_robot(self, robot: object) -> None:
        """Store a robot's name as the dataset's ``robot_type``; see `Recorder.note_robot`."""
        name = getattr(robot, "name", None)
        if self.captures.robot_type is not None or not isinstance(name, str):
            return
        self.captures.robot_type = name
        writer = self.open_writer
        known = None if writer is None else writer.info.robot_type
        if known is not None and known != name:
            logger.warning("%s was recorded with the robot %r; this one is %r.", self.root, known, name)

    async def aclose(self, *, drain: bool = True) -> None:
        """Close the dataset, as `Recorder.aclose` says. Idempotent."""
        self.begin_closing(drain)
        try:
            await self._closing.wait()
        finally:
            if self._closing.is_done and self._unclosed is not None:
                self._unclosed.detach()

    def begin_closing(self, drain: bool) -> UncancellableTask[None]:
        """Start to close, unless that has begun; without `drain`, leave in staging what is not committed."""
        return self._closing.begin(lambda: self._close(drain), hurry=not drain)

    async def finish(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work at the end of an episode to its end, also if the caller is cancelled meanwhile.

        Args:
            work: what to run.
            name: of its task.
        """
        await finished(self.tasks.finish(work, name))

    def leave(self) -> None:
        """Close the files after the loop has ended, without it and without a new thread. Blocking."""
        self.standby.discard()
        if self.pool is not None:
            self.pool.shutdown()
        self.home.close()
        self.events.close()
        if self._unclosed is not None:
            self._unclosed.detach()

    @staticmethod
    def make_pool(workers: int) -> WorkerPool:
        """The encoder processes, where no executor was given."""
        from ..workers.pool import WorkerPool

        return WorkerPool(workers)

    async def _open(self) -> None:
        # Off the loop, and everything that comes later too.
        await self.threads.run(_load_parts)
        from ..saving.disk_guard import DiskGuard
        from ..saving.saver import default_encode_workers

        options = self.options
        await self.tasks.start()
        executor = options.encode_executor
        if executor is None:
            executor = self.pool = self.make_pool(options.encode_workers or default_encode_workers())
        await self.captures.choose_plans(executor, self.threads)
        await self.threads.run(self.home.open, self.schema, self.fps, options)
        self.captures.take_depth_of_dataset()
        self._saver = self.make_saver(executor, options.save_queue_size, options.save_timeout)
        await self._saver.start()
        self.disk = DiskGuard(
            self.root,
            int(options.min_free_gb * 1e9),
            self.fps,
            saver=self._saver,
            failed=self.failed,
            threads=self.threads,
            running=lambda: None if self.recording is None else self.recording.folder(),
            waiting=lambda: self.captures.budget.used,
            end_episode=self._end_recording,
        )
        await self.disk.measure()
        self.tasks.create(self.disk.run(), "aiorecord-disk")
        if options.resume:
            await self._finish_staged()
        self.standby.start()
        await self.standby.wait()

    async def _finish_staged(self) -> None:
        """Hand what an earlier session left in staging to the saver, ahead of what is new of its priority."""
        from ..dataset.recovery.salvage import ready, salvage

        self.recovered = await self.threads.run(salvage, self.writer, self.home.staging, self.options.partial)
        folders = ready(self.recovered)
        sizes = await self.threads.run(lambda: [folder.size_bytes() for folder in folders])
        self.saver.submit_recovered(
            [
                self.save_of(f, f.manifest.task, f.manifest.length or 0, size=size)
                for f, size in zip(folders, sizes, strict=True)
            ]
        )
        self.episodes_at_open = self.writer.total_episodes + len(self.saver.pending)

    def _prepare_capture(self) -> EpisodeCapture:
        # A camera that sent encoded images goes on doing so, most likely.
        encoded = [key for key, image in self.newest_images.items() if isinstance(image, EncodedImage)]
        return self.captures.prepare_capture(self.home.staging, encoded)

    def _end_recording(self, reason: str) -> None:
        if self.recording is not None:
            self.recording.request_end(reason)

    def _abandon(self) -> None:
        if self._saver is not None:
            self._saver.abandon()

    async def _close(self, drain: bool) -> None:
        self.standby.close()
        try:
            if self._opened:  # opening has to finish before its results can be released
                await self._opening.wait()
            try:
                if self.recording is not None:
                    error = StateError("The recorder was closed while it recorded.")
                    await self.recording.interrupt(error)
            finally:
                if self._saver is not None:
                    await self._stop_saver(self._saver, drain)
        finally:
            await self._release()

    async def _stop_saver(self, saver: AsyncEpisodeSaver, drain: bool) -> None:
        complete = await saver.stop(wait=drain)
        if complete and self.options.pack and drain and self.home.is_open:
            await self.packing.pack_at_end(self.writer)

    async def _release(self) -> None:
        # Last of all, when no call in a thread is left that needs it, the dataset. Whatever fails before: a
        # disk that lets nothing be deleted must not keep it locked.
        last = [self.home.close] if self.pool is None else [self.home.close, self.pool.shutdown]
        try:
            await self.tasks.aclose()
            for capture in self.failed.captures_not_on_disk():
                await self.threads.run(capture.let_go)
            await self.threads.run(self.standby.discard)
        finally:
            try:
                await self.threads.aclose(*last)
            finally:
                if self._owns_clock:
                    self.clock.close()
                self.events.close()
                if self._on_closed is not None:
                    await self._on_closed()


def _load_parts() -> None:
    load_shield()
    import_module("aiorecord.preload")
