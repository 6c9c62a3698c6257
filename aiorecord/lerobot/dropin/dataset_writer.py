"""The object that `dataset.writer` returns: lerobot's `DatasetWriter` interface on aiorecord's recorder."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from lerobot.configs import infer_depth_unit
from lerobot.datasets import video_utils
from lerobot.datasets.dataset_writer import DatasetWriter
from lerobot.datasets.feature_utils import validate_episode_buffer, validate_frame

from ...encoders import DepthEncoderConfig, RGBEncoderConfig, VideoEncoderConfig
from ...errors import FrameError, StateError
from ...options import RecorderKeywords, check_priority
from ...printable import get_logger
from ...saving.stages import EpisodeSaveResult
from .buffers import EpisodeBuffer, HandedInEpisode, Recording, buffer_index, plain
from .dropin_recorder import PortalRecorder
from .image_writer import IdleImageWriter
from .lerobot_metadata import track, untrack
from .portal import RecorderPortal

logger = get_logger(__name__)


class LostImageError(FrameError, FileNotFoundError):
    """An image of the episode could not be stored, so the episode cannot be saved.

    lerobot detects such an image when it searches its file while saving, hence the second base class.
    """


class AsyncDatasetWriter(DatasetWriter):  # type: ignore[misc]  # lerobot is not typed
    """Writes a `LeRobotDataset` through aiorecord: lossless capture, background encoding, ordered commits.

    It has the same methods and errors as lerobot's writer. Made by `take_over`. Methods may be called from
    several threads; frames of one episode come from one at a time. `portal` has the recorder's loop.

    `start_image_writer`, `batch_encoding_size` and the streaming encoder have no effect: no image goes
    through a file, and every episode is encoded by itself.
    """

    _finalized = False

    def __init__(self, old: DatasetWriter, portal: RecorderPortal) -> None:
        self.portal = portal
        self._lock = threading.RLock()
        self._buffer: EpisodeBuffer | None = None
        super().__init__(
            meta=old._meta,
            root=old._root,
            rgb_encoder=old._rgb_encoder,
            depth_encoder=old._depth_encoder,
            encoder_threads=old._encoder_threads,
            batch_encoding_size=old._batch_encoding_size,
            streaming_encoder=old._streaming_encoder,
            initial_frames=old._meta.total_frames,
        )

    @classmethod
    def take_over(cls, old: DatasetWriter, **options: Unpack[RecorderKeywords]) -> AsyncDatasetWriter:
        """Replace a writer of lerobot's. Its saved episodes are finished first; its metadata stays updated.

        Args:
            old: not recording an episode.
            options: of `Recorder`, see `RecorderOptions`.

        Raises:
            StateError: it holds frames that are not saved.
            AiorecordError: what `Recorder.open` raises.
        """
        if old.episode_buffer is not None and old.episode_buffer["size"] > 0:
            raise StateError("Save the running episode or clear it before the dataset's writer is replaced.")
        image_writer = old.image_writer
        saved = old._latest_episode is not None
        old.finalize()
        meta = old._meta
        if saved:
            meta._load_metadata()
        settings = {
            "rgb_encoder": _encoder(old._rgb_encoder, RGBEncoderConfig),
            "depth_encoder": _encoder(old._depth_encoder, DepthEncoderConfig),
            "encoder_threads": old._encoder_threads,
            "robot_type": meta.robot_type,
        }

        root = Path(old._root).absolute()

        def make() -> PortalRecorder:
            return PortalRecorder(root, fps=meta.fps, features=meta.features, **{**settings, **options})

        portal = RecorderPortal(root, make)
        track(meta, portal.recorder.core.writer)
        try:
            writer = cls(old, portal)
        except BaseException:
            portal.close()
            raise
        if image_writer is not None:
            writer.start_image_writer(image_writer.num_processes, image_writer.num_threads)
        return writer

    @property
    def is_finalized(self) -> bool:
        """Whether it takes no more frames."""
        return self._finalized

    @property
    def recorder(self) -> PortalRecorder:
        """The recorder that it uses; its coroutines belong to the recorder's own loop, see `portal`."""
        return self.portal.recorder

    @property
    def expected_episodes(self) -> int:
        """Episodes that the dataset has when every save under way succeeds."""
        return self.portal.ask(lambda: self.recorder.expected_episodes)

    @property
    def failures(self) -> list[EpisodeSaveResult]:
        """Results of the failed saves, oldest first."""
        return self.portal.ask(lambda: self.recorder.failures)

    @property
    def episode_buffer(self) -> EpisodeBuffer | None:
        """The running episode. Assigning an empty buffer or None drops it."""
        return self._buffer

    @episode_buffer.setter
    def episode_buffer(self, value: Mapping[str, Any] | None) -> None:
        with self._lock:
            recording = value.recording if isinstance(value, EpisodeBuffer) else None
            if value is not None and value["size"] > 0 and recording is None:
                raise StateError("Pass an episode with frames to save_episode(buffer).")
            current = self._buffer.recording if self._buffer is not None else None
            if current is not None and current is not recording:
                self._drop(current)
            if value is not None and not isinstance(value, EpisodeBuffer):
                value = EpisodeBuffer(value)
            self._buffer = value

    def add_frame(self, frame: Mapping[str, Any]) -> None:
        """Record a frame. Never waits for the disk or an encoder; values are copied.

        Args:
            frame: a value for every feature, and ``task``; arrays, torch tensors, PIL images.

        Raises:
            ValueError: the frame does not fit the features; it was not recorded. Pixels that cannot
                be stored (floats outside [0, 1]) are reported when the episode is saved, as in lerobot.
            StateError: the dataset is finalized.
            StorageError: the disk accepted no more data; earlier frames stay in staging.
            EncodeError: a capture encoder failed; likewise.
        """
        self._check_open()
        values = {key: plain(value) for key, value in frame.items()}
        validate_frame(values, self._meta.features)
        task = values["task"]
        if not isinstance(task, str):
            raise FrameError(f"The task must be a string, not {type(task).__name__}.", key="task")
        with self._lock:
            if self._buffer is None:
                self._buffer = self._create_episode_buffer()
            buffer = self._buffer
            if buffer.recording is None:
                buffer.recording = Recording(self.portal.call(self.recorder.next_capture), task)
            index = buffer["size"]
            self._record(buffer.recording, values, task, index)
            for key, value in values.items():
                kept = None if key in self._cameras else value if isinstance(value, str) else np.array(value)
                buffer[key].append(kept)
            buffer["frame_index"].append(index)
            buffer["timestamp"].append(index / self._meta.fps)
            buffer["size"] += 1

    def save_episode(
        self, episode_data: Mapping[str, Any] | None = None, parallel_encoding: bool = True
    ) -> None:
        """Save the running episode, or one that is passed in, and return when it is committed.

        Waiting saves are committed first. An interrupt (Ctrl-C) ends the waiting, not the save.

        Args:
            episode_data: an episode buffer; it is not changed.
            parallel_encoding: ignored; cameras are encoded in parallel.

        Raises:
            ValueError: the buffer is empty, or does not fit the features.
            NotImplementedError: the buffer was made for another episode index.
            LostImageError: an image of the episode could not be stored.
            SaveError: the save failed; the episode stays in staging.
            StateError: the dataset is finalized, or the buffer was saved before.
        """
        self.portal.call(self.recorder.save, *self._foreground(episode_data))
        self._meta.refresh()

    async def asave_episode(self, episode_data: Mapping[str, Any] | None = None) -> None:
        """`save_episode` for asyncio: the caller's loop keeps running.

        Cancelling it ends the waiting; the save goes on. Raises what `save_episode` raises.
        """
        await self.portal.acall(self.recorder.save, *self._foreground(episode_data))
        self._meta.refresh()

    def save_behind(self, episode_data: Mapping[str, Any] | None = None, priority: int = 0) -> bool:
        """Save an episode in the background; see `AsyncLeRobotDataset.save_episode_async`.

        Returns:
            False when the queue is full; the episode is still the running one.
        """
        check_priority(priority)
        self._check_open()
        with self._lock:
            recording, arguments = self._ending(episode_data)
            accepted: bool = self.portal.call(self.recorder.submit, *arguments, priority)
            if accepted:
                self._ended(recording)
            return accepted

    def clear_episode_buffer(self, delete_images: bool = True) -> None:
        """Drop the running episode. Its files are deleted in the background."""
        self.episode_buffer = self._create_episode_buffer()

    def start_image_writer(self, num_processes: int = 0, num_threads: int = 4) -> None:
        """Set `image_writer` to one that does nothing."""
        self.image_writer = IdleImageWriter(num_processes, num_threads)

    def flush_pending_videos(self) -> None:
        """Wait until every ended episode is committed or failed."""
        if not self._finalized:
            self.portal.call(self.recorder.core.drain)

    def cancel_pending_videos(self) -> None:
        """Do nothing: an interrupted episode is kept in staging when the dataset is finalized."""

    def cleanup_interrupted_episode(self, episode_index: int) -> None:
        """Do nothing, as `cancel_pending_videos`."""

    def finalize(self) -> None:
        """Commit what is pending, pack the files, release the dataset, make it readable. Idempotent.

        The frames of an episode that was neither saved nor cleared are kept in staging, where `resume` and
        ``aiorecord recover`` find them. Saves that failed are logged once more and stay there too. An
        interrupt (Ctrl-C) leaves what is not committed in staging.

        Raises:
            AiorecordError: the packing failed; everything is committed and closed anyway.
        """
        if self._finalized:
            return
        with self._lock:
            self.stop_image_writer()
            try:
                self.portal.close()
            finally:
                self._finalized = True
                self._buffer = None
                self._recorded_frames = self._meta.total_frames
                untrack(self._meta)
                # Packed files may have names that other files had before.
                video_utils._default_decoder_cache.clear()
                self._buffer = self._create_episode_buffer()
        if failures := self.failures:
            logger.error(
                "%d episode(s) could not be saved and stay in staging: %s. Run `aiorecord recover` on %s.",
                len(failures),
                "; ".join(str(failure.error) for failure in failures),
                self.recorder.root,
            )

    def __getstate__(self) -> dict[str, Any]:
        """A finalized writer can be pickled, for the workers of a data loader."""
        if not self._finalized:
            raise StateError("A dataset that is being recorded cannot be pickled; finalize it first.")
        return {**self.__dict__, "portal": None, "_lock": None, "image_writer": None, "_buffer": None}

    def __del__(self) -> None:
        """Finish a dataset that was not finalized, in the background."""
        portal: RecorderPortal | None = getattr(self, "portal", None)
        if portal is not None:
            portal.release()

    @property
    def _cameras(self) -> Mapping[str, Any]:
        return self.recorder.schema.cameras

    def _check_open(self) -> None:
        if self._finalized or self.portal.closed:
            raise StateError("The dataset is finalized; `resume` it to record more.")

    def _create_episode_buffer(self, episode_index: int | None = None) -> EpisodeBuffer:
        if episode_index is None:
            episode_index = self._meta.total_episodes if self._finalized else self.expected_episodes
        buffer = EpisodeBuffer(size=0, task=[])
        for key in self._meta.features:
            buffer[key] = episode_index if key == "episode_index" else []
        return buffer

    def _record(self, recording: Recording, values: dict[str, Any], task: str, index: int) -> None:
        if recording.lost is not None:
            return
        if index == 0:
            self._note_depth_units(values)
        try:
            checked = self.recorder.core.checked_frames.check(values)
        except FrameError as error:
            if error.key not in self._cameras:
                raise
            logger.error("Frame %d: %s The episode cannot be saved.", index, error)
            recording.lost = LostImageError(str(error), key=error.key, frame_index=index)
            return
        recording.capture.add_frame(checked, task, self.recorder.clock.now_ns())

    def _note_depth_units(self, values: Mapping[str, Any]) -> None:
        """Set the depth unit from the first frame on, as lerobot does; the commit writes it."""
        for key in self._meta.depth_keys:
            feature = self._meta.features[key]
            info = feature.get("info") or {}
            dtype = np.asarray(values[key]).dtype
            # Before the first episode, a unit comes from the dataset whose features were copied.
            unknown = info.get("depth_unit") is None or not self._meta.total_episodes
            if unknown and dtype in (np.uint16, np.float32):
                feature["info"] = {**info, "depth_unit": infer_depth_unit(dtype)}

    def _foreground(self, episode_data: Mapping[str, Any] | None) -> tuple[Any, ...]:
        """End an episode; returns the arguments with which the recorder saves it."""
        self._check_open()
        with self._lock:
            recording, arguments = self._ending(episode_data)
            self._ended(recording, expected=1)
            return arguments

    def _ending(self, episode_data: Mapping[str, Any] | None) -> tuple[Recording | None, tuple[Any, ...]]:
        """Check an episode that is about to be saved.

        Returns:
            Its recording, None if it is passed in; the arguments with which the recorder saves it.
        """
        buffer: Mapping[str, Any] | None = episode_data if episode_data is not None else self._buffer
        if buffer is None:
            buffer = self._create_episode_buffer()
        index, committed = buffer_index(buffer), self._meta.total_episodes
        fits = index is not None and committed <= index <= self.recorder.highest_index
        checked = {**buffer, "episode_index": index}
        validate_episode_buffer(checked, index if fits else committed, self._meta.features)
        recording = buffer.recording if isinstance(buffer, EpisodeBuffer) else None
        if recording is None:
            episode = HandedInEpisode(buffer, self.recorder.schema, self._meta.fps)
            return None, (episode.feed, episode.tasks[0], episode.length)
        if recording.ended:
            raise StateError("This episode was saved or dropped before.")
        if recording.lost is not None:
            raise recording.lost
        if recording.capture.length != buffer["size"]:
            raise StateError("Frames were added after this buffer was copied.")
        return recording, (recording.capture, recording.task, recording.capture.length)

    def _ended(self, recording: Recording | None, expected: int = 0) -> None:
        """Let the next episode begin.

        Args:
            recording: the one that ended, None if it was passed in.
            expected: episodes being saved that the recorder does not count yet.
        """
        if recording is not None:
            recording.ended = True
        if self._buffer is None:
            return
        index = self.expected_episodes + expected
        if recording is not None and self._buffer.recording is recording:
            self._buffer = self._create_episode_buffer(index)
        else:
            self._buffer["episode_index"] = index  # another episode is saved before it

    def _drop(self, recording: Recording) -> None:
        if not recording.ended and not self.portal.closed:
            recording.ended = True
            self.portal.call(self.recorder.drop, recording.capture)


def _encoder[E: VideoEncoderConfig](given: Any, kind: type[E]) -> E:
    """lerobot's encoder settings as aiorecord's: the fields have the same names and meanings."""
    if isinstance(given, kind):
        return given
    fields = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in dataclasses.asdict(given).items() if name in fields})
