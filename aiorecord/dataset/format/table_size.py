"""Estimates the memory that a Parquet file needs before it is read: a few bytes can expand to gigabytes.

Besides what compression hides, a run of equal values is stored as one number, and a text of a dictionary is
stored once however often it occurs (Parquet's run-length and dictionary encodings,
https://parquet.apache.org/docs/file-format/data-pages/encodings/). Neither shows in the uncompressed sizes of
a footer, but the number of values does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DatasetError

MAX_TABLE_BYTES = 1 << 30
"""Most bytes in memory of a table that is read as a whole; the largest real ones have some dozen MB."""

MAX_TABLE_ROWS = 10_000_000
"""Most rows of a table that is read as a whole."""

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


def check_size(
    file: pq.ParquetFile, path: Path, columns: Collection[str] | None = None, *, group: int | None = None
) -> None:
    """Check that a table, some columns, or one of its row groups may be read as a whole.

    Args:
        file: the table, opened.
        path: its file, which is read if the footer does not state how long texts are.
        columns: those that will be read; default all.
        group: the row group that will be read; default all.

    Raises:
        DatasetError: it has too many rows, or takes too much memory.
        OSError: it cannot be read.
    """
    meta = file.metadata
    groups = range(meta.num_row_groups) if group is None else range(group, group + 1)
    size = 0
    texts: dict[int, list[str]] = {}
    if meta.num_rows <= MAX_TABLE_ROWS:
        for number, column in _columns(meta, groups, columns):
            if (width := _WIDTHS.get(column.physical_type)) is not None:
                size += max(column.total_uncompressed_size, column.num_values * width)
                continue
            size += column.total_uncompressed_size
            if column.num_values * column.total_uncompressed_size > MAX_TABLE_BYTES:
                texts.setdefault(number, []).append(column.path_in_schema)
        if size <= MAX_TABLE_BYTES and texts:
            size = max(size, _bytes_of_texts(path, texts))
    if meta.num_rows > MAX_TABLE_ROWS or size > MAX_TABLE_BYTES:
        raise DatasetError(
            f"{path} is not a dataset's table: it claims {meta.num_rows} rows and {size} bytes.", path=path
        )


def check_shapes(file: pq.ParquetFile, path: Path, sizes: Mapping[str, int]) -> None:
    """Check that no row of some columns can hold more values than it should.

    Args:
        file: the table, opened.
        path: its file, for the message.
        sizes: values in a row, by column.

    Raises:
        DatasetError: a column has more.
    """
    for number, column in _columns(file.metadata, range(file.metadata.num_row_groups), sizes):
        name = next(name for name in _prefixes(column.path_in_schema) if name in sizes)
        rows = file.metadata.row_group(number).num_rows
        if column.num_values > rows * max(1, sizes[name]):
            raise DatasetError(
                f"{path} holds {column.num_values} values of {name} in {rows} rows of {sizes[name]} each.",
                path=path,
            )


def _columns(meta: Any, groups: range, names: Collection[str] | None) -> Iterator[tuple[int, Any]]:
    """The leaf columns of some columns, each with the number of its row group."""
    chosen = frozenset(names or ())
    for number in groups:
        group = meta.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            if names is None or any(name in chosen for name in _prefixes(column.path_in_schema)):
                yield number, column


def _prefixes(path: str) -> Iterator[str]:
    """Possible names of the column to which a leaf's path belongs, the longest first.

    Both may have dots: ``action.left.list.element`` is of ``action.left`` if there is such a column, else
    of ``action``.
    """
    while path:
        yield path
        path = path.rpartition(".")[0]


def _bytes_of_texts(path: Path, texts: Mapping[int, list[str]]) -> int:
    """The total length of all texts of some columns, repeated texts of a dictionary included.

    Stops when they are too long.

    Args:
        path: the file.
        texts: paths of the columns, by row group.
    """
    size = 0
    columns = sorted({name for names in texts.values() for name in names})
    with pq.ParquetFile(path, read_dictionary=columns) as file:
        for number, names in texts.items():
            table = file.read_row_group(number, columns=names, use_threads=False)
            for column in table.columns:
                for chunk in column.chunks:
                    size += _text_bytes(chunk)
            if size > MAX_TABLE_BYTES:
                return size
    return size


def _text_bytes(array: Any) -> int:
    if isinstance(array, pa.DictionaryArray):
        import pyarrow.compute as pc  # slow to import, and needed only for suspicious files

        dictionary: Any = array.dictionary
        lengths = pc.binary_length(dictionary)
        return pc.sum(lengths.take(array.indices).cast(pa.int64())).as_py() or 0
    if isinstance(array, pa.StructArray):
        return sum(_text_bytes(field) for field in array.flatten())
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        return _text_bytes(array.flatten())
    return int(array.nbytes)
