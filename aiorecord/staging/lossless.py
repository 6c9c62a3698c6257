"""Captures colour frames in records: encoded images as they come, arrays losslessly with MagicYUV.

MagicYUV codes every frame by itself, returns its packet at once, and describes it in the packet's own header,
so a record is all that is needed to show a frame (FFmpeg 7: ``libavcodec/magicyuv.c``, ``magicyuvenc.c``). So
does a JPEG. A file stays readable up to where a kill cuts it.
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

from ..encoded_image import EncodedImage
from ..errors import CodecUnavailableError, EncodeError
from ..media.jpeg import JpegDecoder
from ..media.libav_errors import libav_errors
from ..media.pixels import PixelConverter
from .kind import CaptureKind, Frame, OpenWriter
from .manifest import Camera, Manifest
from .records import JPEG, Record, RecordWriter, largest_payload, read_records
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
        camera: with capture ``lossless``, ``rgb`` or ``packets``. Before the first frame, the first two may
            become ``packets``.
        fps: frames per second.

    Attributes:
        frames: frames in the file.

    Raises:
        CodecUnavailableError: this libav has no MagicYUV, or it cannot be opened at this size.
        StorageError: the disk refused.
    """

    def __init__(self, path: Path, camera: Camera, fps: int) -> None:
        self._shape = (camera.height, camera.width, 3)
        self._camera = camera
        self._fps = fps
        # Opened before the first frame, so that a codec that is missing is found in time.
        self._encoder: VideoCodecContext | None = self._open_encoder(path)
        super().__init__(path)

    def write(self, frame: av.VideoFrame | EncodedImage) -> None:
        """Write the next frame, encoded if it is not yet, and pass it to the operating system.

        Args:
            frame: an encoded image, or rgb24 of the camera's size, whose pixels may be reused afterwards.

        Raises:
            EncodeError: the frame has another size, or the encoder failed.
            StorageError: the disk refused; the file is as it was before.
        """
        if isinstance(frame, EncodedImage):
            self._encoder = None  # it may never be needed; its memory is freed
            self.append_record(self.frames, JPEG, self._shape, frame.data)
            return
        if self._encoder is None:
            self._encoder = self._open_encoder(self.path)
        if (frame.height, frame.width) != self._shape[:2]:  # libav would scale it
            raise EncodeError(f"A frame of {self.path.name} has another size than the others.")
        with libav_errors(f"encode frame {self.frames} to {self.path}", self.path, codec=CODEC):
            converted = self._converter.convert(frame)
            converted.pts, converted.time_base = self.frames, Fraction(1, self._fps)
            packets = self._encoder.encode(converted)
        if len(packets) != 1:
            raise EncodeError(
                f"{CODEC} made {len(packets)} packets of a frame of {self.path.name}.", codec=CODEC
            )
        self.append_record(self.frames, CODEC, self._shape, memoryview(packets[0]))

    def close(self) -> None:
        """Close the file. Idempotent."""
        # The encoder's memory is freed with its objects, and a waiting save keeps this writer alive.
        self._encoder = None
        super().close()

    def _open_encoder(self, path: Path) -> VideoCodecContext:
        camera, pix_fmt = self._camera, _capture_pix_fmt(self._camera)
        self._converter = PixelConverter(pix_fmt)
        try:
            with libav_errors(f"open {CODEC} for {path}", path, codec=CODEC):
                encoder = av.CodecContext.create(CODEC, "w")
                assert isinstance(encoder, VideoCodecContext)
                encoder.width, encoder.height, encoder.pix_fmt = camera.width, camera.height, pix_fmt
                encoder.time_base = Fraction(1, self._fps)
                # Threads work on slices of one picture; with a picture per thread, packets would be delayed.
                encoder.thread_type = "SLICE"
                encoder.thread_count = encoder_threads(camera.height, camera.width, self._fps)
                encoder.options = {"pred": "left"}
                encoder.open()
        except (EncodeError, ValueError) as error:  # PyAV: an encoder that is not built in is a ValueError
            size = f"{camera.width}x{camera.height}"
            raise CodecUnavailableError(
                f"The capture codec {CODEC} does not open at {size}, {pix_fmt}: {error}", codec=CODEC
            ) from error
        return encoder


def read_lossless(path: Path, camera: Camera) -> Iterator[av.VideoFrame | None]:
    """The frames of a file in order, up to the end or the first that is torn, damaged or of another camera.

    A file that does not exist has none.

    Args:
        path: the file.
        camera: with capture ``lossless``, ``rgb`` or ``packets``.

    Yields:
        Frames in the camera's `pix_fmt`, rgb24 for ``rgb`` and ``packets``; None for an encoded image that
        cannot be decoded.
    """
    converter = PixelConverter(camera.pix_fmt)
    pix_fmt = _capture_pix_fmt(camera)
    jpeg = JpegDecoder(camera.height, camera.width)
    decoder = av.CodecContext.create(CODEC, "r")
    assert isinstance(decoder, VideoCodecContext)
    # One thread: an encode runs at the same time, and after a damaged frame none is still being decoded.
    decoder.thread_count = 1
    # Pictures larger than the camera's are refused, whatever a packet claims.
    decoder.options = {"max_pixels": str((camera.height + PADDING) * (camera.width + PADDING))}
    for record in _records(path, camera):
        if record.kind == JPEG:
            image = jpeg.decode(record.payload)
            yield None if image is None else converter.convert(image)
            continue
        try:
            frames = decoder.decode(av.Packet(record.payload))
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


def _records(path: Path, camera: Camera, extent: Extent | None = None) -> Iterator[Record]:
    shape = (camera.height, camera.width, 3)
    most = largest_payload(camera.height, camera.width)
    for number, record in enumerate(read_records(path, extent, max_payload=most)):
        if (record.index, record.shape) != (number, shape) or record.kind not in (CODEC, JPEG):
            return
        yield record


def _capture_pix_fmt(camera: Camera) -> str:
    return camera.pix_fmt if camera.capture == LOSSLESS.name else _RGB


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

    def read(self, path: Path, camera: Camera, manifest: Manifest) -> Iterator[Frame | None]:
        return read_lossless(path, camera)

    def count(self, path: Path, camera: Camera, manifest: Manifest, extent: Extent) -> int:
        # Checks every record, decodes none.
        return sum(1 for _ in _records(path, camera, extent))


class _LosslessRGB(_Lossless):
    """RGB, for `image` features and for pixel formats that MagicYUV does not have."""

    name = "rgb"
    gives_arrays = True

    def read(self, path: Path, camera: Camera, manifest: Manifest) -> Iterator[Frame | None]:
        for frame in read_lossless(path, camera):
            yield None if frame is None else frame.to_ndarray()


class _Packets(_Lossless):
    """Encoded images as the camera sent them; arrays that come in between as lossless RGB.

    Both are read back as rgb24, for that is what an image that is decoded first is recorded from.
    """

    name = "packets"
    takes_encoded = True

    def camera(self, key: str, height: int, width: int, pix_fmt: str) -> Camera:
        # The pixel format of the final video does not matter here.
        return super().camera(key, height, width, "rgb24")


LOSSLESS = _Lossless()
RGB = _LosslessRGB()
PACKETS = _Packets()
