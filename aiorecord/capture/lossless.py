"""How each camera is captured, and lossless x264 in Matroska: cheap, and whole up to where a kill cuts it.

Facts these settings rest on (FFmpeg 7 documentation and measurements): libx264 with ``qp=0`` is lossless, at
any bit depth; ``tune=zerolatency`` gives each frame's packet at once; a Matroska muxer in live mode writes a
cluster when the next one begins, so that with clusters of one frame a killed process loses one frame.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..encoders import VideoEncoderConfig
from ..errors import CodecUnavailableError, EncodeError, StorageError
from ..features import Feature
from .convert import PixelConverter
from .staging import Camera

EXACT_PIX_FMTS = frozenset(
    {
        *("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"),
        *("yuv420p10le", "yuv422p10le", "yuv444p10le", "nv12", "nv16", "nv21"),
    }
)
"""Pixel formats that libx264 gives back bit by bit (grey ones come back as colour, for example)."""

PIXELS_PER_S_PER_THREAD = 1280 * 720 * 30
"""What one x264 thread is given. Below this, more threads only add to the time they take together."""

MAX_THREADS = 8
MAX_RATE = 1000
"""Matroska counts in milliseconds here; more frames per second would share one."""

_DISK_ERRNOS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG),
        *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    }
)

_READ_PAST = 64
"""Bytes behind the pixels of a frame: the widest vector that libswscale reads at once."""

CRASH_SAFE = {"live": "1", "flush_packets": "1", "cluster_time_limit": "1"}
"""Matroska muxer options: each frame is a cluster of its own, written when the next one begins."""


def plan_camera(feature: Feature, encoder: VideoEncoderConfig) -> Camera:
    """Decide how a camera is captured, so that the final encode sees the pixels a direct encode would.

    Args:
        feature: the camera.
        encoder: settings of its final video; not looked at for depth and `image` features.
    """
    height, width, _ = feature.size_hwc
    key = feature.key
    if feature.is_depth:
        return Camera("raw", f"{key}.raw", "", height, width, f"{key}.spill", None)
    exact = feature.is_video and encoder.pix_fmt in EXACT_PIX_FMTS
    return Camera(
        # RGB is right for whatever libx264 cannot hold: it is converted when the final video is made.
        capture="x264" if exact else "x264rgb",
        file=f"{key}.mkv",
        pix_fmt=encoder.pix_fmt if exact else "rgb24",
        height=height,
        width=width,
        spill=f"{key}.spill",
        histograms=f"{key}.hist",
    )


@contextlib.contextmanager
def libav_errors(doing: str, path: Path, codec: str) -> Iterator[None]:
    """Map libav's errors.

    Raises:
        StorageError: the disk is full, read-only or failing.
        EncodeError: anything else that libav refused.
    """
    try:
        yield
    except av.FFmpegError as error:
        message = f"Could not {doing} {path}: {error.strerror or error}"
        if error.errno in _DISK_ERRNOS:
            raise StorageError(message, path=path) from error
        raise EncodeError(message, codec=codec) from error


def new_rgb_frame(height: int, width: int) -> tuple[av.VideoFrame, NDArray[np.uint8]]:
    """An uninitialised RGB frame, and its pixels as a writable, contiguous (H, W, 3) uint8 array."""
    # The memory is numpy's: PyAV lets go of the GIL to allocate, and a loop that asks for a frame then waits
    # until every camera's thread has had its turn. libswscale may read a little past the last pixel.
    size = height * width * 3
    pixels = np.empty(size + _READ_PAST, np.uint8)[:size].reshape(height, width, 3)
    return av.VideoFrame.from_numpy_buffer(pixels, "rgb24"), pixels


class LosslessWriter:
    """One Matroska file being written by one thread. What was written survives a killed process.

    libav writes the file itself, without the GIL. Opening the codec holds the GIL for some milliseconds.

    Args:
        path: the file; replaced if it exists.
        camera: with capture ``x264`` or ``x264rgb``.
        fps: frames per second.

    Attributes:
        frames: packets handed to the file, one per frame.
        bytes_written: their size.

    Raises:
        CodecUnavailableError: this libav has no x264, or it cannot be opened so.
        StorageError: the disk refused.
    """

    def __init__(self, path: Path, camera: Camera, fps: int) -> None:
        self.path = path
        self.frames = 0
        self.bytes_written = 0
        self._given = 0
        self._codec = codec_name(camera)
        self._pix_fmt = camera.pix_fmt
        self._size = (camera.width, camera.height)
        self._tick = Fraction(1, min(fps, MAX_RATE))
        self._converter = PixelConverter(camera.pix_fmt)
        threads = encoder_threads(camera.height, camera.width, fps)
        with libav_errors("create", path, self._codec):
            self._container = av.open(str(path), "w", format="matroska", options=CRASH_SAFE)
        try:
            self._stream = self._open_stream(camera, threads)
        except BaseException:
            with contextlib.suppress(av.FFmpegError):  # another error is on its way
                self._container.close()
            raise

    @property
    def safe(self) -> int:
        """Frames that can be read if the process is killed now: a cluster is written when the next begins."""
        return max(0, self.frames - 1)

    def write(self, frame: av.VideoFrame) -> None:
        """Encode the next frame and hand it to the operating system.

        Args:
            frame: rgb24, of the camera's size. Its pixels may be reused afterwards.

        Raises:
            EncodeError: the frame has another size, or the encoder failed.
            StorageError: the disk refused.
        """
        if (frame.width, frame.height) != self._size:  # libav would scale it
            raise EncodeError(f"A frame of {self.path.name} has another size than the others.")
        with libav_errors(f"encode frame {self._given} to", self.path, self._codec):
            converted = self._converter.convert(frame)
            converted.pts = self._given
            converted.time_base = self._tick
            self._mux(self._stream.encode(converted))
        self._given += 1

    def close(self) -> None:
        """Finish the file. Call it once, also after an error.

        Raises:
            EncodeError: the encoder failed.
            StorageError: the disk refused.
        """
        with libav_errors("finish", self.path, self._codec):
            try:
                self._mux(self._stream.encode(None))
            finally:
                self._container.close()
                # The encoder's memory goes with its objects, and a save that waits keeps this writer.
                del self._stream, self._container, self._converter

    def _open_stream(self, camera: Camera, threads: int) -> VideoStream:
        options = {
            **{"preset": "ultrafast", "qp": "0", "tune": "zerolatency", "threads": str(threads)},
            # A keyframe a second: what is damaged harms no more, and the end can be checked by itself.
            "g": str(self._tick.denominator),
            # Errors only: where libav's own logging is on, each file would end with a page of statistics.
            "x264-params": "log=0",
        }
        try:
            with libav_errors(f"open {self._codec} for", self.path, self._codec):
                stream = self._container.add_stream(self._codec, self._tick.denominator, options=options)
                assert isinstance(stream, VideoStream)
                stream.width, stream.height, stream.pix_fmt = camera.width, camera.height, self._pix_fmt
                stream.time_base = stream.codec_context.time_base = self._tick
                self._container.start_encoding()
        except (EncodeError, ValueError) as error:  # PyAV: an encoder that is not built in is a ValueError
            size = f"{camera.width}x{camera.height}"
            raise CodecUnavailableError(
                f"The capture codec {self._codec} does not open at {size}, {self._pix_fmt}: {error}",
                codec=self._codec,
            ) from error
        return stream

    def _mux(self, packets: Sequence[av.Packet]) -> None:
        for packet in packets:
            size = packet.size
            self._container.mux(packet)
            self.frames += 1
            self.bytes_written += size


def codec_name(camera: Camera) -> str:
    """The capture encoder."""
    return "libx264rgb" if camera.capture == "x264rgb" else "libx264"


def encoder_threads(height: int, width: int, fps: int) -> int:
    """x264 threads for one camera: one up to 1280x720 at 30 fps, more where one would not keep up."""
    needed = math.ceil(height * width * fps / PIXELS_PER_S_PER_THREAD)
    return max(1, min(needed, MAX_THREADS, os.cpu_count() or 1))
