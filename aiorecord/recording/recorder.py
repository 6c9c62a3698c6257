"""The recorder: combines capture, saver and dataset writer in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from ..clock import Clock, Ticker
from ..encoded_image import EncodedImage
from ..encoders import VideoEncoderConfig
from ..errors import (
    ConfigError,
    SourceLostError,
)
from ..features import Schema
from ..options import RecorderKeywords, check_repo_id, parse_options, resolve_root
from ..printable import get_logger
from ..quality import QualityLimits
from .core import RecorderCore
from .recorder_events import (
    EventStream,
    RecorderEvent,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..dataset.commit.writer import DatasetWriter
    from ..dataset.packing.pack import PackResult
    from ..dataset.recovery.salvage import StagedEpisode
    from ..encoding.plans.choice import EncodePlan
    from ..robots.protocols import Robot, Teleoperator
    from ..saving.handle import EpisodeSave
    from ..saving.saver import AsyncEpisodeSaver
    from .episode import Episode
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
        core: what it shares with `Episode` and lerobot's drop-in; for aiorecord's own use.
        recovered: what resuming found in staging, and what became of it.

    Raises:
        ConfigError: a setting that cannot work.
        FeatureError: features that no dataset could hold.
    """

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
        self.fps = fps
        self.schema = Schema(features)
        self.features = self.schema.as_dict(defaults=False)
        self.root = resolve_root(self.repo_id, self.options.root)
        self.core = RecorderCore(self.root, fps, self.schema, self.options, clock)
        self.clock = self.core.clock
        self._owner = self.core.owner

    @property
    def encoders(self) -> dict[str, VideoEncoderConfig]:
        """Settings of each camera's final video; empty before the recorder is open."""
        return self.core.captures.encoders

    @property
    def plans(self) -> dict[str, EncodePlan]:
        """How each camera is captured; empty before the recorder is open."""
        return self.core.captures.plans

    @property
    def packed(self) -> PackResult | None:
        """The outcome of packing, None if nothing was packed."""
        return self.core.packing.packed

    @property
    def recovered(self) -> list[StagedEpisode]:
        """What resuming found in staging, and what became of it."""
        return self.core.recovered

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._owner.is_forked:
            return  # the error that ends a forked child is raised; the dataset belongs to its parent
        await self.aclose()
        if error is None:
            self.core.failed.raise_unobserved()

    @property
    def saver(self) -> AsyncEpisodeSaver:
        """The recorder's saver.

        Raises:
            StateError: the recorder is not open.
        """
        return self.core.saver

    @property
    def writer(self) -> DatasetWriter:
        """The dataset's writer.

        Raises:
            StateError: the recorder is not open.
        """
        return self.core.writer

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
        self._owner.check_process("Recorder.open()")
        self._owner.bind()
        await self.core.open()

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
        return Episode(self.core, task, hold, limits, priority)

    def ticks(self, seconds: float | None = None, *, fps: float | None = None) -> Ticker:
        """Deadlines at the dataset's rate: ``async for tick in recorder.ticks(seconds=10)``.

        While an episode is open, they count as its ticks in the quality record.

        Args:
            seconds: stop after this time; None goes on until `Ticker.end` or a break.
            fps: another rate.
        """
        self._owner.check("Recorder.ticks()")
        ticker = Ticker(self.clock, self.fps if fps is None else fps, seconds)
        if self.core.recording is not None:
            self.core.recording.count_ticks_of(ticker)
        return ticker

    async def record(
        self, robot: Robot, teleop: Teleoperator, *, seconds: float, task: str = "", priority: int = 0
    ) -> EpisodeSave:
        """Record one episode: observe, ask the teleoperator, act, add the frame, at the dataset's rate.

        Devices made by `aiorecord.guarded` are held when they fail; one that is lost ends the episode, which
        is kept and says why in `Episode.end_reason` and in the quality record. So does a disk or a capture
        encoder that takes no more frames.

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
            StorageError: the disk took not even the first frame.
            EncodeError: likewise a capture encoder.
        """
        from .device_frames import DeviceFrames
        from .device_loop import drive_devices

        self._owner.check_awaited("Recorder.record()")
        self.note_robot(robot)
        if round(seconds * self.fps) < 1:
            raise ConfigError(
                f"An episode of {seconds:g} s has no frame at {self.fps} fps; record {1 / self.fps:.3g} s "
                "or more.",
                option="seconds",
            )
        async with self.episode(task, priority=priority) as episode:
            frames = DeviceFrames(self.core, episode, robot, teleop)
            await drive_devices(
                self.ticks(seconds),
                robot,
                teleop,
                self.features,
                frames,
                is_fatal=lambda error: not (isinstance(error, SourceLostError) and episode.frames),
            )
            frames.note_sources()
        return episode.save

    def note_robot(self, robot: Robot) -> None:
        """Store a robot's name as the dataset's ``robot_type``, if none was given and it has no episode yet.

        `record` and `Session` call it. A dataset of another robot is continued as it is, with a warning.
        """
        self.core.note_robot(robot)

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
        limit = self.core.backlog_limit
        return limit is not None and self.saver.backlog().bytes > limit

    async def wait_for_room(self) -> None:
        """Wait until ended episodes take at most `max_backlog_gb` in staging, as beginning an episode does.

        Then wait until the disk has more room than `min_free_gb`, as far as pending saves can make any.
        Ended episodes that are held are released, for their commits may be what makes room.

        Raises:
            DiskFullError: the disk is full, and no save is pending that could make room.
        """
        self._owner.check_awaited("Recorder.wait_for_room()")
        await self.core.wait_for_room()

    @property
    def disk_is_full(self) -> bool:
        """Whether less is free than `min_free_gb`, so that no episode can begin."""
        return self.core.disk is not None and self.core.disk.status.is_full

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until every ended episode is committed or failed; held ones are released.

        Returns:
            False when `timeout` seconds passed first.
        """
        self._owner.check_awaited("Recorder.drain()")
        return await self.core.drain(timeout)

    async def pack(self, progress: Callable[[int, int], None] | None = None) -> PackResult:
        """Merge the files of single episodes into lerobot's file sizes, by stream copy.

        Cancelling waits for the packing to end. `events` tells when it begins, ends and fails.

        Args:
            progress: called from a thread with bytes done and bytes in all.

        Raises:
            DatasetError: the dataset is damaged, or its folders cannot be replaced.
            StorageError: the disk refused, or does not have the room for it.
        """
        self._owner.check_awaited("Recorder.pack()")
        return await self.core.packing.pack(self.writer, progress)

    def get_status(self) -> RecorderStatus:
        """A snapshot; cheap."""
        from ..saving.backlog import Backlog
        from .status import RecorderStatus

        core = self.core
        saver = core.saver if core.is_open else None
        writer, running = core.open_writer, core.recording
        return RecorderStatus(
            root=self.root,
            episodes=writer.total_episodes if writer else 0,
            frames=writer.total_frames if writer else 0,
            saves=saver.get_status() if saver else {},
            pending=saver.pending if saver else [],
            queued_bytes=core.captures.budget.used,
            nonfinite_frames=core.checked_frames.nonfinite,
            plans=dict(core.captures.plans),
            backlog=saver.backlog() if saver else Backlog(0, 0.0, 0),
            disk=core.disk.status if core.disk else None,
            **(running.status() if running else {"episode": None, "flags": [], **core.last_pace}),
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
        return self.core.events.stream(limit)

    def publish(self, event: RecorderEvent) -> None:
        """Give an event of your own, a subclass of `RecorderEvent`, to the streams. Never blocks."""
        self._owner.check("Recorder.publish()")
        self.core.events.publish(event)

    @property
    def newest_images(self) -> dict[str, NDArray[Any] | EncodedImage]:
        """The images of the newest frame, by feature key; empty before the first. To be looked at at once:
        they may be arrays into which their camera writes again.

        Colour is (H, W, 3) uint8, or an `EncodedImage` as it was recorded; depth is (H, W).
        """
        return dict(self.core.newest_images)

    async def aclose(self, *, drain: bool = True) -> None:
        """Close: commit what is pending, pack, release the dataset. Idempotent.

        Cancelling it leaves what is not committed in staging, closes the rest in order, then raises
        `asyncio.CancelledError`. While another task waits in `aclose` as well, cancelling ends only this
        wait, at once; the one that is left decides.

        Args:
            drain: False leaves what is not committed in staging at once.
        """
        self._owner.check_awaited("Recorder.aclose()")
        await self.core.aclose(drain=drain)


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
