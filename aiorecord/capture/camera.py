"""One live camera of one episode: a bounded queue, an encoder thread, and a spill thread for overload.

::

    put ─► queue ─► encoder thread ─► <camera>.frames or .raw, <camera>.hist
              └───► spill thread   ─► <camera>.spill     once the budget was exceeded, or a frame waited
                                                  for too long, or the encoder failed

The spill begins with the oldest frame that a killed process would lose: those that the encoder was given and
that are not in its file for certain, then everything that still waits. So it never begins behind a hole, and
the memory is free again at the speed of the disk. The encoder finishes the frame it is at and ends; frames
that are in both are taken from the file. The loop takes no lock: whatever it shares with the threads is
written by one side only, or is atomic.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clock import NS_PER_S
from ..errors import AiorecordError, EncodeError, FrameError, StateError, StorageError
from ..storage import fsync_folder, storage_errors
from .budget import DEFAULT_LIMIT_BYTES, ByteBudget
from .frames import CameraStatus, FrameWriter, TakenFrame
from .histograms import HistogramWriter
from .lossless import LosslessWriter, new_rgb_frame
from .raw import RawWriter
from .repeats import Repeats, StaleTimes
from .staging import Camera

__all__ = ["DEFAULT_LIMIT_BYTES", "ByteBudget", "CameraCapture", "CameraStatus", "FrameWriter", "TakenFrame"]

logger = logging.getLogger(__name__)

ENCODER_NICE = 10
"""Below the control loop, above the encodes of ended episodes."""

SPILL_NICE = 5
"""The spill must run where the encoder could not."""

MAX_WAIT_S = 1.0
"""For how long a frame may wait for the encoder. A killed process loses what waits, and an encoder that is so
far behind disturbs the loop as well."""

READY_FRAMES = 2
"""Frames whose memory is there before a camera's first one."""

EXIT_CHECK_S = 2.0
"""How often a sleeping thread looks whether the program has ended without closing it."""

DEPTH_UNITS = {np.dtype(np.uint16): "mm", np.dtype(np.float32): "m"}


class CameraCapture:
    """Captures one camera of one episode into its folder.

    `start` opens the files in the camera's own thread; `take`, `enqueue`, `put` and `status` belong to the
    event loop and never block; `close` blocks.

    Args:
        key: the feature key.
        camera: how it is captured.
        folder: the episode folder.
        fps: frames per second.
        budget: memory shared with the other cameras.
        open_writer: makes the encoder's file; called in the camera's thread.
    """

    def __init__(
        self,
        key: str,
        camera: Camera,
        folder: Path,
        fps: int,
        budget: ByteBudget,
        open_writer: Callable[[Path, Camera, int], FrameWriter] | None = None,
    ) -> None:
        self.key = key
        self.camera = camera
        self._folder = folder
        self._fps = fps
        self._budget = budget
        self._account = budget.open_account()
        self._open_writer = open_writer or _open_writer
        self._shape = (camera.height, camera.width) + (() if camera.capture == "raw" else (3,))
        self._dtype: np.dtype[Any] | None = None if camera.capture == "raw" else np.dtype(np.uint8)
        self._captured = 0
        self._late = 0
        self._repeats = Repeats()
        self._stale = StaleTimes()
        self._spilling = False  # set once, by whoever sees first that it must be
        self._abandoned = False
        self._error: AiorecordError | None = None
        self._encoder_error: AiorecordError | None = None
        # Appended to by the loop; taken from by the two threads, one at a time.
        self._frames: deque[TakenFrame] = deque()
        self._taking = threading.Lock()
        # Given to the encoder, and lost if the process is killed now; shared by the two threads.
        self._given: deque[TakenFrame] = deque()
        self._free: deque[TakenFrame] = budget.spare(self._shape)
        # True for each frame, False at the end. SimpleQueue.put takes no lock that others hold.
        self._encoder_wake: SimpleQueue[bool] = SimpleQueue()
        self._spill_wake: SimpleQueue[bool] = SimpleQueue()
        self._writer: FrameWriter | None = None
        self._spill: RawWriter | None = None
        self._spill_range = (0, 0)  # of frame indices
        self._opened = threading.Event()
        self._threads = [
            threading.Thread(target=self._encode, name=f"aiorecord-capture-{key}"),
            threading.Thread(target=self._save_spill, name=f"aiorecord-spill-{key}"),
        ]
        self._closed = False
        self._over = False  # the threads have ended

    @property
    def error(self) -> AiorecordError | None:
        """What stopped the capture, None while all is well."""
        return self._error

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the frames; for depth None until the first one."""
        return self._dtype

    @property
    def depth_unit(self) -> str | None:
        """``mm`` or ``m`` for depth, by the dtype of its frames; None for colour and before the first."""
        return None if self._dtype is None else DEPTH_UNITS.get(self._dtype)

    @property
    def captured(self) -> int:
        """Frames taken."""
        return self._captured

    @property
    def encoder_error(self) -> AiorecordError | None:
        """What stopped the encoder, so that the spill took over; None while it did not fail."""
        return self._encoder_error

    @property
    def encoded(self) -> int:
        """Frames in the camera's file; of an encoder that failed, those that are there for certain."""
        writer = self._writer
        if writer is None:
            return 0
        return writer.frames if self._encoder_error is None else writer.safe

    @property
    def spilled(self) -> int:
        """Frames in the spill that are not in the camera's file."""
        first, end = self._spill_range
        return max(0, end - max(first, self.encoded))

    @property
    def held(self) -> int:
        """Frames that can be read back once the threads have ended: up to the first that is missing."""
        first, end = self._spill_range
        encoded = self.encoded
        return max(encoded, end) if first <= encoded else encoded

    def start(self) -> None:
        """Start the threads; the files are open after `wait_open`."""
        for thread in self._threads:
            thread.start()

    def wait_open(self) -> None:
        """Wait until the files are open.

        Raises:
            CodecUnavailableError: the capture codec cannot be opened.
            StorageError: the disk refused.
        """
        self._opened.wait()
        self.raise_error()

    def raise_error(self) -> None:
        """Raise what stopped the capture, if anything did.

        Raises:
            StorageError: the disk refused.
            EncodeError: the encoder failed.
        """
        if self._error is not None:
            raise self._error

    def take(self, image: NDArray[Any], *, copy: bool = True) -> TakenFrame:
        """Copy an image; nothing is recorded until `enqueue`, which cannot fail.

        Args:
            image: (H, W, 3) uint8; for depth (H, W) uint16 or float32, all frames the same.
            copy: False when nobody will ever change the image: then it is kept as it is.

        Raises:
            FrameError: another shape, or another dtype than the frames before.
            StorageError: neither encoder nor disk keep up and the memory for waiting frames is full; or the
                disk refused an earlier frame.
            EncodeError: the encoder failed at an earlier frame.
            StateError: the capture is closed.
        """
        if self._closed:
            raise StateError(f"The capture of {self.key!r} has ended.")
        self.raise_error()
        dtypes = tuple(DEPTH_UNITS) if self._dtype is None else (self._dtype,)
        if image.shape != self._shape or image.dtype not in dtypes:
            expected = f"{self._shape} {' or '.join(map(str, dtypes))}"
            raise FrameError(
                f"{self.key!r} is {image.shape} {image.dtype}, expected {expected}.",
                key=self.key,
                frame_index=self._captured,
            )
        if not self._fits(image.nbytes, self._budget.hard_limit_bytes):
            raise StorageError(
                f"The disk does not keep up with {self.key!r}: {self._budget.used >> 20} MiB of frames wait.",
                path=self._folder / self.camera.spill,
            )
        if not copy:
            return TakenFrame(image, None)
        if len(self._shape) == 2:
            return TakenFrame(np.array(image, order="C"), None)
        frame = self._new_frame()
        pixels = frame.pixels
        if image.flags.c_contiguous and pixels.flags.c_contiguous:
            # numpy would leave the GIL to the camera threads meanwhile, and the loop would wait for it.
            memoryview(pixels).cast("B")[:] = memoryview(image).cast("B")
        elif image.strides[2] == 1:
            np.copyto(pixels, image)
        else:
            # Channels first, or in reverse: numpy would go pixel by pixel, five times as slowly.
            for channel in range(3):
                pixels[..., channel] = image[..., channel]
        return frame

    def enqueue(self, frame: TakenFrame, *, taken_ns: int | None = None, late: bool = False) -> None:
        """Queue what `take` gave.

        Args:
            frame: the copy.
            taken_ns: when the camera took it, on any scale of the camera's own; None if it does not tell.
            late: its tick was late.
        """
        nbytes = frame.pixels.nbytes
        now_ns = time.monotonic_ns()
        if not self._spilling and (
            self._waits_too_long(now_ns) or not self._fits(nbytes, self._budget.limit_bytes)
        ):
            self._begin_spill()
        frame.index, frame.given, frame.queued_ns = self._captured, False, now_ns
        self._dtype = frame.pixels.dtype
        self._account.added += nbytes
        self._captured += 1
        self._late += late
        self._stale.add(taken_ns)
        self._frames.append(frame)
        (self._spill_wake if self._spilling else self._encoder_wake).put(True)

    def look(self) -> None:
        """Let the spill take over if a frame waits for too long, also where no further frame comes.

        Called by the thread that flushes; takes no lock, never blocks.
        """
        if not self._spilling and self._waits_too_long(time.monotonic_ns()):
            self._begin_spill()

    def _waits_too_long(self, now_ns: int) -> bool:
        try:
            waited_ns = now_ns - self._frames[0].queued_ns
        except IndexError:
            return False
        # A single one is given twice the time: whatever stopped the whole process does so with one frame.
        return waited_ns > MAX_WAIT_S * NS_PER_S * (1 if len(self._frames) > 1 else 2)

    def put(self, image: NDArray[Any]) -> None:
        """`take` and `enqueue` at once.

        Raises:
            FrameError: another shape or dtype.
            StorageError: the disk refused, or does not keep up.
            EncodeError: the encoder failed at an earlier frame.
            StateError: the capture is closed.
        """
        self.enqueue(self.take(image))

    def status(self) -> CameraStatus:
        """A snapshot; cheap."""
        left = max(0, self._captured - self.encoded - self.spilled)
        # Nothing takes what is left once the threads have ended or failed.
        lost = left if self._over or self._error is not None else 0
        written = 0 if self._writer is None else self._writer.bytes_written
        spill = self._spill
        return CameraStatus(
            captured=self._captured,
            queued_frames=left - lost,
            queued_bytes=self._account.waiting,
            spilled=self.spilled,
            bytes_written=written + (0 if spill is None else spill.bytes_written),
            error=self._error,
            late=self._late,
            repeated=self._repeats.count,
            stale=self._stale.count if self._stale.known else None,
            lost=lost,
            longest_freeze_s=self._repeats.longest / self._fps,
            encoder_error=self._encoder_error,
        )

    def paths(self) -> list[Path]:
        """The files written so far."""
        names = [self.camera.file]
        if self.camera.histograms is not None:
            names.append(self.camera.histograms)
        if self._spill is not None:
            names.append(self.camera.spill)
        return [self._folder / name for name in names]

    def close(self, *, abandon: bool = False) -> None:
        """Write what waits, finish the files, end the threads. Blocking, idempotent; see `error` afterwards.

        Args:
            abandon: do not write what waits.
        """
        self._closed = True
        self._abandoned = self._abandoned or abandon
        # In this order: the encoder's last frames are not for the spill.
        for wake, thread in zip((self._encoder_wake, self._spill_wake), self._threads, strict=True):
            wake.put(False)
            if thread.ident is not None:
                thread.join()
        self._over = True
        self._given.clear()
        self._repeats.forget()
        self._budget.close_account(self._account)

    def _fits(self, nbytes: int, limit: int) -> bool:
        account = self._account
        return account.waiting == 0 or self._budget.used + nbytes <= limit

    def _new_frame(self) -> TakenFrame:
        """Memory for a colour frame, used before if there is some."""
        try:
            return self._free.popleft()
        except IndexError:
            return self._frame_of_new_memory()

    def _frame_of_new_memory(self) -> TakenFrame:
        video, pixels = new_rgb_frame(*self._shape[:2])
        return TakenFrame(pixels, video)

    def _for_encoder(self, frame: TakenFrame) -> TakenFrame:
        """A colour frame in memory that the encoder may read; an image that was given away is copied here."""
        if frame.video is not None or len(self._shape) == 2:
            return frame
        own = self._new_frame()
        np.copyto(own.pixels, frame.pixels)
        own.index = frame.index
        return own

    def _encode(self) -> None:
        lower_thread_priority(ENCODER_NICE)
        try:
            writer = self._writer = self._open_writer(self._folder / self.camera.file, self.camera, self._fps)
        except Exception as error:  # noqa: BLE001 - raised by wait_open
            self._fail(error)
            self._opened.set()
            return
        histograms: HistogramWriter | None = None
        if self.camera.histograms is not None:
            with self._failing():
                histograms = HistogramWriter(self._folder / self.camera.histograms)
        while len(self._shape) == 3 and len(self._free) < READY_FRAMES:
            ready = self._frame_of_new_memory()
            ready.pixels.fill(0)  # here, and not on the loop, each page is touched for the first time
            self._free.append(ready)
        self._opened.set()
        with self._handing_over():
            while _get(self._encoder_wake) and (frame := self._next(spill=False)) is not None:
                try:
                    own = self._for_encoder(frame)
                    writer.write(own.pixels if own.video is None else own.video)
                    if histograms is not None:
                        histograms.write(own.pixels)
                finally:
                    self._account.encoded += frame.pixels.nbytes
                if own is not frame:
                    self._free.append(own)
                self._let_go(writer.safe)
                del frame, own
        with self._handing_over():
            writer.close()
        if histograms is not None:
            with self._failing():
                histograms.close()
        if self._spilling:
            # The loop may have queued a frame for this thread just before.
            self._spill_wake.put(True)

    def _save_spill(self) -> None:
        lower_thread_priority(SPILL_NICE)
        with self._failing():
            more = True
            while more:
                more = _get(self._spill_wake)
                while (frame := self._next(spill=True)) is not None:
                    spill = self._spill or self._open_spill()
                    spill.write(frame.pixels, frame.index)
                    first, end = self._spill_range
                    self._spill_range = (first if end else frame.index), frame.index + 1
                    if not frame.given:
                        self._account.spilled += frame.pixels.nbytes
                    del frame
        if self._spill is not None:
            with self._failing():
                self._spill.close()

    def _next(self, *, spill: bool) -> TakenFrame | None:
        """The next frame for one of the threads; None when there is none for it."""
        # Under the lock, so that the encoder cannot take a frame that follows one the spill has taken.
        with self._taking:
            if self._error is not None or self._abandoned or spill != self._spilling:
                return None
            if spill and self._given:
                frame = self._given.popleft()
                self._account.kept = max(0, self._account.kept - frame.pixels.nbytes)
                return frame
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._repeats.add(frame.pixels)  # here, where frames are in order whichever thread takes them
            if not spill:
                frame.given = True
                self._given.append(frame)
            return frame

    def _let_go(self, safe: int) -> None:
        """Let go of frames that the encoder was given and that are safe in its file."""
        with self._taking:
            given = self._given
            if self._spilling or not given:
                return  # they are the spill's now
            # The newest is compared with the one that follows.
            nbytes = given[-1].pixels.nbytes
            self._account.kept = (len(given) - 1) * nbytes
            while len(given) > 1 and (given[0].index < safe or self._budget.keeps_too_much):
                frame = given.popleft()
                self._account.kept = (len(given) - 1) * nbytes
                if frame.video is not None:
                    self._free.append(frame)

    def _begin_spill(self) -> None:
        """Let the spill take over. Any thread may call it, also twice; takes no lock."""
        self._spilling = True
        self._encoder_wake.put(False)  # its file ends here
        self._spill_wake.put(True)

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
            if self._encoder_error is None:
                self._encoder_error = self._told(error)
                logger.error("%s: its frames are written raw from here on: %s", self.key, error)
            self._begin_spill()

    def _told(self, error: Exception) -> AiorecordError:
        if not isinstance(error, AiorecordError):
            wrapped = EncodeError(f"The capture of {self.key!r} failed: {error!r}", camera=self.key)
            wrapped.__cause__ = error
            return wrapped
        if isinstance(error, EncodeError):
            error.camera = error.camera or self.key
        return error

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = self._told(error)
        with self._taking:
            self._frames.clear()
            self._given.clear()
        self._budget.close_account(self._account)


def lower_thread_priority(nice: int) -> None:
    """Give the calling thread at least this nice value, where threads have their own (Linux)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < nice:
            os.setpriority(os.PRIO_PROCESS, thread, nice)


def interpreter_ends() -> bool:
    """Whether the interpreter waits for its threads to end, because the program is over."""
    return not threading.main_thread().is_alive()


def _get(wake: SimpleQueue[bool]) -> bool:
    """Wait for the next token; False also when nobody is left to send one."""
    while True:
        try:
            return wake.get(timeout=EXIT_CHECK_S)
        except Empty:
            if interpreter_ends():
                return False


def _open_writer(path: Path, camera: Camera, fps: int) -> FrameWriter:
    return RawWriter(path) if camera.capture == "raw" else LosslessWriter(path, camera, fps)
