"""The rows of a live episode, journaled as an Arrow IPC stream, one record batch per flush.

Columns: one per feature that is not a camera, then ``task`` (string) and ``time_ns`` (int64, monotonic clock
at capture). Each batch has the CRC-32 of its values in its custom metadata, under ``crc32``, begun with
`checksum_owner.owner_seed` (older journals: with 0): after a power loss a file may end in a batch whose
header reached the disk and whose values did not.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..errors import DatasetError, FrameError, StorageError
from ..features import Feature, Schema
from ..system.storage import fsync_file, storage_errors
from .checksum_owner import owner_seed
from .records import AppendFile
from .row_columns import arrow_column, rows_schema, values_checksum
from .staged_file import Extent, StagedFile

MAX_PENDING_BYTES = 64 << 20
"""Rows that may wait for the disk. More means that the disk has accepted nothing for a long time."""

MAX_BATCH_BYTES = 512 << 20
"""Upper limit of a message that is read back: the rows that may wait, and the overhead of the layout."""

_CRC_KEY = b"crc32"
_ROW_OVERHEAD = 200

_BROKEN = (pa.ArrowException, OSError, ValueError, TypeError, MemoryError)
"""What Arrow raises for a damaged stream: its own errors, those of the strings and numbers in it, I/O errors
(beyond the end), and MemoryError for a length that no memory can hold."""


class _Row(NamedTuple):
    values: dict[str, Any]
    task: str
    time_ns: int
    size: int


class RowsJournal:
    """Takes rows on the event loop, writes them from another thread.

    `append` may be called from one thread while another calls `write` or `flush`; these and `close` from one
    thread at a time.

    Args:
        path: the file; must not exist.
        schema: the features; cameras are not rows.

    Attributes:
        path: the file.
        rows: rows appended.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.rows = 0
        self._columns = schema.columns
        self._schema = rows_schema(schema)
        # A deque's append and popleft are atomic, so the loop never waits for a lock.
        self._pending: deque[_Row] = deque()
        self._appended_bytes = 0  # written by the appending thread only
        self._flushed_bytes = 0  # written by the flushing thread only
        # Arrow writes into memory and the file takes whole batches, so that a refused one can be repeated.
        self._buffer = io.BytesIO()
        self._file = AppendFile(path)
        self._seed = owner_seed(path)
        self._closed = False
        try:
            self._writer = pa.ipc.new_stream(self._buffer, self._schema)
            # Arrow writes the schema with the first batch: an empty one, so that a refused batch never has
            # it.
            self._writer.write_batch(pa.RecordBatch.from_pylist([], self._schema))
            self._write_buffer()
            # pyarrow imports many of its modules when it first converts values, which holds the GIL for tens
            # of milliseconds: so convert some here, before recording begins.
            blank = {key: _blank(feature) for key, feature in self._columns.items()}
            values_checksum(self._batch([_Row(blank, "", 0, 0)]))
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._file.size

    def append(self, values: dict[str, Any], task: str, time_ns: int) -> None:
        """Take a row; cheap, no I/O. Arrays are copied.

        Args:
            values: an array of the feature's dtype and shape for every feature that is not a camera, or a
                str.
            task: what is being done.
            time_ns: monotonic clock at capture.

        Raises:
            FrameError: a text cannot be stored as UTF-8; this row is not recorded.
            StorageError: the disk has not taken rows for so long that no more can be kept in memory; this
                row is not recorded.
        """
        if self._appended_bytes - self._flushed_bytes > MAX_PENDING_BYTES:
            raise StorageError(
                f"The disk does not take rows: {len(self._pending)} wait to be written to {self.path}.",
                path=self.path,
            )
        size = _ROW_OVERHEAD + _text_bytes("task", task)
        row: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, str):
                size += _text_bytes(key, value)
                row[key] = value
            else:
                row[key] = copy = value.copy()
                size += copy.nbytes
        self._appended_bytes += size
        self._pending.append(_Row(row, task, time_ns, size))
        self.rows += 1

    def write(self) -> None:
        """Write the appended rows, if any, as one record batch. A kill does not lose them afterwards.

        Raises:
            StorageError: the disk refused. The rows are kept and written by the next call.
        """
        count = len(self._pending)
        if count:
            rows = list(islice(self._pending, count))
            batch = self._batch(rows)
            self._writer.write_batch(
                batch, custom_metadata={_CRC_KEY: str(values_checksum(batch, self._seed)).encode()}
            )
            self._write_buffer()
            for _ in range(count):
                self._flushed_bytes += self._pending.popleft().size

    def flush(self) -> None:
        """`write`, and make durable what was written.

        Raises:
            StorageError: the disk refused. The rows are kept and written by the next flush.
        """
        self.write()
        with storage_errors(self.path, "make durable"):
            fsync_file(self.path)

    def close(self) -> None:
        """Write the remaining rows, end the stream, make it durable and close the file. Idempotent."""
        if self._closed:
            return
        self.write()
        self._writer.close()
        self._write_buffer()
        with storage_errors(self.path, "make durable"):
            fsync_file(self.path)
        self._file.close()
        self._closed = True

    def abandon(self) -> None:
        """Close the file without writing what is pending. Idempotent."""
        self._closed = True
        self._pending.clear()
        self._file.close()

    def _write_buffer(self) -> None:
        data = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        self._file.append(data)

    def _batch(self, rows: list[_Row]) -> pa.RecordBatch:
        arrays: list[pa.Array[Any]] = [
            arrow_column([row.values[key] for row in rows], feature) for key, feature in self._columns.items()
        ]
        arrays.append(pa.array([row.task for row in rows], pa.string()))
        arrays.append(pa.array([row.time_ns for row in rows], pa.int64()))
        return pa.record_batch(arrays, schema=self._schema)


def _blank(feature: Feature) -> Any:
    return "" if feature.dtype == "string" else np.zeros(feature.shape, feature.dtype)


def read_rows(path: Path, schema: Schema, extent: Extent | None = None) -> pa.Table:
    """The rows of a journal, up to the end or the first batch that is torn or damaged.

    A missing file, or one that ends before its first batch, has no rows.

    Args:
        path: the file.
        schema: the features.
        extent: filled in with how far the file is whole.

    Returns:
        The columns of `rows_schema`.

    Raises:
        DatasetError: the file holds rows of other features, or is not a plain file.
        StorageError: the file cannot be read.
    """
    try:
        expected = rows_schema(schema)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: no journal can have these features: {error}", path=path) from error
    extent = Extent() if extent is None else extent
    with _opened(path, extent) as opened:
        if opened is None:
            return expected.empty_table()
        reader, source = opened
        if reader.schema != expected:
            # A journal with a torn schema has no rows.
            if _has_rows(reader, source):
                raise DatasetError(f"{path} holds rows of other features than the manifest's.", path=path)
            extent.fault = "its columns are damaged"
            return expected.empty_table()
        return pa.Table.from_batches(list(_whole_batches(reader, source)), schema=expected)


def count_rows(path: Path) -> int:
    """The rows of a journal whose features are not known, up to its end or the first damaged batch."""
    with _opened(path, Extent()) as opened:
        return 0 if opened is None else sum(batch.num_rows for batch in _whole_batches(*opened))


class _Source(io.RawIOBase):
    """A journal as Arrow reads it, message by message.

    A length that a message claims is checked against the file's size and a batch's limit before memory is
    allocated for it. Arrow wraps what `read` raises in errors of its own, so the disk's error is kept, and
    raised by `check`.
    """

    def __init__(self, file: StagedFile, extent: Extent) -> None:
        self.extent = extent
        self.seed = owner_seed(file.path)
        self._last = b""
        self._file = file
        self._error: StorageError | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer where the file ends, none for what no journal has.

        A journal never has a length above the limit, nor compressed values: a few bytes of a forged file
        could expand to gigabytes.
        """
        if size > MAX_BATCH_BYTES:
            return b""
        try:
            # Arrow reads a message's length (4 bytes, or 8 with what goes before), then its description.
            described = len(self._last) in (4, 8) and size == int.from_bytes(self._last[-4:], "little")
            self._last = data = self._file.read(size)
            return b"" if described and _is_compressed(data) else data
        except StorageError as error:
            self._error = error
            raise

    def tell(self) -> int:
        """Bytes read."""
        return self._file.position

    def check(self) -> None:
        """Raise the disk's error, if there was one.

        Raises:
            StorageError: the file could not be read.
        """
        if self._error is not None:
            raise self._error


def _is_compressed(message: bytes) -> bool:
    """Whether a message describes a batch of compressed values.

    By the layout of flatbuffers: field 2 of a `Message` is its header, field 3 of a `RecordBatch` its
    compression (Arrow's format/Message.fbs).
    """
    try:
        header = _field(message, int.from_bytes(message[:4], "little"), 2)
        if header is None:
            return False
        return _field(message, header + struct.unpack_from("<I", message, header)[0], 3) is not None
    except struct.error:
        return False  # Arrow refuses it


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer's table is; None if the table does not have it."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    if layout < 0 or 4 + 2 * number >= struct.unpack_from("<H", data, layout)[0]:
        return None
    offset = struct.unpack_from("<H", data, layout + 4 + 2 * number)[0]
    return table + offset if offset else None


@contextlib.contextmanager
def _opened(path: Path, extent: Extent) -> Iterator[tuple[pa.RecordBatchStreamReader, _Source] | None]:
    """Open a journal; None when it is missing or ends before its first batch."""
    file = StagedFile.open(path, extent)
    if file is None:
        yield None
        return
    with file:
        source = _Source(file, extent)
        try:
            reader = pa.ipc.open_stream(pa.PythonFile(source, "r"))
        except _BROKEN:
            source.check()
            extent.fault = "its beginning is torn or damaged" if extent.size else None
            yield None
            return
        yield reader, source


def _whole_batches(reader: pa.RecordBatchStreamReader, source: _Source) -> Iterator[pa.RecordBatch]:
    """The batches up to the first that is not whole; the empty one that begins a journal is left out."""
    rows = 0
    extent = source.extent
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
            batch.validate(full=True)
            crc = None if metadata is None else dict(metadata).get(_CRC_KEY)
            sums = [str(values_checksum(batch, seed)).encode() for seed in (source.seed, 0)]
            whole = not batch.num_rows or crc in sums
        except StopIteration:
            source.check()
            if source.tell() < extent.size:
                extent.fault = f"it ends after row {rows} without an end mark"
            return
        except _BROKEN:
            source.check()
            whole = False
        if not whole:
            extent.fault = f"the rows after row {rows} are torn or damaged"
            return
        extent.end = source.tell()
        rows += batch.num_rows
        if batch.num_rows:
            yield batch


def _has_rows(reader: pa.RecordBatchStreamReader, source: _Source) -> bool:
    try:
        return any(batch.num_rows for batch in reader)
    except _BROKEN:
        source.check()
        return False


def _text_bytes(key: str, text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise FrameError(f"{key!r} cannot be stored as UTF-8: {error}", key=key) from error
