"""Captures one live episode: rows and cameras, journaled in a folder of the staging area."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ..encoders import DepthEncoderConfig, RGBEncoderConfig
from ..errors import AiorecordError, DamageError, EncodeError, StateError, StorageError
from ..features import CheckedFrame, Schema
from ..quality import Pace, PaceCounter, json_facts, versions
from ..staging.folder import EpisodeFolder, Staging
from ..staging.manifest import Manifest
from ..staging.rows import RowsJournal
from ..staging.whole_frames import soundness
from ..system.loop_owner import ProcessOwner
from ..system.machine_time import unix_ns
from ..system.storage import fsync_folder, storage_errors
from .budget import ByteBudget
from .camera import CameraCapture
from .camera_plan import plan_camera
from .frames import CameraStatus
from .journal import EpisodeJournal


@dataclass(frozen=True)
class CaptureStatus:
    """A live episode at one moment.

    Attributes:
        frames: frames recorded.
        cameras: by feature key.
    """

    frames: int
    cameras: dict[str, CameraStatus]


class EpisodeCapture:
    """Captures one episode. Made by `prepare`.

    `add_frame` and `status` belong to the event loop and never block; `prepare`, `finish` and `discard` block
    and belong in a thread. Between `prepare` and the first frame its threads sleep.

    Attributes:
        folder: the episode folder; its manifest is complete after `finish`.
        is_durable: it was finished: from then on neither a kill nor a power loss loses any of it.
    """

    def __init__(self, folder: EpisodeFolder, schema: Schema, budget: ByteBudget) -> None:
        self.folder = folder
        self._process = ProcessOwner("episode that is being captured")
        self._rows = RowsJournal(folder.rows_path, schema)
        self._cameras = {key: CameraCapture(key, folder, budget) for key in folder.manifest.cameras}
        self._pace = PaceCounter(folder.manifest.fps)
        self._ended = False
        self._is_over = False  # finished or discarded
        self.is_durable = False
        self._described = False
        self._ticked = False
        self._end_lock = threading.Lock()
        self._journal = EpisodeJournal(folder, self._rows, self._cameras, self._camera_facts)

    @classmethod
    def prepare(
        cls,
        staging: Staging,
        *,
        schema: Schema,
        fps: int,
        rgb_encoder: RGBEncoderConfig,
        depth_encoder: DepthEncoderConfig,
        encoder_threads: int | None = None,
        robot_type: str | None = None,
        budget: ByteBudget,
        live: Collection[str] = (),
        encoded: Collection[str] = (),
    ) -> Self:
        """Make everything ready for the first frame: folder, files, codecs, threads. Blocking.

        Args other than those of the `Manifest`:
            staging: where the folder is made.
            schema: the features.
            budget: memory for waiting frames, shared with other captures.
            live: keys of colour video cameras that are captured in their final codec.
            encoded: keys of cameras that are expected to send encoded images; they are not captured live.

        Raises:
            CodecUnavailableError: a capture codec cannot be opened; nothing is left behind.
            StorageError: the disk refused; files made so far are removed if possible.
        """
        cameras = {
            key: plan_camera(
                feature,
                depth_encoder if feature.is_depth else rgb_encoder,
                live=key in live,
                encoded=key in encoded,
            )
            for key, feature in schema.cameras.items()
        }
        folder = staging.create(
            Manifest(
                fps=fps,
                features=schema.as_dict(defaults=False),
                cameras=cameras,
                rgb_encoder=rgb_encoder,
                depth_encoder=depth_encoder,
                encoder_threads=encoder_threads,
                robot_type=robot_type,
                quality={"versions": versions()},
            )
        )
        capture: Self | None = None
        try:
            capture = cls(folder, schema, budget)
            capture._start()
        except BaseException:
            if capture is None:
                folder.remove()
            else:
                capture.discard()
            raise
        return capture

    @property
    def id(self) -> str:
        """The episode's id in staging."""
        return self.folder.id

    @property
    def manifest(self) -> Manifest:
        """What the episode folder holds."""
        return self.folder.manifest

    @property
    def path(self) -> Path:
        """The episode folder's path."""
        return self.folder.path

    @property
    def length(self) -> int:
        """Frames recorded."""
        return self._rows.rows

    @property
    def pace(self) -> Pace | None:
        """How fast its frames came; None when their times were not measured while recording."""
        return None if self.manifest.quality.get("timed") is False else self._pace.pace()

    def add_frame(
        self,
        checked: CheckedFrame,
        task: str,
        time_ns: int,
        *,
        frame_times_ns: Mapping[str, int] | None = None,
        late: bool | None = None,
        copy: bool = True,
    ) -> int:
        """Record a frame: its row and the images of all cameras, or nothing of it. Never waits.

        Args:
            checked: the frame; arrays that the caller may reuse are copied.
            task: the task, in words.
            time_ns: monotonic clock at capture.
            frame_times_ns: when each camera took its image, by feature key, on any scale of the camera's own;
                cameras whose time is not known are left out.
            late: the tick was late; None if frames are not recorded at ticks.
            copy: False if the images will never be changed: they are kept without a copy.

        Returns:
            The frame's index in the episode.

        Raises:
            StateError: the episode has ended; this is a forked child, which has none of its threads.
            FrameError: a depth camera changed its dtype, or a text is not UTF-8.
            StorageError: the disk refused or is too slow; earlier frames stay.
            EncodeError: a capture encoder failed; likewise.
        """
        self._process.check_process("add_frame()")
        if self._ended:
            raise StateError("The episode has ended; no frame can be added.")
        self._raise_failure()
        times = frame_times_ns or {}
        # Everything that can fail comes first.
        taken = [
            (camera, camera.take(checked.images[key], copy=copy)) for key, camera in self._cameras.items()
        ]
        self._rows.append(checked.values, task, time_ns)
        self._pace.add(time_ns)
        for camera, frame in taken:
            own_ns = None if frame.encoded is None else frame.encoded.captured_ns
            camera.enqueue(frame, taken_ns=times.get(camera.key, own_ns), late=bool(late))
        self._ticked = self._ticked or late is not None
        if not self._described:
            self._describe(task)
        self._journal.frame_came()
        return self._rows.rows - 1

    def annotate(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the manifest, for the quality record. Never blocks; later values replace earlier ones.

        They reach the disk with the next flush, or when the episode ends.

        Args:
            facts: JSON-ready values.

        Raises:
            ConfigError: a value is not JSON-ready.
            StateError: the episode has ended.
        """
        if self._ended:
            raise StateError("The episode has ended; no fact can be added.")
        manifest = self.folder.manifest
        # A new dict: the journal thread may be writing the old one.
        manifest.quality = {**manifest.quality, **json_facts(facts)}
        self._journal.fact_noted()

    def status(self) -> CaptureStatus:
        """A snapshot; cheap."""
        return CaptureStatus(self._rows.rows, {key: camera.status() for key, camera in self._cameras.items()})

    def finish(self, interrupted: bool = False) -> EpisodeFolder:
        """End the episode: write waiting frames, make everything durable, complete the manifest. Blocking.

        Any thread may call it. After an error everything is left in place, and it can be called again.

        Args:
            interrupted: an error or a signal ended the episode.

        Raises:
            StateError: there is no frame (discard it then), it was finished or discarded before, or this is a
                forked child.
            StorageError: the disk refused.
            EncodeError: a capture encoder failed, or a camera does not hold a frame for every row.
        """
        self._process.check_process("Finishing an episode")
        with self._end_lock:
            if self._is_over:
                raise StateError(f"Episode {self.id} was finished or discarded before.")
            if not self.length:
                raise StateError(f"Episode {self.id} has no frames; it can only be discarded.")
            self._ended = True
            self._journal.stop()
            for camera in self._cameras.values():
                camera.end()
            # Rows are written before the cameras' last frames, which may take a while: after a kill, no frame
            # may be without its row. Rows that the disk refuses are kept for the second try.
            with contextlib.suppress(StorageError):
                self._rows.write()
            for camera in self._cameras.values():
                camera.close()
            self._rows.close()
            self._journal.sync()
            with storage_errors(self.path, "make durable"):
                fsync_folder(self.path)
            self._raise_failure(while_recording=False)
            self._check_counts()
            self._complete(self.length, {"cameras": self._camera_facts()}, interrupted)
        return self.folder

    @property
    def failure(self) -> AiorecordError | None:
        """The error that ended the capture early, None if there is none."""
        if self._journal.sync_error is not None:
            return self._journal.sync_error
        return next((camera.error for camera in self._cameras.values() if camera.error is not None), None)

    @property
    def problems(self) -> list[str]:
        """Faults that lost no frame, a sentence each: capture encoders that failed."""
        return [
            f"The capture encoder of {key} failed, and its frames were written raw from there on: {error}"
            for key, error in self._encoder_errors().items()
        ]

    def keep(self, interrupted: bool = False) -> EpisodeFolder:
        """Call `finish`; if a camera has failed, keep the frames that reached the disk for all. Blocking.

        An episode that is cut in this way is marked as interrupted, and its quality record says what is lost.

        Args:
            interrupted: an error or a signal ended the episode.

        Raises:
            StateError: as `finish`.
            StorageError: the disk still refuses; data in memory stays there, and it can be called again.
            EncodeError: a camera failed before it had a whole frame.
        """
        try:
            return self.finish(interrupted)
        except AiorecordError as error:
            if isinstance(error, StateError) or self.failure is None:
                raise
            with self._end_lock:
                return self._cut(error)

    def _cut(self, error: AiorecordError) -> EpisodeFolder:
        """Complete the episode as far as its rows and the frames of every camera can be read back."""
        # Waiting rows are of no use beyond the last frame, but the stream must be closed properly.
        self._rows.close()
        found = soundness(self.folder)
        if found.damage:
            raise DamageError(f"Episode {self.id} is damaged: {'; '.join(found.damage)}.", path=self.path)
        if not found.frames:
            raise error
        self._journal.sync()
        facts = self._camera_facts()
        for key in facts:
            facts[key]["lost"] = facts[key]["captured"] - found.frames
        self._complete(found.frames, {"cameras": facts, "failure": str(error)}, interrupted=True)
        return self.folder

    def let_go(self) -> None:
        """Close the files of an episode that could not be finished; what is on disk stays there. Blocking.

        Idempotent; it does nothing to an episode that was finished or discarded.

        Raises:
            StateError: this is a forked child.
        """
        self._process.check_process("Letting go of an episode")
        with self._end_lock:
            if not self._is_over:
                self._abandon()

    def discard(self) -> None:
        """Drop the episode, whatever its state, and delete its folder. Blocking, idempotent.

        Raises:
            StateError: this is a forked child: the folder is its parent's.
            StorageError: the folder could not be deleted; it can be called again.
        """
        self._process.check_process("Discarding an episode")
        with self._end_lock:
            self._abandon()
            self.folder.remove()

    def _start(self) -> None:
        for camera in self._cameras.values():
            camera.start()
        for camera in self._cameras.values():
            camera.wait_open()
        self._rows.flush()
        with storage_errors(self.path, "make durable"):
            fsync_folder(self.path)
        self._journal.start()

    def _abandon(self) -> None:
        """End the threads, without what waits, and close the files."""
        self._ended = self._is_over = True
        self._journal.stop()
        for camera in self._cameras.values():
            camera.close(abandon=True)
        self._rows.abandon()

    def _raise_failure(self, *, while_recording: bool = True) -> None:
        # Rows that the disk refused were kept, and finish() has just written them. Data of a failed fsync
        # may be lost for good: the kernel may report such a failure only once.
        error = self._journal.error if while_recording else self._journal.sync_error
        if error is not None:
            raise error
        for camera in self._cameras.values():
            camera.raise_error()

    def _describe(self, task: str) -> None:
        """Store in the manifest what is known from the first frame; the journal thread saves it."""
        self._described = True
        manifest = self.folder.manifest
        manifest.quality = {**manifest.quality, "started_unix_ns": unix_ns()}
        manifest.task = task
        for key, camera in self._cameras.items():
            manifest.cameras[key].depth_unit = camera.depth_unit

    def _camera_facts(self) -> dict[str, Any]:
        statuses = {key: camera.status() for key, camera in self._cameras.items()}
        return {key: asdict(status.quality(ticked=self._ticked)) for key, status in statuses.items()}

    def _encoder_errors(self) -> dict[str, AiorecordError]:
        found = {key: camera.encoder_error for key, camera in self._cameras.items()}
        return {key: error for key, error in found.items() if error is not None}

    def _check_counts(self) -> None:
        """Check that every camera holds a frame for each row, and note in which of its files they are."""
        for key, camera in self._cameras.items():
            if camera.readable != self.length:
                problem = f"{key!r} holds {camera.readable} frames, the episode {self.length} rows."
                raise EncodeError(problem, camera=key)
            self.manifest.cameras[key].frames = camera.encoded
            self.manifest.cameras[key].spilled = camera.spilled

    def _complete(self, length: int, facts: dict[str, Any], interrupted: bool) -> None:
        """Mark the episode as complete, durably."""
        manifest = self.folder.manifest
        if failed := {key: str(error) for key, error in self._encoder_errors().items()}:
            facts["capture_encoder_failed"] = failed
        manifest.quality = {**manifest.quality, **facts}
        manifest.state, manifest.length, manifest.interrupted = "complete", length, interrupted
        try:
            self.folder.save()
        except BaseException:
            manifest.state, manifest.length = "recording", None
            raise
        self._is_over = self.is_durable = True
