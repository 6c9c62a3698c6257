"""Restores Parquet files whose writer died before the footer: finds the whole row groups and writes a footer.

The pages of a row group are in the file as soon as it is written, each after a header with its size
(parquet.thrift, `PageHeader`); only the index of their positions comes last. LeRobot keeps one file open for
a whole session, so a killed session leaves one such file. With the columns known from info.json, the index
can be rebuilt: pages follow each other column by column, and a dictionary page begins each column that has
one.
"""

from __future__ import annotations

import io
import json
import math
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...dataset.format.tables import write_row_group
from .thrift import I16, I64, LIST, STRUCT, Reader, Struct, ThriftError, encode

MAGIC = b"PAR1"

_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_HEADER_BYTES = 1 << 16
_MAX_ROW_GROUPS = 1_000_000


@dataclass
class _Chunk:
    """One column's pages in a row group."""

    start: int
    dictionary: int | None = None
    data: int | None = None
    values: int = 0
    compressed: int = 0
    uncompressed: int = 0


@dataclass
class FoundGroups:
    """The whole row groups of a file without footer.

    Attributes:
        end: where the last of them ends, in bytes.
        rows: rows of each.
        chunks: their columns.
    """

    end: int = len(MAGIC)
    rows: list[int] = field(default_factory=list)
    chunks: list[list[_Chunk]] = field(default_factory=list)


def is_footerless(path: Path) -> bool:
    """Whether a file begins like a Parquet file and does not end like one.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
        size = file.seek(0, io.SEEK_END)
        file.seek(max(len(MAGIC), size - len(MAGIC)))
        return file.read() != MAGIC


def find_row_groups(path: Path, schema: pa.Schema) -> FoundGroups:
    """Find the whole row groups of a file without footer. Reads only the page headers.

    Args:
        path: the file.
        schema: its columns.

    Raises:
        OSError: it cannot be read.
    """
    template = _Template(schema)
    found = FoundGroups()
    if path.stat().st_size <= len(MAGIC):
        return found
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pages = _Pages(data, found.end)
        while len(found.rows) < _MAX_ROW_GROUPS:
            group = _read_group(pages, template)
            if group is None:
                return found
            rows, chunks = group
            found.rows.append(rows)
            found.chunks.append(chunks)
            found.end = pages.position
    return found


def write_with_footer(path: Path, found: FoundGroups, schema: pa.Schema, target: Path) -> None:
    """Write a readable Parquet file of the row groups that were found. Not durable by itself.

    Args:
        path: the file without footer.
        found: what `find_row_groups` found in it.
        schema: its columns.
        target: a new file.

    Raises:
        OSError: the disk refused.
    """
    footer = _Template(schema).footer(found)
    with path.open("rb") as source, target.open("xb") as out:
        left = found.end
        while left and (part := source.read(min(left, 1 << 20))):
            out.write(part)
            left -= len(part)
        out.write(footer)
        out.write(len(footer).to_bytes(4, "little"))
        out.write(MAGIC)


class _Pages:
    """The pages of a file one by one, with one page of look-ahead."""

    def __init__(self, data: mmap.mmap, position: int) -> None:
        self._data = data
        self.position = position

    def peek(self) -> tuple[int, int, int, int] | None:
        """Type, values, size with header, size with header uncompressed; None if no whole page follows."""
        reader = Reader(self._data[self.position : self.position + _HEADER_BYTES])
        try:
            header = reader.struct()
            kind, uncompressed, compressed = (int(header[number][1]) for number in (1, 2, 3))
            inner = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}[kind]
            values = int(header[inner][1][1][1])
        except (ThriftError, KeyError, TypeError, ValueError):
            return None
        size = reader.position + compressed
        if min(values, compressed, uncompressed) < 0 or self.position + size > len(self._data):
            return None
        return kind, values, size, reader.position + uncompressed

    def take(self, chunk: _Chunk, page: tuple[int, int, int, int]) -> None:
        kind, values, size, uncompressed = page
        if kind == _DICTIONARY_PAGE:
            chunk.dictionary = self.position
        else:
            chunk.data = self.position if chunk.data is None else chunk.data
            chunk.values += values
        chunk.compressed += size
        chunk.uncompressed += uncompressed
        self.position += size


def _read_group(pages: _Pages, template: _Template) -> tuple[int, list[_Chunk]] | None:
    """The row group at the position, None if it is not whole."""
    rows = _count_rows(pages, template)
    if rows is None:
        return None
    chunks: list[_Chunk] = []
    for factor, dictionary in template.leaves:
        chunk = _Chunk(pages.position)
        page = pages.peek()
        if page is None or (page[0] == _DICTIONARY_PAGE) != dictionary:
            return None
        pages.take(chunk, page)
        while (factor is None or chunk.values < rows * factor) and (page := pages.peek()) is not None:
            if page[0] == _DICTIONARY_PAGE:
                break
            pages.take(chunk, page)
        if chunk.data is None or (factor is not None and chunk.values != rows * factor):
            return None
        chunks.append(chunk)
    return rows, chunks


def _count_rows(pages: _Pages, template: _Template) -> int | None:
    """The number of rows in the row group at the position, None if unknown.

    Derived from a column with a fixed number of values per row, whose pages end at the next dictionary.
    """
    start = pages.position
    chunk = _Chunk(start)
    leaf = -1
    dictionaries = [number for number, (_, dictionary) in enumerate(template.leaves) if dictionary]
    try:
        for number in dictionaries:
            while (page := pages.peek()) is not None and page[0] != _DICTIONARY_PAGE:
                pages.take(chunk, page)
            if page is None:
                return None
            factor = template.leaves[leaf][0] if leaf >= 0 else None
            if factor and number == leaf + 1 and chunk.values:
                return chunk.values // factor
            leaf, chunk = number, _Chunk(pages.position)
            pages.take(chunk, page)
        return None
    finally:
        pages.position = start


class _Template:
    """The parts of a footer that do not depend on positions, from a file of one row with the same columns.

    Attributes:
        leaves: for each stored column, how many values a row has (None: any number) and whether it has a
            dictionary.
    """

    def __init__(self, schema: pa.Schema) -> None:
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, schema, compression="snappy", use_dictionary=True) as writer:
            write_row_group(writer, pa.Table.from_pylist([_row(schema)], schema=schema))
        data = buffer.getvalue()
        size = int.from_bytes(data[-8:-4], "little")
        self._footer = Reader(data[len(data) - 8 - size : -8]).struct()
        self._columns = [column[3][1] for column in self._footer[4][1][1][0][1][1][1]]
        metadata = pq.read_metadata(io.BytesIO(data)).row_group(0)
        self.leaves: list[tuple[int | None, bool]] = []
        for number in range(metadata.num_columns):
            column = metadata.column(number)
            name = column.path_in_schema.split(".list.")[0].removesuffix(".bytes").removesuffix(".path")
            factor = _values_per_row(schema.field(name))
            self.leaves.append((factor, column.has_dictionary_page))

    def footer(self, found: FoundGroups) -> bytes:
        """The footer for the row groups that were found."""
        groups: list[Struct] = []
        for rows, chunks in zip(found.rows, found.chunks, strict=True):
            columns = [self._column(number, chunk) for number, chunk in enumerate(chunks)]
            groups.append(
                {
                    1: (LIST, (STRUCT, columns)),
                    2: (I64, sum(chunk.uncompressed for chunk in chunks)),
                    3: (I64, rows),
                    5: (I64, chunks[0].start),
                    6: (I64, sum(chunk.compressed for chunk in chunks)),
                    **({7: (I16, len(groups))} if len(groups) < 1 << 15 else {}),
                }
            )
        total = (I64, sum(found.rows))
        return encode(self._footer | {3: total, 4: (LIST, (STRUCT, groups))})

    def _column(self, number: int, chunk: _Chunk) -> Struct:
        kept = {field: self._columns[number][field] for field in (1, 2, 3, 4)}
        column: Struct = kept | {
            5: (I64, chunk.values),
            6: (I64, chunk.uncompressed),
            7: (I64, chunk.compressed),
            9: (I64, chunk.data),
        }
        if chunk.dictionary is not None:
            column[11] = (I64, chunk.dictionary)
        return {2: (I64, 0), 3: (STRUCT, column)}


def _values_per_row(field: pa.Field[Any]) -> int | None:
    metadata = field.metadata or {}
    if b"ARROW:extension:metadata" in metadata:  # an array of a fixed shape, stored as nested lists
        return int(math.prod(json.loads(metadata[b"ARROW:extension:metadata"])[0]))
    kind = field.type
    if isinstance(kind, pa.FixedSizeListType):
        return int(kind.list_size)
    return None if isinstance(kind, pa.ListType) else 1


def _row(schema: pa.Schema) -> dict[str, Any]:
    return {field.name: _value(field.type) for field in schema}


def _value(kind: pa.DataType) -> Any:
    """Some value of a type."""
    if isinstance(kind, pa.FixedSizeListType):
        return [_value(kind.value_type)] * kind.list_size
    if isinstance(kind, pa.ListType):
        return [_value(kind.value_type)]
    if isinstance(kind, pa.StructType):
        return {field.name: _value(field.type) for field in kind}
    if pa.types.is_string(kind):
        return "x"
    if pa.types.is_binary(kind):
        return b"x"
    return pa.scalar(0).cast(kind).as_py()
