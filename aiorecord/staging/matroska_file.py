"""The Matroska file of a live capture: writes its bytes to disk, and reads them back through checksums.

libav never opens the file: it writes into memory and reads from memory. So an append that the disk refuses
can be taken back, and a read error is reported as one: libav's Matroska demuxer would take it for the end of
the file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ..errors import AiorecordError, StorageError
from ..system.storage import is_there
from .checksums import checked_chunks, sums_path
from .lossless import PADDING
from .manifest import Camera
from .staged_file import Extent

STRICT = "crccheck+bitstream+buffer+explode+careful+compliant+aggressive"
"""Makes libav's decoder refuse a damaged frame; otherwise it conceals the damage without an error."""


class LiveBytes:
    """Collects what libav has written until it is taken. It cannot seek, so bytes are only appended."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take bytes (for libav)."""
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> list[bytes]:
        """All bytes written since the last call, a part for each packet."""
        parts, self._parts = self._parts, []
        return parts


class _Proven:
    """The verified bytes of a file, as libav reads them.

    An error raised here would be printed by PyAV and become the end of the file: it is kept, for `check`.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._error: AiorecordError | None = None

    def read(self, size: int) -> bytes:
        """The next bytes, none at the end."""
        if not self._rest:
            try:
                self._rest = memoryview(next(self._chunks, b""))
            except AiorecordError as error:
                self._error = error
        part, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return part

    def check(self) -> None:
        """Raise the error that reading met, if any.

        Raises:
            DamageError: the file is not a plain file.
            StorageError: it cannot be read.
        """
        if self._error is not None:
            raise self._error


class LiveCapture:
    """A live capture, open for reading.

    Attributes:
        stream: its video.
    """

    def __init__(self, path: Path, container: InputContainer, source: _Proven) -> None:
        self._path = path
        self._container = container
        self._source = source
        self.stream: VideoStream = container.streams.video[0]

    def has_size(self, camera: Camera) -> bool:
        """Whether the header states the camera's size: otherwise it is damaged, or another file's."""
        return (self.stream.width, self.stream.height) == (camera.width, camera.height)

    def packets(self) -> Iterator[av.Packet]:
        """The whole packets in decoding order, up to where the file is torn or damaged. Once.

        Raises:
            StorageError: the file cannot be read; what came before the error was yielded.
        """
        try:
            for packet in self._container.demux(self.stream):
                self._source.check()
                if packet.is_corrupt:
                    break
                if packet.size:
                    yield packet
        except av.FFmpegError as error:
            refuse_memory(error, self._path)
        self._source.check()

    def decoded(self, packets: Iterable[av.Packet]) -> Iterator[tuple[av.Packet | None, list[av.VideoFrame]]]:
        """Each packet with the frames that it completes, up to the first that the decoder refuses.

        At the end come the frames that the decoder held back, with None.
        """
        stream, context = self.stream, self.stream.codec_context
        # One thread: an encode runs at the same time, and after a damaged frame none is still being decoded.
        context.thread_count = 1
        # No frames larger than the header states, whatever a packet claims.
        pixels = (stream.width + PADDING) * (stream.height + PADDING)
        context.options = {"err_detect": STRICT, "max_pixels": str(pixels)}
        for packet in itertools.chain(packets, [None]):
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                return
            yield packet, frames


@contextlib.contextmanager
def opened_capture(
    path: Path, *, checked: bool | None = None, extent: Extent | None = None
) -> Iterator[LiveCapture | None]:
    """Open a live capture.

    Args:
        path: the Matroska file.
        checked: it has checksums; None if unknown: then it has if the file of checksums exists.
        extent: filled in with how far it is whole, while it is read.

    Yields:
        None when it is missing or its header never reached the disk.
    """
    if checked is None:
        checked = is_there(sums_path(path))
    chunks = checked_chunks(path, Extent() if extent is None else extent, checked=checked)
    source = _Proven(chunks)
    try:
        try:
            container = av.open(source, "r", format="matroska")
        except (av.FFmpegError, ValueError) as error:
            source.check()
            refuse_memory(error, path)
            yield None
            return
        source.check()
        with container:
            yield LiveCapture(path, container, source) if container.streams.video else None
    finally:
        chunks.close()


def refuse_memory(error: Exception, path: Path) -> None:
    """Raise an error if memory was lacking: that says nothing about the file.

    Raises:
        StorageError: memory was lacking.
    """
    if isinstance(error, av.FFmpegError) and error.errno == errno.ENOMEM:
        raise StorageError(f"Could not read {path}: not enough memory", path=path, reading=True) from error
