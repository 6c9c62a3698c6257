"""Raw frames in a file, one checked record each: for depth, and for colour that no encoder took in time.

A record, little-endian::

    magic    4 bytes    b"AIRF"
    crc32    uint32     of everything that follows in the record
    index    uint64     of the frame in its episode
    size     uint64     bytes of the payload
    dtype    8 bytes    numpy's name (array protocol), such as b"|u1" or b"<f4", padded with zeros
    ndim     uint32     1 to 4
    shape    4 uint32   unused ones are 0
    payload             the values in C order, compressed as one LZ4 block
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from ..storage import storage_errors
from .append_file import AppendFile

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = b"AIRF"
MAX_DIMENSIONS = 4
MAX_RATIO = 256
"""An LZ4 block is never more than 255 times smaller than its content."""

_START = struct.Struct("<4sI")
_HEADER = struct.Struct(f"<QQ8sI{MAX_DIMENSIONS}I")


class RawWriter:
    """Appends frames to a new file. Not thread-safe; use it as a context manager or `close` it.

    Args:
        path: the file; must not exist.

    Attributes:
        frames: frames written.

    Raises:
        StorageError: the disk refused.
    """

    def __init__(self, path: Path) -> None:
        self.frames = 0
        self._file = AppendFile(path)

    @property
    def bytes_written(self) -> int:
        """The size of the file."""
        return self._file.size

    @property
    def safe(self) -> int:
        """Frames that can be read if the process is killed now: all that were written."""
        return self.frames

    def write(self, array: NDArray[Any], index: int | None = None) -> None:
        """Append a frame; the compression and the write leave the GIL to others.

        Args:
            array: 1 to 4 dimensions, not empty, of numbers or bools.
            index: the frame's index in its episode; by default the number of frames in the file.

        Raises:
            ValueError: the array is not of that kind.
            StorageError: the disk refused; the file is as it was before.
        """
        if array.dtype.kind not in "biuf" or not 1 <= array.ndim <= MAX_DIMENSIONS or not array.size:
            raise ValueError(f"a raw frame cannot be {array.shape} {array.dtype}")
        dtype = array.dtype.newbyteorder("<")
        values = np.ascontiguousarray(array, dtype=dtype)
        payload = memoryview(_lz4().compress(values.reshape(-1).view(np.uint8)))
        shape = array.shape + (0,) * (MAX_DIMENSIONS - array.ndim)
        header = _HEADER.pack(
            self.frames if index is None else index, payload.nbytes, dtype.str.encode(), array.ndim, *shape
        )
        start = _START.pack(MAGIC, zlib.crc32(payload, zlib.crc32(header)))
        self._file.append(start + header, payload)
        self.frames += 1

    def close(self) -> None:
        """Close the file. Idempotent.

        Raises:
            StorageError: the disk refused.
        """
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_raw(path: Path) -> Iterator[NDArray[Any]]:
    """The frames of a file in order, up to the end or the first record that is torn or damaged.

    A file that does not exist has no frames.

    Raises:
        StorageError: the file cannot be read.
    """
    for _, frame in read_indexed(path):
        yield frame


def read_indexed(path: Path) -> Iterator[tuple[int, NDArray[Any]]]:
    """Like `read_raw`, with each frame's index in its episode."""
    for index, dtype, shape, payload in _read_records(path):
        try:
            values = _lz4().decompress(payload, decompressed_size=math.prod(shape) * dtype.itemsize)
        except OSError:  # not LZ4, or of another length
            return
        yield index, np.frombuffer(values, dtype).reshape(shape)


def raw_indices(path: Path) -> Iterator[int]:
    """The indices of the frames that `read_indexed` gives. Checks every record, decompresses none."""
    for index, *_ in _read_records(path):
        yield index


def _read_records(path: Path) -> Iterator[tuple[int, np.dtype[Any], tuple[int, ...], bytes]]:
    with storage_errors(path, "read"):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            length = file.seek(0, 2)
            file.seek(0)
            while (record := _read_record(file, length)) is not None:
                yield record


def _read_record(file: BinaryIO, length: int) -> tuple[int, np.dtype[Any], tuple[int, ...], bytes] | None:
    head = file.read(_START.size + _HEADER.size)
    if len(head) < _START.size + _HEADER.size:
        return None
    magic, crc = _START.unpack_from(head)
    header = head[_START.size :]
    index, size, dtype, ndim, *shape = _HEADER.unpack(header)
    # The size is looked at before it is trusted: a damaged one must not ask for all memory.
    if magic != MAGIC or size > length - file.tell():
        return None
    payload = file.read(size)
    if zlib.crc32(payload, zlib.crc32(header)) != crc:
        return None
    try:
        kind = np.dtype(dtype.rstrip(b"\0").decode("ascii"))
    except (TypeError, ValueError):
        return None
    dimensions = tuple(shape[:ndim])
    if kind.kind not in "biuf" or not 1 <= ndim <= MAX_DIMENSIONS or 0 in dimensions:
        return None
    if math.prod(dimensions) * kind.itemsize > MAX_RATIO * size:
        return None  # nor must the shape
    return index, kind, dimensions, payload


@cache
def _lz4() -> pa.Codec:
    # Here, because encode workers whose cameras have no raw frames do without pyarrow's 30 MB.
    import pyarrow as pa

    return pa.Codec("lz4_raw")
