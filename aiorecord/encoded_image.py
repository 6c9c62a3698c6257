"""A camera image as the camera sent it, compressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import FrameError
from .jpeg_header import JpegError, JpegHeader, read_jpeg_header
from .values import is_whole

if TYPE_CHECKING:
    from collections.abc import Buffer

FORMATS = ("jpeg",)


@dataclass(frozen=True, init=False, repr=False, slots=True)
class EncodedImage:
    """A compressed camera image, recorded as it is: in a frame it takes the place of an array.

    Args:
        data: the bytes of one image. `bytes` are kept as they are; the content of any other buffer is copied.
        format: ``jpeg``, as cameras send it in MJPEG too.
        captured_ns: when the camera took the image, on the host's monotonic clock (`time.monotonic_ns`); None
            if that is not known. An image that is not newer than the one before is counted as stale.

    Attributes:
        data: the bytes.
        format: as given.
        captured_ns: as given.

    Raises:
        FrameError: `data` is no buffer of bytes, the format is unknown, or the time is no whole number. What
            the bytes hold is checked when the frame is recorded.
    """

    data: bytes
    format: str
    captured_ns: int | None

    def __init__(self, data: Buffer, *, format: str = "jpeg", captured_ns: int | None = None) -> None:
        if not isinstance(data, bytes):
            try:
                data = memoryview(data).tobytes()
            except TypeError:
                kind = type(data).__name__
                raise FrameError(f"The data of an EncodedImage are bytes, not {kind}.") from None
        if format not in FORMATS:
            raise FrameError(f"The format of an EncodedImage is 'jpeg', not {format!r:.40}.")
        if captured_ns is not None and not is_whole(captured_ns):
            raise FrameError(f"captured_ns is a whole number of nanoseconds, not {captured_ns!r:.40}.")
        for name, value in (("data", data), ("format", format), ("captured_ns", captured_ns)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"EncodedImage({len(self.data)} bytes, {self.format!r}, captured_ns={self.captured_ns})"

    def read_header(self) -> JpegHeader:
        """The size and chroma format that the image states. Decodes nothing; microseconds.

        Raises:
            JpegError: it is no JPEG that can be recorded, or it is cut off.
        """
        return read_jpeg_header(self.data)

    def check(self, key: str, height: int, width: int) -> None:
        """Check that it can be recorded as the image of a camera. Decodes nothing.

        Args:
            key: the camera's feature key, for the message.
            height: pixels of the camera's feature.
            width: likewise.

        Raises:
            FrameError: it is no whole JPEG, or has another size.
        """
        try:
            header = self.read_header()
        except JpegError as error:
            raise FrameError(f"{key!r} is no JPEG image that can be recorded: {error}.", key=key) from None
        if (header.height, header.width) != (height, width):
            raise FrameError(
                f"{key!r} is a JPEG of {header.width}x{header.height}, expected {width}x{height}.", key=key
            )
