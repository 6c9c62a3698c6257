"""The recorder: combines capture, saver and dataset writer in one object."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from ..capture.budget import ByteBudget
from ..clock import Clock, SystemClock, Ticker
from ..encoder_limits import MAX_FPS, check_video_limits
from ..encoders import VideoEncoderConfig
from ..errors import (
    ConfigError,
    SourceLostError,
    StateError,
    StorageError,
)
from ..features import Schema
from ..options import RecorderKeywords, check_repo_id, parse_options, resolve_root
from ..printable import get_logger
from ..quality import QualityLimits
from ..system.loop_owner import LoopOwner
from ..system.tasks import TaskOwner
from ..system.threads import Threads
from ..system.uncancellable import UncancellableTask, ended, finished, load_shield
from ..values import is_whole
from .recorder_events import (
    EpisodeBegan,
    EpisodeEnded,
    EpisodeOutcome,
    Events,
    EventStream,
    PackingBegan,
    PackingEnded,
    PackingFailed,
    RecorderEvent,
    SaveChanged,
)
from .standby import Standby
from .unclosed import watch_unclosed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..capture.episode import EpisodeCapture
    from ..dataset.commit.writer import DatasetWriter
    from ..dataset.packing.pack import PackResult
    from ..dataset.recovery.salvage import StagedEpisode
    from ..encoding.plans import EncodePlan
    from ..robots.protocols import Robot, Teleoperator
    from ..saving.disk_guard import DiskGuard
    from ..saving.failed import FailedSaves
    from ..saving.handle import EpisodeSave, Stage
    from ..saving.saver import AsyncEpisodeSaver
    from ..staging.folder import EpisodeFolder
    from ..workers.pool import WorkerPool
    from .checked_frames import CheckedFrames
    from .episode import Episode
    from .open_dataset import DatasetHome
    from .status import RecorderStatus

logger = get_logger(__name__)


class Recorder:
    """Records episodes into a LeRobotDataset v3.0 while the event loop runs the robot.

    Use it as an async context manager, or `aiorecord.open` and `aclose`.

    Leaving the block commits every ended episode, packs the files and releases the dataset. Cancelling that
    wait leaves what is not encoded yet in staging and closes at once. When a save failed and nobody awaited
    it, leaving the block raises its `SaveError`.

    Args:
        repo_id: the dataset's name, ``name`` or ``user/name``.
        fps: frames per second, a positive integer.
        features: LeRobot's feature dict.
        clock: the clock of ticks and reports.
        options: see `aiorecord.options.RecorderOptions`, of which these are the fields.

    Attributes:
        recovered: what resuming found in staging, and what became of it.

    Raises:
        ConfigError: a setting that cannot work.
        FeatureError: features that no dataset could hold.
    """

    capture_type: type[EpisodeCapture] | None = None
    """What captures an episode; a subclass of the recorder may name a subclass of `EpisodeCapture`."""

    def __init__(
        self,
        repo_id: str,
        *,
        fps: int,
        features: Mapping[str, Mapping[str, Any]],
        clock: Clock | None = None,
        **options: Unpack[RecorderKeywords],
    ) -> None:
        self.options = parse_options(options)
        self.repo_id = check_repo_id(repo_id)
        if not is_whole(fps, 1):
            raise ConfigError(
                f"fps must be a whole number of frames per second, 1 or more, not {fps!r}.", option="fps"
            )
        if fps > MAX_FPS:
            raise ConfigError(f"fps must be {MAX_FPS} or less, not {fps}.", option="fps")
        self.fps = fps
        self.schema = Schema(features)
        for camera in self.schema.videos.values():
            height, width, _ = camera.size_hwc
            encoder = self.options.depth_encoder if camera.is_depth else self.options.rgb_encoder
            check_video_limits(encoder, width, height, fps)
            if self.options.fallback_vcodec is not None and not camera.is_depth:
                from ..encoding.camera_encoding import fallback_encoder

                check_video_limits(
                    fallback_encoder(encoder, self.options.fallback_vcodec), width, height, fps
                )
        self.features = self.schema.as_dict(defaults=False)
        self.root = resolve_root(self.repo_id, self.options.root)
        self.clock: Clock = clock or SystemClock()
        self.encoders: dict[str, VideoEncoderConfig] = {}
        self.plans: dict[str, EncodePlan] = {}
        self.packed: PackResult | None = None
        self.recovered: list[StagedEpisode] = []
        self._owns_clock = clock is None
        self._owner = LoopOwner("recorder")
        self._budget = ByteBudget(int(self.options.buffer_mb * 2**20))
        self._threads = Threads(3, "aiorecord")
        self._tasks = TaskOwner("aiorecord-recorder", on_cancel=lambda: self._begin_closing(drain=False))
        self._standby = Standby(self._prepare_capture, self._tasks, self._threads)
        self._saver: AsyncEpisodeSaver | None = None
        self._disk: DiskGuard | None = None
        self._pool: WorkerPool | None = None
        self._episode: Episode | None = None
        self._last: EpisodeSave | None = None
        self._opened = False
        self._opening = asyncio.Event()
        self._robot_type = self.options.robot_type
        self._closing: UncancellableTask[None] | None = None
        self._closers = 0
        self._events = Events()
        self._last_pace: dict[str, Any] = {}
        self._newest_images: dict[str, NDArray[Any]] = {}
        self._unclosed: weakref.finalize[..., object] | None = None

    @cached_property
    def _home(self) -> DatasetHome:
        from .open_dataset import DatasetHome

        return DatasetHome(self.root)

    @property
    def _has_dataset(self) -> bool:
        """Whether the dataset is open. Asked before it ever was, this imports nothing."""
        return "_home" in self.__dict__ and self._home.is_open

    @cached_property
    def _failed(self) -> FailedSaves:
        from ..saving.failed import FailedSaves

        return FailedSaves()

    @cached_property
    def _checked(self) -> CheckedFrames:
        from .checked_frames import CheckedFrames

        return CheckedFrames(self.schema, self.options.nonfinite)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._owner.is_forked:
            return  # what ends a forked child says more; the dataset is its parent's
        await self.aclose()
        if error is None:
            self._failed.raise_unobserved()

    @property
    def saver(self) -> AsyncEpisodeSaver:
        """The saver behind this recorder.

        Raises:
            StateError: the recorder is not open.
        """
        if self._saver is None:
            raise StateError(
                "The recorder is not open: use `async with Recorder(...)` or `await aiorecord.open`."
            )
        return self._saver

    @property
    def writer(self) -> DatasetWriter:
        """The dataset's writer.

        Raises:
            StateError: the recorder is not open.
        """
        return self._home.writer

    async def open(self) -> None:
        """Check the codecs by opening them, lock the dataset, create or continue it, prepare to record.

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
        self._owner.check_process("Recorder.open()")
        self._owner.bind()
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

    def episode(
        self, task: str = "", *, hold: bool = False, limits: QualityLimits | None = None, priority: int = 0
    ) -> Episode:
        """An episode to record, as an async context manager.

        Args:
            task: what is being done, in words.
            hold: encode the episode when it ends, but commit it only when its save is released (the next
                episode and `aclose` do that too), so that it can be taken back until then.
            limits: what the quality record flags the episode for; default the recorder's.
            priority: of its save: of those that wait, higher ones are encoded and committed first. See
                `EpisodeSave.priority`.

        Raises:
            ConfigError: the task is no string, or the priority no whole number.
        """
        from .episode import Episode

        self._owner.check("Recorder.episode()")
        return Episode(self, task, hold, limits, priority)

    def ticks(self, seconds: float | None = None, *, fps: float | None = None) -> Ticker:
        """Deadlines at the dataset's rate: ``async for tick in recorder.ticks(seconds=10)``.

        While an episode is open, they count as its ticks in the quality record.

        Args:
            seconds: stop after this time; None goes on until `Ticker.end` or a break.
            fps: another rate.
        """
        self._owner.check("Recorder.ticks()")
        ticker = Ticker(self.clock, self.fps if fps is None else fps, seconds)
        if self._episode is not None:
            self._episode._count_ticks_of(ticker)
        return ticker

    async def record(
        self, robot: Robot, teleop: Teleoperator, *, seconds: float, task: str = "", priority: int = 0
    ) -> EpisodeSave:
        """Record one episode: observe, ask the teleoperator, act, add the frame, at the dataset's rate.

        Devices made by `aiorecord.guarded` are held when they fail; one that is lost ends the episode, which
        is kept and says why in `Episode.end_reason` and in the quality record.

        Args:
            robot: connected.
            teleop: connected.
            seconds: how long.
            task: what is being done, in words.
            priority: of its save, as in `episode`.

        Returns:
            The handle of its save, when the episode has ended (not when it is saved).

        Raises:
            SourceError: the robot or teleoperator failed; the partial episode stays in staging.
        """
        from ..robots.guarding.guard_pair import HeldFrames
        from ..robots.step import control_step
        from .device_frames import DeviceFrames

        self._owner.check_awaited("Recorder.record()")
        self.note_robot(robot)
        if round(seconds * self.fps) < 1:
            raise ConfigError(
                f"An episode of {seconds:g} s has no frame at {self.fps} fps; record {1 / self.fps:.3g} s "
                "or more.",
                option="seconds",
            )
        async with self.episode(task, priority=priority) as episode:
            held = HeldFrames.of(robot, teleop)
            frames = DeviceFrames(episode, robot, teleop, held, schema=self.schema, fps=self.fps)
            try:
                async for _ in self.ticks(seconds):
                    frames.add(await control_step(robot, teleop, self.features))
            except SourceLostError as error:
                if not episode.frames:
                    raise
                episode.request_end(str(error))
            frames.finish()
        return episode.save

    def note_robot(self, robot: Robot) -> None:
        """Store a robot's name as the dataset's ``robot_type``, if none was given and it has no episode yet.

        `record` and `Session` call it. A dataset of another robot is continued as it is, with a warning.
        """
        name = getattr(robot, "name", None)
        if self._robot_type is not None or not isinstance(name, str):
            return
        self._robot_type = name
        known = self._home.writer.info.robot_type if self._has_dataset else None
        if known is not None and known != name:
            logger.warning("%s was recorded with the robot %r; this one is %r.", self.root, known, name)

    async def take_back(self, save: EpisodeSave) -> bool:
        """Drop an ended episode that is not committed yet.

        Returns:
            False when it is too late.
        """
        self._owner.check_awaited("Recorder.take_back()")
        return await self.saver.discard(save)

    @property
    def backlog_is_full(self) -> bool:
        """Whether ended episodes take more in staging than `max_backlog_gb`: the next one must wait."""
        limit = self._backlog_limit
        return limit is not None and self.saver.backlog().bytes > limit

    async def wait_for_room(self) -> None:
        """Wait until ended episodes take at most `max_backlog_gb` in staging, as beginning an episode does.

        Then wait until the disk has more room than `min_free_gb`, as far as pending saves can make any.
        Ended episodes that are held are released, for their commits may be what makes room.

        Raises:
            DiskFullError: the disk is full, and no save is pending that could make room.
        """
        self._owner.check_awaited("Recorder.wait_for_room()")
        if self._backlog_limit is not None:
            await self.saver.wait_for_backlog(self._backlog_limit)
        if self._disk is not None:
            await self._disk.admit()

    @property
    def disk_is_full(self) -> bool:
        """Whether less is free than `min_free_gb`, so that no episode can begin."""
        return self._disk is not None and self._disk.status.is_full

    @property
    def _backlog_limit(self) -> int | None:
        limit_gb = self.options.max_backlog_gb
        return max(1, int(limit_gb * 1e9)) if limit_gb else None

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until every ended episode is committed or failed; held ones are released.

        Returns:
            False when `timeout` seconds passed first.
        """
        self._owner.check_awaited("Recorder.drain()")
        for save in self.saver.pending:
            save.release()
        return await self.saver.wait_for_completion(timeout)

    async def pack(self, progress: Callable[[int, int], None] | None = None) -> PackResult:
        """Merge the files of single episodes into lerobot's file sizes, by stream copy.

        Cancelling waits for the packing to end. `events` tells when it begins, ends and fails.

        Args:
            progress: called from a thread with bytes done and bytes in all.

        Raises:
            DatasetError: the dataset is damaged, or its folders cannot be replaced.
            StorageError: the disk refused, or does not have the room for it.
        """
        from ..dataset.packing.pack import PackResult, pack

        self._owner.check_awaited("Recorder.pack()")
        outcome: PackResult | BaseException | None = None

        def work() -> PackResult:  # whoever is cancelled meanwhile does not learn of it
            nonlocal outcome
            try:
                outcome = pack(self.writer, progress)
            except BaseException as error:
                outcome = error
                raise
            return outcome

        self._events.publish(PackingBegan())
        try:
            self.packed = await self._threads.run(work)
        finally:
            if isinstance(outcome, PackResult):
                self.packed, files = outcome, outcome.data_files + outcome.video_files
                self._events.publish(PackingEnded(outcome.merged_files, files, outcome.bytes))
            else:
                self._events.publish(PackingFailed(str(outcome or sys.exception())))
        return self.packed

    def get_status(self) -> RecorderStatus:
        """A snapshot; cheap."""
        from ..saving.backlog import Backlog
        from .status import RecorderStatus

        capture = self._episode._capture if self._episode is not None else None
        writer = self._home.writer if self._has_dataset else None
        return RecorderStatus(
            root=self.root,
            episodes=writer.total_episodes if writer else 0,
            frames=writer.total_frames if writer else 0,
            episode=capture.status() if capture is not None else None,
            saves=self._saver.get_status() if self._saver else {},
            pending=self._saver.pending if self._saver else [],
            queued_bytes=self._budget.used,
            nonfinite_frames=self._checked.nonfinite,
            plans=dict(self.plans),
            backlog=self._saver.backlog() if self._saver else Backlog(0, 0.0, 0),
            disk=self._disk.status if self._disk else None,
            flags=self._episode.flags if self._episode is not None else [],
            **(_pace_of(self._episode) if self._episode is not None else self._last_pace),
        )

    def events(self, *, limit: int = 1000) -> EventStream:
        """What happens from now on, for what shows it: ``async for event in recorder.events()``.

        Episodes that begin and end, the stages of saves, packing, and what a `Session` publishes: its phases,
        and what becomes of its sources. The stream ends when the recorder is closed. What is the case now,
        `get_status` says. Any number of streams may be read at a time, before the recorder is open too.

        Args:
            limit: events that may wait for a reader; further ones push the oldest out (`EventStream.missed`).
        """
        self._owner.check("Recorder.events()")
        return self._events.stream(limit)

    def publish(self, event: RecorderEvent) -> None:
        """Give an event of your own, a subclass of `RecorderEvent`, to the streams. Never blocks."""
        self._owner.check("Recorder.publish()")
        self._events.publish(event)

    @property
    def newest_images(self) -> dict[str, NDArray[Any]]:
        """The images of the newest frame, by feature key; empty before the first. To be looked at at once:
        they may be arrays into which their camera writes again.

        Colour is (H, W, 3) uint8, depth (H, W).
        """
        return dict(self._newest_images)

    async def aclose(self, *, drain: bool = True) -> None:
        """Close: commit what is pending, pack, release the dataset. Idempotent.

        Cancelling it leaves what is not committed in staging, closes the rest in order, then raises
        `asyncio.CancelledError`. While another task waits in `aclose` as well, cancelling ends only this
        wait, at once; the one that is left decides.

        Args:
            drain: False leaves what is not committed in staging at once.
        """
        self._owner.check_awaited("Recorder.aclose()")
        closing = self._begin_closing(drain)
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

    def _begin_closing(self, drain: bool) -> UncancellableTask[None]:
        """Start to close, unless that has begun; without `drain`, leave in staging what is not committed."""
        if self._closing is None:
            self._closing = UncancellableTask(
                self._close(drain), name="aiorecord-recorder-close", on_cancel=self._abandon
            )
        elif not drain:
            self._abandon()
        return self._closing

    async def _open(self) -> None:
        # Off the loop, and everything that comes later too.
        await self._threads.run(_load_parts)
        from ..encoding.plans.apply import settle_encoders, settle_plans
        from ..saving.disk_guard import DiskGuard
        from ..saving.saver import AsyncEpisodeSaver, default_encode_workers

        await self._tasks.start()
        executor = self.options.encode_executor
        workers = self.options.encode_workers or default_encode_workers()
        if executor is None:
            executor = self._pool = self._own_pool(workers)
        self.encoders = await settle_encoders(self.schema, self.options, self.fps, executor, self._threads)
        self.plans = await settle_plans(self.schema, self.options, self.fps, executor, self._threads)
        await self._threads.run(self._home.open, self.schema, self.fps, self.options)
        for key, feature in self.schema.videos.items():
            if feature.is_depth and key in self.encoders:
                self.encoders[key] = self.options.depth_encoder  # which may now be the dataset's
        self._saver = AsyncEpisodeSaver(
            self.writer,
            max_queue_size=self.options.save_queue_size,
            save_timeout=self.options.save_timeout,
            encode_executor=executor,
            encode_workers=workers,
            clock=self.clock,
            save_order=self.options.save_order,
            fallback_vcodec=self.options.fallback_vcodec,
        )
        await self._saver.start()
        self._disk = DiskGuard(
            self.root,
            int(self.options.min_free_gb * 1e9),
            self.fps,
            saver=self._saver,
            threads=self._threads,
            running=self._running_folder,
            waiting=lambda: self._budget.used,
            end_episode=self._end_running,
        )
        await self._disk.measure()
        self._tasks.create(self._disk.run(), "aiorecord-disk")
        if self.options.resume:
            await self._finish_staged()
        self._standby.start()
        await self._standby.wait()

    @staticmethod
    def _own_pool(workers: int) -> WorkerPool:
        from ..workers.pool import WorkerPool

        return WorkerPool(workers)

    async def _finish_staged(self) -> None:
        """Hand what an earlier session left in staging to the saver, ahead of what is new of its priority."""
        from ..dataset.recovery.salvage import ready, salvage

        self.recovered = await self._threads.run(
            salvage, self.writer, self._home.staging, self.options.partial
        )
        folders = ready(self.recovered)
        sizes = await self._threads.run(lambda: [folder.size_bytes() for folder in folders])
        self.saver.submit_recovered(
            [
                self._save_of(f, f.manifest.task, f.manifest.length or 0, hold=False, size=size)
                for f, size in zip(folders, sizes, strict=True)
            ]
        )

    def _prepare_capture(self) -> EpisodeCapture:
        from ..capture.episode import EpisodeCapture

        options = self.options
        return (self.capture_type or EpisodeCapture).prepare(
            self._home.staging,
            schema=self.schema,
            fps=self.fps,
            rgb_encoder=options.rgb_encoder,
            depth_encoder=options.depth_encoder,
            encoder_threads=options.encoder_threads,
            robot_type=self._robot_type,
            budget=self._budget,
            live=[key for key, plan in self.plans.items() if plan.mode == "live"],
        )

    async def _begin(self, episode: Episode) -> EpisodeCapture:
        if not self._opened or self._saver is None:
            raise StateError(
                "The recorder is not open: use `async with Recorder(...)` or `await aiorecord.open`."
            )
        if self._closing is not None:
            raise StateError("The recorder is closed.")
        if self._episode is not None:
            raise StateError("An episode is being recorded already; end it before the next begins.")
        self._episode = episode
        try:
            await self.wait_for_room()
            if self._closing is not None:
                raise StateError("The recorder is closed.")
            capture = await self._standby.take()
        except BaseException:
            self._episode = None
            raise
        capture.folder.manifest.robot_type = self._robot_type  # which may have become known since
        if self._last is not None:
            self._last.release()
        self._events.publish(EpisodeBegan(capture.id, episode.task))
        return capture

    def _running_folder(self) -> Path | None:
        capture = None if self._episode is None else self._episode._capture
        return None if capture is None else capture.path

    def _end_running(self, reason: str) -> None:
        if self._episode is not None and self._episode._capture is not None:
            self._episode.request_end(reason)

    async def _end(self, episode: Episode, error: BaseException | None) -> None:
        """Leave an episode's block; what has to be done for it is done whoever is cancelled meanwhile."""
        from ..capture.unsaved import drop, keep, keep_partial

        if episode._state == "ended":  # the closing came first
            if error is None:
                raise StateError(
                    "The recorder was closed while it recorded. The episode is in staging: "
                    f"`aiorecord recover {self.root}` brings it into the dataset."
                )
            return
        capture, self._episode = episode._capture, None
        self._last_pace = _pace_of(episode)
        episode._state = "ended"
        if capture is None:
            return
        name = f"aiorecord-end-{capture.id}"
        if capture.length and not episode._discarded:
            capture.annotate(episode._measured())
        kept: EpisodeOutcome = "saved" if error is None else "interrupted"
        outcome: EpisodeOutcome = "discarded" if episode._discarded else kept if capture.length else "empty"
        reason, flags = episode.end_reason, tuple(episode.flags)
        self._events.publish(EpisodeEnded(capture.id, episode.task, capture.length, outcome, reason, flags))
        if episode._discarded:
            # Behind the robot: deleting a long episode takes a while, and the next one may start now.
            self._tasks.finish(drop(capture, self._threads), f"aiorecord-discard-{capture.id}")
        elif error is not None:
            await finished(self._tasks.finish(keep_partial(capture, error, self._threads), name))
        elif capture.length == 0:
            await finished(self._tasks.finish(self._threads.run(capture.discard), name))
            raise StateError("The episode has no frames: nothing was saved. Call add_frame, or discard().")
        else:
            save = self._save_of(
                capture, episode.task, capture.length, hold=episode._hold, flags=episode.flags
            )
            if self._closing is not None or not self.saver.takes_episodes:
                # Others closed it meanwhile, or cancelled its tasks: the episode ended well all the same.
                await finished(self._tasks.finish(keep(capture, self._threads), name))
                raise StateError(
                    "The recorder was closed when the episode ended. The episode is in staging: "
                    f"`aiorecord recover {self.root}` brings it into the dataset."
                )
            episode._save = self._last = save
            if not self.options.async_saving:
                await self.saver.save_now(save)
            elif not self.saver.submit_episode(save):
                logger.warning(
                    "The save queue is full (%d): episode %s is saved in the foreground. A larger "
                    "save_queue_size or a faster codec keeps the robot going.",
                    self.options.save_queue_size,
                    capture.id,
                )
                await self.saver.save_now(save)

    def _save_of(
        self,
        source: EpisodeCapture | EpisodeFolder,
        task: str,
        length: int,
        *,
        hold: bool,
        size: int = 0,
        flags: Sequence[str] = (),
    ) -> EpisodeSave:
        from ..saving.handle import EpisodeSave

        save = EpisodeSave(
            source, task=task, length=length, now_ns=self.clock.now_ns, hold=hold, bytes_on_disk=size
        )
        save.on_failure = self._take_failed
        save.on_stage = self._stage_reached
        save.flag(flags)
        return save

    def _stage_reached(self, save: EpisodeSave, stage: Stage) -> None:
        self._events.publish(SaveChanged(save, stage))

    def _take_failed(self, save: EpisodeSave) -> None:
        self._failed.add(save)
        if self._disk is not None:
            self._disk.take_failed(save)

    def _abandon(self) -> None:
        if self._saver is not None:
            self._saver.abandon()

    async def _close(self, drain: bool) -> None:
        self._standby.close()
        try:
            if self._opened:  # what is being opened is let go of when it is there
                await self._opening.wait()
            if self._episode is not None:
                await self._end(self._episode, StateError("The recorder was closed while it recorded."))
            if self._saver is not None:
                complete = await self._saver.stop(wait=drain)
                if complete and self.options.pack and drain and self.packed is None and self._home.is_open:
                    await self._pack_if_possible()
        finally:
            await self._release()

    async def _pack_if_possible(self) -> None:
        try:
            await self.pack()
        except StorageError as error:
            # Every episode is in the dataset, which is valid with small files too.
            logger.warning("The dataset is complete, but its small files were not merged: %s", error)

    async def _release(self) -> None:
        # Last of all, when no call in a thread is left that needs it, the dataset. Whatever fails before: a
        # disk that lets nothing be deleted must not keep it locked.
        last = [self._home.close] if self._pool is None else [self._home.close, self._pool.shutdown]
        try:
            await self._tasks.aclose()
            for capture in self._failed.not_on_disk():
                await self._threads.run(capture.let_go)
            await self._threads.run(self._standby.discard)
        finally:
            try:
                await self._threads.aclose(*last)
            finally:
                if self._owns_clock:
                    self.clock.close()
                self._events.close()


def _pace_of(episode: Episode) -> dict[str, Any]:
    """How fast and how late an episode was, for `RecorderStatus`."""
    return {"fps": episode.pace.fps if episode.pace else None, "lateness": episode.lateness_so_far}


def _load_parts() -> None:
    load_shield()
    import_module("aiorecord.preload")


async def open_recorder(
    repo_id: str,
    *,
    fps: int,
    features: Mapping[str, Mapping[str, Any]],
    clock: Clock | None = None,
    **options: Unpack[RecorderKeywords],
) -> Recorder:
    """Open a `Recorder` without a block, for notebooks; close it with `await recorder.aclose()`.

    Takes the arguments of `Recorder` and raises what `Recorder.open` raises.
    """
    recorder = Recorder(repo_id, fps=fps, features=features, clock=clock, **options)
    await recorder.open()
    return recorder
