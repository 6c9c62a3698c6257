"""Captures one camera of one episode: a bounded queue, an encoder thread, and a spill thread for overload.

::

    put ─► queue ─► encoder thread ─► <camera>.frames or .raw, <camera>.hist
              └───► spill thread   ─► <camera>.spill     when the encoder is too slow, or has failed

`FrameQueue` decides which of the two threads gets a frame. Once the spill thread has taken over, the encoder
finishes its current frame and ends; frames that are in both files are read from the encoder's file.

Both threads have a low priority, so as not to disturb the loop. At the end of the episode the caller waits
for the last frames: each thread then finishes its current frame, and the thread that closes the capture
writes the rest.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..encoded_image import EncodedImage
from ..errors import AiorecordError, EncodeError, FrameError, StateError, StorageError
from ..printable import get_logger
from ..staging.folder import EpisodeFolder
from ..staging.histograms import HistogramWriter
from ..staging.kind import FrameWriter, OpenWriter
from ..staging.kinds import KINDS
from ..staging.lossless import LOSSLESS, PACKETS, RGB
from ..staging.raw import RawWriter
from ..staging.records import largest_payload
from ..system.storage import fsync_folder, storage_errors
from ..system.threads import start_thread
from .background import join_started, lower_thread_priority
from .budget import ByteBudget
from .frame_queue import FrameMemory, FrameQueue
from .frames import CameraStatus, TakenFrame
from .repeats import Repeats, StaleTimes
from .stand_in import StandIn

logger = get_logger(__name__)

ENCODER_NICE = 10
"""Below the control loop, above the encodes of ended episodes."""

SPILL_NICE = 5
"""A higher priority than the encoder's: the spill must run when the encoder gets too little time."""

DEPTH_UNITS = {np.dtype(np.uint16): "mm", np.dtype(np.float32): "m"}


class CameraCapture:
    """Captures one camera of one episode into its folder.

    `start` opens the files in the camera's own thread; `take`, `enqueue`, `put` and `status` belong to the
    event loop and never block; `close` blocks.

    Args:
        key: the feature key.
        folder: the episode folder.
        budget: memory shared with the other cameras.
        open_writer: makes the camera's file, in the camera's thread; None: as its kind of capture does.

    Attributes:
        key: the feature key.
        camera: how it is captured.
        captured: frames taken.
        dtype: of the frames; for depth None until the first one.
        error: what stopped the capture, None if nothing did.
        encoder_error: what stopped the encoder, after which the spill took over; None if it did not fail.
    """

    def __init__(
        self, key: str, folder: EpisodeFolder, budget: ByteBudget, open_writer: OpenWriter | None = None
    ) -> None:
        self.key = key
        self.camera = folder.manifest.cameras[key]
        self.captured = 0
        self.error: AiorecordError | None = None
        self.encoder_error: AiorecordError | None = None
        self._kind = KINDS[self.camera.capture]
        self.dtype: np.dtype[Any] | None = None if self._kind.is_depth else np.dtype(np.uint8)
        self._folder = folder.path
        self._fps = folder.manifest.fps
        self._budget = budget
        self._open_writer = open_writer or self._kind.writer(folder.manifest)
        self._shape = self._kind.shape(self.camera)
        self._late = 0
        self._repeats = Repeats()
        self._stale = StaleTimes()
        self._memory = FrameMemory(self._shape, budget)
        self._queue = FrameQueue(budget, self._memory, self._repeats)
        self._writer: FrameWriter | None = None
        self._spill: RawWriter | None = None
        self._histograms: HistogramWriter | None = None
        self._histograms_ended = False
        # Each of the two threads has its own.
        self._encoder_images = StandIn(*self._shape[:2])
        self._spilled_images = StandIn(*self._shape[:2])
        self._spill_range = (0, 0)  # of frame indices
        self._opened = threading.Event()
        self._threads = [
            threading.Thread(target=self._encode, name=f"aiorecord-capture-{key}"),
            threading.Thread(target=self._save_spill, name=f"aiorecord-spill-{key}"),
        ]
        self._closed = False
        self._taken_over = False  # by `close`: what is left is not for the threads
        self._encoder_ended = self._spill_ended = False  # their files are closed
        self._over = False  # the threads have ended

    @property
    def depth_unit(self) -> str | None:
        """``mm`` or ``m`` for depth, by the dtype of its frames; None for colour and before the first."""
        return None if self.dtype is None else DEPTH_UNITS.get(self.dtype)

    @property
    def encoded(self) -> int:
        """Frames in the camera's file; if the encoder failed, those that are certainly there."""
        writer = self._writer
        if writer is None:
            return 0
        return writer.frames if self.encoder_error is None else writer.safe

    @property
    def spilled(self) -> int:
        """Frames in the spill that are not in the camera's file."""
        first, end = self._spill_range
        return max(0, end - max(first, self.encoded))

    @property
    def readable(self) -> int:
        """Frames that can be read back once the threads have ended: up to the first that is missing."""
        first, end = self._spill_range
        encoded = self.encoded
        return max(encoded, end) if first <= encoded else encoded

    def start(self) -> None:
        """Start the threads; the files are open after `wait_open`."""
        for thread in self._threads:
            start_thread(thread)

    def wait_open(self) -> None:
        """Wait until the files are open.

        Raises:
            CodecUnavailableError: the capture codec cannot be opened.
            StorageError: the disk refused.
        """
        self._opened.wait()
        self.raise_error()

    def raise_error(self) -> None:
        """Raise the error that stopped the capture, if there is one: the disk's, or the encoder's."""
        if self.error is not None:
            raise self.error

    def take(self, image: NDArray[Any] | EncodedImage, *, copy: bool = True) -> TakenFrame:
        """Copy an image; nothing is recorded until `enqueue`, which cannot fail.

        Args:
            image: (H, W, 3) uint8, or an encoded one of that size, which `Schema.check` has looked at; for
                depth (H, W) uint16 or float32, all frames the same.
            copy: False if the image will never be changed: then it is kept without a copy.

        Raises:
            FrameError: another shape, another dtype than the frames before, or too many bytes.
            StorageError: encoder and disk are both too slow and the memory for waiting frames is full; or
                the disk refused an earlier frame.
            EncodeError: the encoder failed at an earlier frame.
            StateError: the capture is closed.
        """
        if self._closed:
            raise StateError(f"The capture of {self.key!r} has ended.")
        self.raise_error()
        if isinstance(image, EncodedImage):
            return self._take_encoded(image)
        # `Schema.check` has looked at the shape. It is looked at again on purpose: from here on pixels are
        # raw memory that libav reads by the size it was told, and the dtype of depth is known here only.
        dtypes = tuple(DEPTH_UNITS) if self.dtype is None else (self.dtype,)
        if image.shape != self._shape or image.dtype not in dtypes:
            expected = f"{self._shape} {' or '.join(map(str, dtypes))}"
            raise FrameError(
                f"{self.key!r} is {image.shape} {image.dtype}, expected {expected}.",
                key=self.key,
                frame_index=self.captured,
            )
        self._check_memory(image.nbytes)
        return self._memory.copy_of(image) if copy else TakenFrame(image, None)

    def _take_encoded(self, image: EncodedImage) -> TakenFrame:
        size, most = len(image.data), largest_payload(self.camera.height, self.camera.width)
        if size > most:
            raise FrameError(
                f"{self.key!r} is a JPEG of {size} bytes; an image of its size has {most} at most.",
                key=self.key,
                frame_index=self.captured,
            )
        self._check_memory(size)
        return TakenFrame(np.frombuffer(image.data, np.uint8), None, image)

    def _check_memory(self, nbytes: int) -> None:
        if not self._queue.takes(nbytes):
            raise StorageError(
                f"The disk does not keep up with {self.key!r}: {self._budget.used >> 20} MiB of frames wait.",
                path=self._folder / self.camera.spill,
            )

    def enqueue(self, frame: TakenFrame, *, taken_ns: int | None = None, late: bool = False) -> None:
        """Queue a frame that `take` returned.

        Args:
            frame: the copy.
            taken_ns: when the camera took it, on any scale of the camera's own; None if not known.
            late: its tick was late.
        """
        if self.captured == 0 and frame.encoded is not None and self._kind in (LOSSLESS, RGB):
            # Nothing is in its file yet, and what comes encoded is kept so.
            self._kind, self.camera.capture, self.camera.pix_fmt = PACKETS, PACKETS.name, "rgb24"
        frame.index = self.captured
        self.dtype = frame.pixels.dtype
        self.captured += 1
        self._late += late
        self._stale.add(taken_ns)
        self._queue.put(frame)

    def look(self) -> None:
        """See `FrameQueue.look`."""
        self._queue.look()

    def status(self) -> CameraStatus:
        """A snapshot; cheap."""
        left = max(0, self.captured - self.encoded - self.spilled)
        # After the threads have ended or failed, nothing processes the frames that are left.
        lost = left if self._over or self.error is not None else 0
        return CameraStatus(
            captured=self.captured,
            queued_frames=left - lost,
            queued_bytes=self._queue.account.waiting,
            spilled=self.spilled,
            bytes_written=sum(file.size for file in (self._writer, self._spill) if file is not None),
            error=self.error,
            late=self._late,
            repeated=self._repeats.count,
            stale=self._stale.count if self._stale.known else None,
            lost=lost,
            longest_freeze_s=self._repeats.longest / self._fps,
            corrupt=self._encoder_images.corrupt + self._spilled_images.corrupt,
            encoder_error=self.encoder_error,
        )

    def paths(self) -> list[Path]:
        """The files written so far."""
        return [path for file in self._files() for path in file.paths]

    def sizes(self) -> dict[str, int]:
        """Bytes that are in each file now, by its name: whole appends only. Callable from any thread."""
        return {file.path.name: file.size for file in self._files()}

    def _files(self) -> list[FrameWriter | HistogramWriter]:
        return [file for file in (self._writer, self._histograms, self._spill) if file is not None]

    def end(self) -> None:
        """Take no more frames; the encoder's thread encodes those that wait, then ends. Never blocks."""
        self._closed = True
        self._queue.wake(spill=False, more=False)

    def close(self, *, abandon: bool = False) -> None:
        """Write waiting frames, finish the files, end the threads. Blocking, idempotent; then see `error`.

        The threads end after their current frame, and the remaining frames are written by the caller: on a
        busy machine the threads get too little processor time to wait for them.

        Args:
            abandon: do not write waiting frames.
        """
        encoder, spill = self._threads
        if abandon:
            self._queue.end()
        self._taken_over = True
        self.end()
        # In this order: the encoder's last frames must not go to the spill.
        join_started(encoder)
        with self._handing_over():
            while self._encode_next():
                self._queue.look()  # an encoder that is too slow gives way to the spill, as ever
        self._end_encoder()
        self._queue.wake(spill=True, more=False)
        join_started(spill)
        with self._failing():
            while self._spill_next():
                pass
        self._end_spill()
        self._over = True
        self._queue.close()

    def _encode(self) -> None:
        lower_thread_priority(ENCODER_NICE)
        with self._failing():
            self._writer = self._open_writer(self._folder / self.camera.file, self.camera, self._fps)
            if self.camera.histograms is not None:
                self._histograms = HistogramWriter(self._folder / self.camera.histograms)
            self._memory.make_ready()
        self._opened.set()
        if self.error is not None:
            return  # raised by `wait_open`; `close` closes what was opened
        with self._handing_over():
            while self._queue.wait(spill=False) and not self._taken_over and self._encode_next():
                pass
        if not self._taken_over:
            self._end_encoder()

    def _encode_next(self) -> bool:
        """Encode the encoder's next frame; False when there is none. One thread at a time."""
        writer = self._writer
        if writer is None or self._encoder_ended or (frame := self._queue.next(spill=False)) is None:
            return False
        try:
            own = self._memory.for_encoder(self._as_written(frame, self._encoder_images))
            writer.write(own.content)
            self._count_pixels(own)
        finally:
            self._queue.account.encoded += frame.pixels.nbytes
        if own is not frame:
            self._memory.give_back(own)
        self._queue.let_go(writer.safe)
        return True

    def _as_written(self, frame: TakenFrame, images: StandIn) -> TakenFrame:
        """The frame as the camera's files take it: an encoded image may have to be decoded."""
        if frame.encoded is None or self._kind.takes_encoded:
            return frame
        return TakenFrame(images.decode(frame.encoded.data), None, index=frame.index)

    def _count_pixels(self, frame: TakenFrame) -> None:
        """Write the frame's histogram. They end at the first encoded image; the encode counts the rest."""
        histograms = self._histograms
        if histograms is None or self._histograms_ended:
            return
        if frame.encoded is not None:
            self._histograms_ended = True
            return
        histograms.write(frame.pixels)

    def _end_encoder(self) -> None:
        """Finish the encoder's files, once."""
        if self._writer is None or self._encoder_ended:
            return
        self._encoder_ended = True
        with self._handing_over():
            self._writer.close()
        if self._histograms is not None:
            with self._failing():
                self._histograms.close()
        if self._queue.spilling:
            # The loop may have queued a frame for the encoder just before.
            self._queue.wake(spill=True)

    def _save_spill(self) -> None:
        lower_thread_priority(SPILL_NICE)
        with self._failing():
            more = True
            while more and not self._taken_over:
                more = self._queue.wait(spill=True)
                while not self._taken_over and self._spill_next():
                    pass
        if not self._taken_over:
            self._end_spill()

    def _spill_next(self) -> bool:
        """Write the spill's next frame; False when there is none. One thread at a time."""
        if self._spill_ended or (frame := self._queue.next(spill=True)) is None:
            return False
        spill = self._spill or self._open_spill()
        written = self._as_written(frame, self._spilled_images)
        spill.write(written.encoded or written.pixels, frame.index)
        first, end = self._spill_range
        self._spill_range = (first if end else frame.index), frame.index + 1
        if not frame.given:
            self._queue.account.spilled += frame.pixels.nbytes
        return True

    def _end_spill(self) -> None:
        """Finish the spill's file, once."""
        if self._spill is None or self._spill_ended:
            return
        self._spill_ended = True
        with self._failing():
            self._spill.close()

    def _open_spill(self) -> RawWriter:
        path = self._folder / self.camera.spill
        spill = RawWriter(path)
        self._spill = spill
        with storage_errors(path, "make durable"):
            fsync_folder(self._folder)
        return spill

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Keep an error: it is raised with the next frame. The first one counts."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever ends the thread must reach the loop
            self._fail(error)

    @contextlib.contextmanager
    def _handing_over(self) -> Iterator[None]:
        """Where the encoder fails, let the spill take over. Where the disk does, the capture ends."""
        try:
            yield
        except StorageError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever an encoder raises
            if self.encoder_error is None:
                self.encoder_error = self._told(error)
                logger.error("%s: its frames are written raw from here on: %s", self.key, error)
            self._queue.begin_spill()

    def _told(self, error: Exception) -> AiorecordError:
        if not isinstance(error, AiorecordError):
            wrapped = EncodeError(f"The capture of {self.key!r} failed: {error!r}", camera=self.key)
            wrapped.__cause__ = error
            return wrapped
        if isinstance(error, EncodeError):
            error.camera = error.camera or self.key
        return error

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = self._told(error)
        self._queue.drop()
