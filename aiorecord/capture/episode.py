"""One live episode: the rows, the cameras and the folder that they are journaled in."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..encoders import DepthEncoderConfig, RGBEncoderConfig
from ..errors import AiorecordError, EncodeError, StateError
from ..features import CheckedFrame, Schema
from ..storage import fsync_file, fsync_folder, storage_errors
from .budget import ByteBudget
from .camera import EXIT_CHECK_S, CameraCapture, CameraStatus, interpreter_ends
from .lossless import plan_camera
from .rows import RowsJournal
from .staging import EpisodeFolder, Manifest, Staging

__all__ = ["CameraStatus", "CaptureStatus", "EpisodeCapture"]

FLUSH_PERIOD_S = 1.0
"""How much of a running episode a power loss may take."""


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
    """

    def __init__(self, folder: EpisodeFolder, schema: Schema, budget: ByteBudget) -> None:
        self.folder = folder
        self._rows = RowsJournal(folder.rows_path, schema)
        self._cameras = {
            key: CameraCapture(key, camera, folder.path, folder.manifest.fps, budget)
            for key, camera in folder.manifest.cameras.items()
        }
        self._ended = False
        self._settled = False  # finished or discarded
        self._described = False
        self._settling = threading.Lock()
        self._frames_came = threading.Event()
        self._closing = threading.Event()
        self._journal_error: AiorecordError | None = None
        self._sync_error: AiorecordError | None = None
        self._journal = threading.Thread(target=self._flush_regularly, name=f"aiorecord-journal-{folder.id}")

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
    ) -> Self:
        """Make everything ready for the first frame: folder, files, codecs, threads. Blocking.

        Args:
            staging: where the folder is made.
            schema: the features.
            fps: frames per second.
            rgb_encoder: settings of the final videos of colour cameras.
            depth_encoder: settings of the final videos of depth cameras.
            encoder_threads: threads per final encoder, None leaves it to the codec.
            robot_type: as in info.json.
            budget: memory for frames that wait, shared with other captures.

        Raises:
            CodecUnavailableError: a capture codec cannot be opened; nothing is left behind.
            StorageError: the disk refused; nothing is left behind where it can be helped.
        """
        cameras = {
            key: plan_camera(feature, depth_encoder if feature.is_depth else rgb_encoder)
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
    def path(self) -> Path:
        """The episode folder's path."""
        return self.folder.path

    @property
    def length(self) -> int:
        """Frames recorded."""
        return self._rows.rows

    def add_frame(self, checked: CheckedFrame, task: str, time_ns: int) -> int:
        """Record a frame: its row and the images of all cameras, or nothing of it. Never waits.

        Args:
            checked: the frame; whatever the caller may reuse is copied.
            task: what is being done.
            time_ns: monotonic clock at capture.

        Returns:
            The frame's index in the episode.

        Raises:
            StateError: the episode has ended.
            FrameError: a depth camera changed its dtype, or a text is not UTF-8.
            StorageError: the disk refused, or takes no more in time; what was recorded before stays.
            EncodeError: a capture encoder failed; likewise.
        """
        if self._ended:
            raise StateError("The episode has ended; no frame can be added.")
        self._raise_failure()
        # Everything that can fail comes first.
        taken = [(camera, camera.take(checked.images[key])) for key, camera in self._cameras.items()]
        self._rows.append(checked.values, task, time_ns)
        for camera, frame in taken:
            camera.enqueue(frame)
        if not self._described:
            self._describe(task)
        if not self._frames_came.is_set():
            self._frames_came.set()
        return self._rows.rows - 1

    def status(self) -> CaptureStatus:
        """A snapshot; cheap."""
        return CaptureStatus(self._rows.rows, {key: camera.status() for key, camera in self._cameras.items()})

    def finish(self, interrupted: bool = False) -> EpisodeFolder:
        """End the episode: write what waits, make everything durable, complete the manifest. Blocking.

        Any thread may call it. After an error everything is left in place, and it can be called again.

        Args:
            interrupted: the episode did not end by anyone's decision.

        Raises:
            StateError: there is no frame (discard it then), or it was finished or discarded before.
            StorageError: the disk refused.
            EncodeError: a capture encoder failed, or a camera does not hold a frame for every row.
        """
        with self._settling:
            if self._settled:
                raise StateError(f"Episode {self.id} was finished or discarded before.")
            if not self.length:
                raise StateError(f"Episode {self.id} has no frames; it can only be discarded.")
            self._ended = True
            self._stop_threads()
            self._rows.close()
            self._sync()
            with storage_errors(self.path, "make durable"):
                fsync_folder(self.path)
            self._raise_failure(while_recording=False)
            self._complete_manifest(interrupted)
            self._settled = True
        return self.folder

    def discard(self) -> None:
        """Drop the episode, whatever its state, and delete its folder. Blocking, idempotent.

        Raises:
            StorageError: the folder could not be deleted; it can be called again.
        """
        with self._settling:
            self._ended = self._settled = True
            self._stop_threads(abandon=True)
            self._rows.abandon()
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

    def _stop_threads(self, *, abandon: bool = False) -> None:
        self._closing.set()
        self._frames_came.set()
        if self._journal.ident is not None:
            self._journal.join()
        for camera in self._cameras.values():
            camera.close(abandon=abandon)

    def _raise_failure(self, *, while_recording: bool = True) -> None:
        # Rows that the disk refused are still here, and finish() has just written them. What an fsync
        # lost is lost: the kernel may report a failure once only.
        error = self._journal_error if while_recording else self._sync_error
        if error is not None:
            raise error
        for camera in self._cameras.values():
            camera.raise_error()

    def _describe(self, task: str) -> None:
        """Note in the manifest what the first frame tells; the journal thread saves it."""
        self._described = True
        manifest = self.folder.manifest
        manifest.task = task
        for key, camera in self._cameras.items():
            if manifest.cameras[key].capture == "raw":
                manifest.cameras[key].depth_unit = camera.depth_unit

    def _flush_regularly(self) -> None:
        """The journal thread: once a second, while frames come."""
        try:
            first = True
            while True:
                if not self._frames_came.wait(EXIT_CHECK_S):
                    if interpreter_ends():
                        return
                    continue
                if self._closing.wait(FLUSH_PERIOD_S):
                    return  # finish() writes the rest
                self._frames_came.clear()
                self._rows.flush()
                self._sync()
                if first:
                    self.folder.save()
                    first = False
        except AiorecordError as error:
            self._journal_error = error
        except Exception as error:  # noqa: BLE001 - raised with the next frame
            self._journal_error = EncodeError(f"Rows could not be written: {error!r}")
            self._journal_error.__cause__ = error

    def _sync(self) -> None:
        try:
            for camera in self._cameras.values():
                for path in camera.paths():
                    with storage_errors(path, "make durable"):
                        fsync_file(path)
        except AiorecordError as error:
            self._sync_error = error
            raise

    def _complete_manifest(self, interrupted: bool) -> None:
        manifest = self.folder.manifest
        length = self._rows.rows
        for key, camera in self._cameras.items():
            held = camera.encoded + camera.spilled
            if held != length:
                raise EncodeError(f"{key!r} holds {held} frames, the episode {length} rows.", camera=key)
            manifest.cameras[key].frames = camera.encoded
            manifest.cameras[key].spilled = camera.spilled
        manifest.length = length
        manifest.interrupted = interrupted
        manifest.state = "complete"
        try:
            self.folder.save()
        except BaseException:
            manifest.state = "recording"
            raise
