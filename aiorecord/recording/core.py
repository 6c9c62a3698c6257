"""What everybody who records into a dataset shares: opening, captures, saves, packing, and closing.

`Recorder` and `Episode` use it for applications, lerobot's drop-in for its own recorder. It checks neither
threads nor loops: that is for those whom people call, with `RecorderCore.owner`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..capture.budget import ByteBudget
from ..clock import Clock, SystemClock, Ticker
from ..encoders import VideoEncoderConfig
from ..errors import StateError, StorageError
from ..features import Schema
from ..options import RecorderOptions
from ..printable import get_logger
from ..system.loop_owner import LoopOwner
from ..system.tasks import TaskOwner
from ..system.threads import Threads
from ..system.uncancellable import UncancellableTask, ended, finished, load_shield
from .limits import check_limits, check_rate
from .recorder_events import Events, SaveChanged
from .standby import Standby
from .unclosed import watch_unclosed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..capture.episode import EpisodeCapture
    from ..dataset.commit.writer import DatasetWriter
    from ..dataset.packing.pack import PackResult
    from ..dataset.recovery.salvage import StagedEpisode
    from ..encoding.plans.choice import EncodePlan
    from ..saving.disk_guard import DiskGuard
    from ..saving.failed import FailedSaves
    from ..saving.handle import EpisodeSave, Stage
    from ..saving.saver import AsyncEpisodeSaver
    from ..staging.folder import EpisodeFolder
    from ..workers.pool import WorkerPool
    from .checked_frames import CheckedFrames
    from .open_dataset import DatasetHome

logger = get_logger(__name__)

NOT_OPEN = "The recorder is not open: use `async with Recorder(...)` or `await aiorecord.open`."
CLOSED = "The recorder is closed."


@dataclass(frozen=True)
class Recording:
    """What is recorded now, as a core sees it: called on the event loop.

    Attributes:
        folder: the folder in staging that grows, None if there is none.
        request_end: asks that the recording ends now and is kept, for a reason in words; never blocks.
        interrupt: keeps in staging what was recorded so far: the recorder is closed.
        count_ticks_of: takes a ticker whose ticks are those of the recording.
        status: the fields of `RecorderStatus` that are about it.
    """

    folder: Callable[[], Path | None]
    request_end: Callable[[str], None]
    interrupt: Callable[[StateError], Awaitable[None]]
    count_ticks_of: Callable[[Ticker], None] = lambda ticker: None
    status: Callable[[], dict[str, Any]] = dict


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
        encoders: settings of each camera's final video, once it is open.
        plans: how each camera is captured, likewise.
        packed: the outcome of packing, None if nothing was packed.
        recovered: what resuming found in staging, and what became of it.
        episodes_at_open: episodes in the dataset, and those of earlier sessions that are being saved.
        recording: what is recorded now.
        last_save: the save of the episode before; it is released when the next one begins.
        robot_type: stored in the dataset if it has no episode yet.
        newest_images: of the newest frame, by feature key.
        last_pace: how fast and how late the episode before was, as in `RecorderStatus`.
        events: its streams.

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
        self.encoders: dict[str, VideoEncoderConfig] = {}
        self.plans: dict[str, EncodePlan] = {}
        self.packed: PackResult | None = None
        self.recovered: list[StagedEpisode] = []
        self.episodes_at_open = 0
        self.recording: Recording | None = None
        self.last_save: EpisodeSave | None = None
        self.robot_type = options.robot_type
        self.newest_images: dict[str, NDArray[Any]] = {}
        self.last_pace: dict[str, Any] = {}
        self.events = Events()
        self.budget = ByteBudget(int(options.buffer_mb * 2**20))
        self.threads = Threads(3, "aiorecord")
        self.tasks = TaskOwner("aiorecord-recorder", on_cancel=lambda: self.begin_closing(drain=False))
        self.standby = Standby(self._prepare_capture, self.tasks, self.threads)
        self.disk: DiskGuard | None = None
        self.pool: WorkerPool | None = None
        self._capture_type = capture_type
        self._on_closed = on_closed
        self._owns_clock = clock is None
        self._saver: AsyncEpisodeSaver | None = None
        self._opened = False
        self._opening = asyncio.Event()
        self._closing: UncancellableTask[None] | None = None
        self._closers = 0
        self._unclosed: weakref.finalize[..., object] | None = None

    @cached_property
    def home(self) -> DatasetHome:
        """The dataset's folder, lock, staging area and writer."""
        from .open_dataset import DatasetHome

        return DatasetHome(self.root)

    @cached_property
    def failed(self) -> FailedSaves:
        """The saves that failed."""
        from ..saving.failed import FailedSaves

        return FailedSaves()

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
        return self._closing is not None

    async def open(self) -> None:
        """Try the codecs, lock the dataset, create or continue it, prepare to record.

        Cancelling it closes what was opened.

        Raises:
            CodecUnavailableError: a codec cannot be opened as configured; nothing was written.
            DatasetLockedError: another process records into the dataset.
            DatasetError: the folder holds something else, or a dataset that does not match.
            StorageError: the disk refused.
            StateError: it was opened before.
        """
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
        if self._closing is not None:
            raise StateError(CLOSED)
        await self.wait_for_room()
        capture = await self.standby.take()
        capture.folder.manifest.robot_type = self.robot_type  # it may have become known since
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
        save.on_failure = self._take_failed
        save.on_stage = self._stage_reached
        save.flag(flags)
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

    def replace_saver(self, saver: AsyncEpisodeSaver) -> None:
        """Submit to another saver from now on; the one before has been stopped."""
        self._saver = saver
        if self.disk is not None:
            self.disk.follow(saver)

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until every ended episode is committed or failed; held ones are released.

        Returns:
            False when `timeout` seconds passed first.
        """
        for save in self.saver.pending:
            save.release()
        return await self.saver.wait_for_completion(timeout)

    async def pack(self, progress: Callable[[int, int], None] | None = None) -> PackResult:
        """Merge the files of single episodes; see `Recorder.pack`."""
        from .packing import pack_and_publish

        def ended(result: PackResult) -> None:
            self.packed = result

        return await pack_and_publish(self.writer, self.threads, self.events, progress, ended)

    def note_robot(self, robot: object) -> None:
        """Store a robot's name as the dataset's ``robot_type``; see `Recorder.note_robot`."""
        name = getattr(robot, "name", None)
        if self.robot_type is not None or not isinstance(name, str):
            return
        self.robot_type = name
        writer = self.open_writer
        known = None if writer is None else writer.info.robot_type
        if known is not None and known != name:
            logger.warning("%s was recorded with the robot %r; this one is %r.", self.root, known, name)

    async def aclose(self, *, drain: bool = True) -> None:
        """Commit what is pending, pack, release the dataset. Idempotent.

        Cancelling it leaves what is not committed in staging, closes the rest in order, then raises
        `asyncio.CancelledError`. While another task waits in `aclose` as well, cancelling ends only this
        wait, at once; the one that is left decides.

        Args:
            drain: False leaves what is not committed in staging at once.
        """
        closing = self.begin_closing(drain)
        self._closers += 1
        try:
            await asyncio.wait((closing,))
        except asyncio.CancelledError:
            if self._closers == 1:  # nobody else waits for the saves
                self._abandon()
                await ended(closing)
                if (error := closing.exception()) is not None:
                    logger.error("%s was closed with an error: %s", self.root, error)
            raise
        finally:
            self._closers -= 1
            if closing.done() and self._unclosed is not None:
                self._unclosed.detach()
        closing.result()

    def begin_closing(self, drain: bool) -> UncancellableTask[None]:
        """Start to close, unless that has begun; without `drain`, leave in staging what is not committed."""
        if self._closing is None:
            self._closing = UncancellableTask(
                self._close(drain), name="aiorecord-recorder-close", on_cancel=self._abandon
            )
        elif not drain:
            self._abandon()
        return self._closing

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
        from ..encoding.plans.apply import plan_cameras, try_encoders
        from ..saving.disk_guard import DiskGuard
        from ..saving.saver import AsyncEpisodeSaver, default_encode_workers

        options = self.options
        await self.tasks.start()
        executor = options.encode_executor
        workers = options.encode_workers or default_encode_workers()
        if executor is None:
            executor = self.pool = self.make_pool(workers)
        self.encoders = await try_encoders(self.schema, options, self.fps, executor, self.threads)
        self.plans = await plan_cameras(self.schema, options, self.fps, executor, self.threads)
        await self.threads.run(self.home.open, self.schema, self.fps, options)
        for key, feature in self.schema.videos.items():
            if feature.is_depth and key in self.encoders:
                self.encoders[key] = options.depth_encoder  # which may now be the dataset's
        self._saver = AsyncEpisodeSaver(
            self.writer,
            max_queue_size=options.save_queue_size,
            save_timeout=options.save_timeout,
            encode_executor=executor,
            encode_workers=workers,
            clock=self.clock,
            save_order=options.save_order,
            fallback_vcodec=options.fallback_vcodec,
        )
        await self._saver.start()
        self.disk = DiskGuard(
            self.root,
            int(options.min_free_gb * 1e9),
            self.fps,
            saver=self._saver,
            threads=self.threads,
            running=lambda: None if self.recording is None else self.recording.folder(),
            waiting=lambda: self.budget.used,
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
        from ..capture.episode import EpisodeCapture

        options = self.options
        return (self._capture_type or EpisodeCapture).prepare(
            self.home.staging,
            schema=self.schema,
            fps=self.fps,
            rgb_encoder=options.rgb_encoder,
            depth_encoder=options.depth_encoder,
            encoder_threads=options.encoder_threads,
            robot_type=self.robot_type,
            budget=self.budget,
            live=[key for key, plan in self.plans.items() if plan.mode == "live"],
        )

    def _end_recording(self, reason: str) -> None:
        if self.recording is not None:
            self.recording.request_end(reason)

    def _stage_reached(self, save: EpisodeSave, stage: Stage) -> None:
        self.events.publish(SaveChanged(save, stage))

    def _take_failed(self, save: EpisodeSave) -> None:
        self.failed.add(save)
        if self.disk is not None:
            self.disk.take_failed(save)

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
        if complete and self.options.pack and drain and self.packed is None and self.home.is_open:
            try:
                await self.pack()
            except StorageError as error:
                # Every episode is in the dataset, which is valid with small files too.
                logger.warning("The dataset is complete, but its small files were not merged: %s", error)

    async def _release(self) -> None:
        # Last of all, when no call in a thread is left that needs it, the dataset. Whatever fails before: a
        # disk that lets nothing be deleted must not keep it locked.
        last = [self.home.close] if self.pool is None else [self.home.close, self.pool.shutdown]
        try:
            await self.tasks.aclose()
            for capture in self.failed.not_on_disk():
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
