"""Captures frames losslessly with MagicYUV, which is cheap and stays readable up to where a kill cuts it.

MagicYUV codes every frame by itself, returns its packet at once, and describes it in the packet's own header,
so a record is all that is needed to show a frame (FFmpeg 7: ``libavcodec/magicyuv.c``, ``magicyuvenc.c``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from ..errors import CodecUnavailableError, EncodeError
from ..media.libav_errors import libav_errors
from ..media.pixels import PixelConverter
from .kind import CaptureKind, Frame, OpenWriter
from .manifest import Camera, Manifest
from .records import RecordWriter, largest_payload, read_records
from .staged_file import Extent

CODEC = "magicyuv"

EXACT_PIX_FMTS = frozenset({"yuv420p", "yuv422p", "yuv444p"})
"""Pixel formats of final videos that the capture stores bit by bit. For all others it stores RGB."""

_RGB = "gbrp"
"""RGB in the codec's layout: the same values, in planes."""

PIXELS_PER_S_PER_THREAD = 1280 * 720 * 30
"""Pixels per second for one thread. Below this, more threads only increase the total processor time."""

MAX_THREADS = 8

PADDING = 64
"""Decoders round sizes up to whole blocks, by at most so many pixels."""


class LosslessWriter(RecordWriter):
    """One file of lossless frames being written by one thread. What was written survives a killed process.

    Encoding leaves the GIL to others.

    Args:
        path: the file; must not exist.
        camera: with capture ``lossless`` or ``rgb``.
        fps: frames per second.

    Attributes:
        frames: frames in the file.

    Raises:
        CodecUnavailableError: this libav has no MagicYUV, or it cannot be opened at this size.
        StorageError: the disk refused.
    """

    def __init__(self, path: Path, camera: Camera, fps: int) -> None:
        self._shape = (camera.height, camera.width, 3)
        self._tick = Fraction(1, fps)
        pix_fmt = _capture_pix_fmt(camera)
        self._converter: PixelConverter | None = PixelConverter(pix_fmt)
        self._encoder: VideoCodecContext | None = self._open_encoder(path, camera, pix_fmt, fps)
        super().__init__(path)

    def write(self, frame: av.VideoFrame) -> None:
        """Encode the next frame and pass it to the operating system.

        Args:
            frame: rgb24, of the camera's size. Its pixels may be reused afterwards.

        Raises:
            EncodeError: the frame has another size, or the encoder failed.
            StorageError: the disk refused; the file is as it was before.
        """
        assert self._encoder is not None
        assert self._converter is not None
        if (frame.height, frame.width) != self._shape[:2]:  # libav would scale it
            raise EncodeError(f"A frame of {self.path.name} has another size than the others.")
        with libav_errors(f"encode frame {self.frames} to {self.path}", self.path, codec=CODEC):
            converted = self._converter.convert(frame)
            converted.pts, converted.time_base = self.frames, self._tick
            packets = self._encoder.encode(converted)
        if len(packets) != 1:
            raise EncodeError(
                f"{CODEC} made {len(packets)} packets of a frame of {self.path.name}.", codec=CODEC
            )
        self.append_record(self.frames, CODEC, self._shape, memoryview(packets[0]))

    def close(self) -> None:
        """Close the file. Idempotent."""
        # The encoder's memory is freed with its objects, and a waiting save keeps this writer alive.
        self._encoder = self._converter = None
        super().close()

    def _open_encoder(self, path: Path, camera: Camera, pix_fmt: str, fps: int) -> VideoCodecContext:
        try:
            with libav_errors(f"open {CODEC} for {path}", path, codec=CODEC):
                encoder = av.CodecContext.create(CODEC, "w")
                assert isinstance(encoder, VideoCodecContext)
                encoder.width, encoder.height, encoder.pix_fmt = camera.width, camera.height, pix_fmt
                encoder.time_base = self._tick
                # Threads work on slices of one picture; with a picture per thread, packets would be delayed.
                encoder.thread_type = "SLICE"
                encoder.thread_count = encoder_threads(camera.height, camera.width, fps)
                encoder.options = {"pred": "left"}
                encoder.open()
        except (EncodeError, ValueError) as error:  # PyAV: an encoder that is not built in is a ValueError
            size = f"{camera.width}x{camera.height}"
            raise CodecUnavailableError(
                f"The capture codec {CODEC} does not open at {size}, {pix_fmt}: {error}", codec=CODEC
            ) from error
        return encoder


def read_lossless(path: Path, camera: Camera) -> Iterator[av.VideoFrame]:
    """The frames of a file in order, up to the end or the first that is torn, damaged or of another camera.

    A file that does not exist has none.

    Args:
        path: the file.
        camera: with capture ``lossless`` or ``rgb``.

    Yields:
        Frames in the camera's `pix_fmt`; for ``rgb`` rgb24.
    """
    converter = PixelConverter(camera.pix_fmt)
    pix_fmt = _capture_pix_fmt(camera)
    decoder = av.CodecContext.create(CODEC, "r")
    assert isinstance(decoder, VideoCodecContext)
    # One thread: an encode runs at the same time, and after a damaged frame none is still being decoded.
    decoder.thread_count = 1
    # Pictures larger than the camera's are refused, whatever a packet claims.
    decoder.options = {"max_pixels": str((camera.height + PADDING) * (camera.width + PADDING))}
    for payload in _packets(path, camera):
        try:
            frames = decoder.decode(av.Packet(payload))
        except av.FFmpegError:
            return
        if len(frames) != 1:
            return
        frame = frames[0]
        if (frame.format.name, frame.height, frame.width) != (pix_fmt, camera.height, camera.width):
            return
        # The decoder sets a value of its own, which the final encoder would write into the video.
        frame.color_range = ColorRange.UNSPECIFIED
        yield converter.convert(frame)


def _packets(path: Path, camera: Camera, extent: Extent | None = None) -> Iterator[bytes]:
    shape = (camera.height, camera.width, 3)
    most = largest_payload(camera.height, camera.width)
    for number, record in enumerate(read_records(path, extent, max_payload=most)):
        if (record.index, record.kind, record.shape) != (number, CODEC, shape):
            return
        yield record.payload


def _capture_pix_fmt(camera: Camera) -> str:
    return _RGB if camera.capture == RGB.name else camera.pix_fmt


def encoder_threads(height: int, width: int, fps: int) -> int:
    """Capture threads for one camera: one up to 1280x720 at 30 fps, more where one is too slow."""
    needed = math.ceil(height * width * fps / PIXELS_PER_S_PER_THREAD)
    return max(1, min(needed, MAX_THREADS, os.cpu_count() or 1))


class _Lossless(CaptureKind):
    """Frames in the final video's pixel format, so that its encoder sees the pixels of a direct encode."""

    name = "lossless"
    suffix = ".frames"

    def writer(self, manifest: Manifest) -> OpenWriter:
        return LosslessWriter

    def read(self, path: Path, camera: Camera, manifest: Manifest) -> Iterator[Frame]:
        return read_lossless(path, camera)

    def count(self, path: Path, camera: Camera, manifest: Manifest, extent: Extent) -> int:
        # Checks every record, decodes none.
        return sum(1 for _ in _packets(path, camera, extent))


class _LosslessRGB(_Lossless):
    """RGB, for `image` features and for pixel formats that MagicYUV does not have."""

    name = "rgb"
    gives_arrays = True

    def read(self, path: Path, camera: Camera, manifest: Manifest) -> Iterator[Frame]:
        for frame in read_lossless(path, camera):
            yield frame.to_ndarray()


LOSSLESS = _Lossless()
RGB = _LosslessRGB()
