"""Stores raw frames in a file of records: depth, and colour frames that the encoder could not take in time.

The kind of a record is numpy's name of the dtype (array protocol), such as ``|u1`` or ``<f4``; its payload is
the values in C order, compressed as one LZ4 block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoded_image import EncodedImage
from ..media.jpeg import JpegDecoder
from .kind import CaptureKind, Frame, OpenWriter
from .manifest import Camera, Manifest
from .records import JPEG, MAX_DIMENSIONS, MAX_PAYLOAD, Record, RecordWriter, largest_payload, read_records
from .staged_file import Extent

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

MAX_RATIO = 256
"""An LZ4 block is never more than 255 times smaller than its content."""


class RawWriter(RecordWriter):
    """Appends arrays to a new file of records."""

    def write(self, array: NDArray[Any] | EncodedImage, index: int | None = None) -> None:
        """Append a frame; compression and write release the GIL.

        Args:
            array: 1 to 4 dimensions, not empty, of numbers or bools; or an encoded image, written as it is.
            index: the frame's index in its episode; by default the number of frames in the file.

        Raises:
            ValueError: the array is of another kind.
            StorageError: the disk refused; the file is as it was before.
        """
        index = self.frames if index is None else index
        if isinstance(array, EncodedImage):
            header = array.read_header()
            self.append_record(index, JPEG, (header.height, header.width, 3), array.data)
            return
        if array.dtype.kind not in "biuf" or not 1 <= array.ndim <= MAX_DIMENSIONS or not array.size:
            raise ValueError(f"a raw frame cannot be {array.shape} {array.dtype}")
        dtype = array.dtype.newbyteorder("<")
        values = np.ascontiguousarray(array, dtype=dtype)
        payload = memoryview(_lz4().compress(values.reshape(-1).view(np.uint8)))
        self.append_record(index, dtype.str, array.shape, payload)


def read_indexed(
    path: Path, shape: tuple[int, ...] | None = None, extent: Extent | None = None
) -> Iterator[tuple[int, NDArray[Any] | None]]:
    """The frames of a file in order with their index in the episode, up to the end or the first torn record.

    A file that does not exist has no frames.

    Args:
        path: the file.
        shape: of every frame, if known: reading ends before the first frame of another shape.
        extent: as in `read_records`.

    Yields:
        The index and the frame; None for an encoded image that cannot be decoded.
    """
    decoder: JpegDecoder | None = None
    for record, dtype in _raw_records(path, shape, extent):
        if dtype is None:
            decoder = decoder or JpegDecoder(*record.shape[:2])
            image = decoder.decode(record.payload)
            yield record.index, None if image is None else image.to_ndarray()
            continue
        try:
            values = _lz4().decompress(
                record.payload, decompressed_size=math.prod(record.shape) * dtype.itemsize
            )
        except OSError:  # not LZ4, or of another length
            return
        yield record.index, np.frombuffer(values, dtype).reshape(record.shape)


def raw_indices(
    path: Path, shape: tuple[int, ...] | None = None, extent: Extent | None = None
) -> Iterator[int]:
    """The indices of the frames that `read_indexed` gives. Checks every record, decompresses none."""
    for record, _ in _raw_records(path, shape, extent):
        yield record.index


def _raw_records(
    path: Path, shape: tuple[int, ...] | None, extent: Extent | None
) -> Iterator[tuple[Record, np.dtype[Any] | None]]:
    """Each record with its dtype, which is None for an encoded image."""
    most = MAX_PAYLOAD if shape is None else largest_payload(*shape[:2])
    for record in read_records(path, extent, max_payload=most):
        is_encoded = record.kind == JPEG and shape is not None
        dtype = None if is_encoded else _dtype(record)
        if (dtype is None and not is_encoded) or (shape is not None and record.shape != shape):
            return
        yield record, dtype


def _dtype(record: Record) -> np.dtype[Any] | None:
    """The dtype of a raw frame; None if the record cannot be a raw frame."""
    try:
        dtype = np.dtype(record.kind)
    except (TypeError, ValueError):
        return None
    if dtype.kind not in "biuf" or math.prod(record.shape) * dtype.itemsize > MAX_RATIO * len(record.payload):
        return None  # a damaged shape must not cause a huge allocation either
    return dtype


@cache
def _lz4() -> pa.Codec:
    # Imported here, because encode workers without raw frames then save pyarrow's 30 MB.
    import pyarrow as pa

    return pa.Codec("lz4_raw")


class _Raw(CaptureKind):
    """Depth as the sensor gave it: (H, W) uint16 or float32."""

    name = "raw"
    suffix = ".raw"
    is_depth = True
    gives_arrays = True

    def writer(self, manifest: Manifest) -> OpenWriter:
        return lambda path, camera, fps: RawWriter(path)

    def read(self, path: Path, camera: Camera, manifest: Manifest) -> Iterator[Frame]:
        for _, array in read_indexed(path, self.shape(camera)):
            if array is None:
                return
            yield array

    def count(self, path: Path, camera: Camera, manifest: Manifest, extent: Extent) -> int:
        # Checks every record, decompresses none.
        return sum(1 for _ in raw_indices(path, self.shape(camera), extent))


RAW = _Raw()
