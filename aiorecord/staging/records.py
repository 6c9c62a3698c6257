"""Files of frames in checked records, readable up to the point where a kill or a power loss cuts them.

A record, little-endian::

    magic    4 bytes    b"AIRF"
    crc32    uint32     of everything that follows in the record, begun with `owner_seed` (older: 0)
    index    uint64     of the frame in its episode
    size     uint64     bytes of the payload
    kind     8 bytes    what the payload is, ASCII, padded with zeros
    ndim     uint32     1 to 4
    shape    4 uint32   of the frame's array; unused ones are 0
    payload
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..system.storage import storage_errors
from .checksum_owner import owner_seed
from .staged_file import Extent, StagedFile

MAGIC = b"AIRF"
JPEG = "jpeg"
"""The kind of a record whose payload is an encoded image; its shape is that of the decoded one."""

MAX_DIMENSIONS = 4
MAX_PAYLOAD = 1 << 30
"""Bytes. No camera's picture has more, and a damaged size must not cause a huge allocation."""

_START = struct.Struct("<4sI")
_HEADER = struct.Struct(f"<QQ8sI{MAX_DIMENSIONS}I")

type Bytes = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Record:
    """One frame as it is in the file.

    Attributes:
        index: of the frame in its episode.
        kind: what the payload is.
        shape: of the frame's array, 1 to 4 dimensions, none of them 0.
        payload: the frame.
    """

    index: int
    kind: str
    shape: tuple[int, ...]
    payload: bytes


class AppendFile:
    """A new file to which records are appended, unbuffered: what was appended survives a killed process.

    A record that the disk refuses is cut off again, so that the file ends with a whole one and appending
    can be tried again. Only `storage.fsync_file` makes it survive a power loss. Not thread-safe.

    Args:
        path: the file; must not exist.

    Attributes:
        path: the file.
        size: bytes appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        with storage_errors(path, "create"):
            self._file = path.open("xb", buffering=0)

    def append(self, *parts: bytes | memoryview) -> None:
        """Append one record, given in parts."""
        written = 0
        with storage_errors(self.path, "write"):
            try:
                for part in parts:
                    rest = memoryview(part).cast("B")
                    while rest:
                        count = self._file.write(rest) or 0
                        written += count
                        rest = rest[count:]
            except OSError:
                self.cut(self.size)
                raise
        self.size += written

    @property
    def paths(self) -> list[Path]:
        """The files on disk that are written."""
        return [self.path]

    def cut(self, size: int) -> None:
        """Take back what was appended beyond a size."""
        with storage_errors(self.path, "cut"):
            self._file.truncate(size)
            self._file.seek(size)
        self.size = size

    def close(self) -> None:
        """Close the file. Idempotent."""
        with storage_errors(self.path, "close"):
            self._file.close()


class RecordWriter(AppendFile):
    """Appends records to a new file; what was appended survives a killed process.

    Args:
        path: the file; must not exist.

    Attributes:
        frames: records written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.frames = 0
        self._seed = owner_seed(path)

    @property
    def safe(self) -> int:
        """Frames that can be read if the process is killed now: all that were written."""
        return self.frames

    def append_record(self, index: int, kind: str, shape: tuple[int, ...], *payload: Bytes) -> None:
        """Append a record.

        Args:
            index: of the frame in its episode.
            kind: what the payload is, 8 ASCII characters at most.
            shape: of the frame's array.
            payload: the frame, in parts of bytes, `MAX_PAYLOAD` together at most.
        """
        sizes = shape + (0,) * (MAX_DIMENSIONS - len(shape))
        # Not len(): pyarrow's buffers get smaller when they are compressed into, but keep their length.
        size = sum(memoryview(part).nbytes for part in payload)
        header = _HEADER.pack(index, size, kind.encode("ascii"), len(shape), *sizes)
        crc = zlib.crc32(header, self._seed)
        for part in payload:
            crc = zlib.crc32(part, crc)
        self.append(_START.pack(MAGIC, crc) + header, *payload)
        self.frames += 1


def read_records(
    path: Path, extent: Extent | None = None, *, max_payload: int = MAX_PAYLOAD
) -> Iterator[Record]:
    """The records of a file in order, up to the end or the first that is torn or damaged.

    A file that does not exist has none.

    Args:
        path: the file.
        extent: filled in with how far the file is whole: up to the last record after which the next was asked
            for.
        max_payload: bytes of the largest possible record; no more memory is allocated for one.
    """
    extent = Extent() if extent is None else extent
    file = StagedFile.open(path, extent)
    if file is None:
        return
    with file:
        while file.left:
            record = _read_record(file, min(max_payload, MAX_PAYLOAD))
            if record is None:
                extent.fault = f"the record at byte {extent.end} is torn or damaged"
                return
            yield record
            extent.end = file.position


def _read_record(file: StagedFile, max_payload: int) -> Record | None:
    head = file.read(_START.size + _HEADER.size)
    if len(head) < _START.size + _HEADER.size:
        return None
    magic, crc = _START.unpack_from(head)
    header = head[_START.size :]
    index, size, kind, ndim, *sizes = _HEADER.unpack(header)
    # Checked before it is used.
    if magic != MAGIC or size > min(file.left, max_payload):
        return None
    payload = file.read(size)
    if not any(zlib.crc32(payload, zlib.crc32(header, seed)) == crc for seed in (owner_seed(file.path), 0)):
        return None
    shape = tuple(sizes[:ndim])
    if not 1 <= ndim <= MAX_DIMENSIONS or 0 in shape or not kind.isascii():
        return None
    return Record(index, kind.rstrip(b"\0").decode("ascii"), shape, payload)


def largest_payload(height: int, width: int) -> int:
    """Upper limit of the bytes of a camera's frame: 4 per pixel, and what a codec may add."""
    return min(MAX_PAYLOAD, height * width * 5 + (1 << 16))
