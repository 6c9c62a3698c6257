"""`meta/episodes`: one row per episode, with the location of its data and videos and its statistics.

Columns, their order and types follow lerobot 0.6.1 (`lerobot/datasets/dataset_metadata.py`). lerobot reads
all files as one table, so all files have the same columns.

Each commit rewrites the newest file until it has a fixed number of rows; then a new file is begun. Each file
also stores the staging id of each of its episodes in its schema metadata: that distinguishes a committed
episode from one that was about to get the same number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ...encoding.stats import STAT_NAMES, FeatureStats
from ...errors import DatasetError
from ...system import storage
from . import layout
from .layout import FileIndex
from .numbered_files import numbered_files
from .tables import episode_column, open_table, read_table, write_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_PER_FILE = 50
"""Most rows of a file, and so the most rows that one commit rewrites."""

_IDS = b"aiorecord"


@dataclass(frozen=True)
class EpisodesFile:
    """One file of `meta/episodes`.

    Attributes:
        index: its number.
        path: the file.
        first: index of its first episode.
        rows: number of its episodes, which follow each other.
    """

    index: FileIndex
    path: Path
    first: int
    rows: int

    @property
    def end(self) -> int:
        """One more than the index of its last episode."""
        return self.first + self.rows


def episodes_schema(features: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Schema of `meta/episodes`.

    Args:
        features: LeRobot's feature dict with the default columns.
    """
    number, seconds = pa.int64(), pa.float64()
    fields: dict[str, Any] = {"episode_index": number, "tasks": pa.list_(pa.string()), "length": number}
    fields |= {"data/chunk_index": number, "data/file_index": number}
    fields |= {"dataset_from_index": number, "dataset_to_index": number}
    for key, spec in features.items():
        if spec["dtype"] == "video":
            fields |= {f"videos/{key}/chunk_index": number, f"videos/{key}/file_index": number}
            fields |= {f"videos/{key}/from_timestamp": seconds, f"videos/{key}/to_timestamp": seconds}
    for key, spec in features.items():
        if spec["dtype"] == "string":
            continue
        value: Any = pa.list_(seconds)
        if spec["dtype"] in ("video", "image"):
            value = pa.list_(pa.list_(value))
        for name in STAT_NAMES:
            fields[f"stats/{key}/{name}"] = pa.list_(number) if name == "count" else value
    fields |= {"meta/episodes/chunk_index": number, "meta/episodes/file_index": number}
    return pa.schema([pa.field(name, type_) for name, type_ in fields.items()])


def location(prefix: str, index: FileIndex) -> dict[str, int]:
    """The two columns that name a file; `prefix` is ``data``, ``meta/episodes`` or ``videos/<key>``."""
    return {f"{prefix}/chunk_index": index.chunk, f"{prefix}/file_index": index.file}


def location_prefixes(cameras: Iterable[str]) -> list[str]:
    """Prefixes of the columns that locate an episode's rows and the videos of some cameras."""
    return ["data", *(f"videos/{key}" for key in cameras)]


def location_columns(*prefixes: str) -> list[str]:
    """Names of the columns in `location`."""
    return [f"{prefix}/{name}" for prefix in prefixes for name in ("chunk_index", "file_index")]


def locations(table: pa.Table, prefix: str) -> list[FileIndex]:
    """The file of each episode in a table, see `location`."""
    columns: list[list[Any]] = [table[name].to_pylist() for name in location_columns(prefix)]
    return [FileIndex(int(chunk), int(file)) for chunk, file in zip(*columns, strict=True)]


def episode_row(
    episode: int,
    tasks: Iterable[str],
    *,
    length: int,
    first: int,
    places: Mapping[str, FileIndex],
    seconds: Mapping[str, tuple[float, float]],
    stats: Mapping[str, FeatureStats],
) -> dict[str, Any]:
    """A row of `meta/episodes`.

    Args:
        first: dataset-wide index of its first frame.
        places: the files of its rows, its videos and of this row, by prefix.
        seconds: where its frames begin and end in the videos, by camera.
    """
    row: dict[str, Any] = {"episode_index": episode, "tasks": list(tasks), "length": length}
    row |= {"dataset_from_index": first, "dataset_to_index": first + length}
    for prefix, index in places.items():
        row |= location(prefix, index)
    for key, (from_s, to_s) in seconds.items():
        row |= {f"videos/{key}/from_timestamp": from_s, f"videos/{key}/to_timestamp": to_s}
    return row | stats_columns(stats)


def rows_table(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table. What a row lacks becomes null; values without a column are left out."""
    # Cast: other versions of lerobot keep the minimum of an integer column as an integer.
    arrays = [pa.array([row.get(f.name) for row in rows]).cast(f.type, safe=False) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def stats_columns(stats: Mapping[str, FeatureStats]) -> dict[str, Any]:
    """The ``stats/<key>/<name>`` columns of an episode."""
    return {
        f"stats/{key}/{name}": value.tolist()
        for key, feature in stats.items()
        for name, value in feature.items()
    }


def episode_files(root: Path, folder: Path | None = None) -> list[EpisodesFile]:
    """The files of `meta/episodes` in order, from their footers.

    Args:
        folder: a copy of `meta/episodes` to read instead.

    Raises:
        DatasetError: a file cannot be read, is empty, or does not follow the one before it.
    """
    found: list[EpisodesFile] = []
    for index, path in numbered_files(folder or root / layout.EPISODES_FOLDER).items():
        episodes = episode_column(path).to_numpy()
        first = int(episodes[0]) if len(episodes) else -1
        if not np.array_equal(episodes, np.arange(first, first + len(episodes))) or first < 0:
            raise DatasetError(f"{path} does not hold consecutive episodes.", path=path)
        if first != (found[-1].end if found else 0):
            raise DatasetError(
                f"{path} begins with episode {first}, the file before it ends with episode "
                f"{found[-1].end - 1 if found else -1}.",
                path=path,
            )
        found.append(EpisodesFile(index, path, first, len(episodes)))
    return found


def read_episodes(files: Iterable[EpisodesFile], columns: list[str]) -> pa.Table:
    """Some columns of some files as one table; columns of integers if there is no file."""
    empty = pa.table({name: pa.array([], pa.int64()) for name in columns})
    return pa.concat_tables([read_table(file.path, columns) for file in files] or [empty])


def referred_files(files: Sequence[EpisodesFile], prefixes: Iterable[str]) -> set[str]:
    """Paths of the files that contain episodes, relative to the root; see `location_prefixes`."""
    found: set[str] = set()
    for prefix in prefixes:
        table = read_episodes(files, location_columns(prefix))
        found |= {layout.file_path(prefix, index) for index in locations(table, prefix)}
    return found


def read_schema(path: Path) -> pa.Schema:
    """A file's columns, without its schema metadata."""
    with open_table(path) as file:
        return file.schema_arrow.remove_metadata()


def read_ids(path: Path) -> dict[int, str]:
    """The staging ids stored in a file, by episode index; empty for files of other writers."""
    with open_table(path) as file:
        schema = file.schema_arrow
    try:
        return ids_of(schema)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(
            f"{path} names its staging folders in an unknown way: {error}", path=path
        ) from error


def ids_of(schema: pa.Schema) -> dict[int, str]:
    """The staging ids in the schema of a file, see `read_ids`.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: they are not as `with_ids` writes them.
    """
    metadata = schema.metadata or {}
    if _IDS not in metadata:
        return {}
    return {int(index): str(id_) for index, id_ in json.loads(metadata[_IDS])["episodes"].items()}


def with_ids(table_schema: pa.Schema, ids: Mapping[int, str]) -> pa.Schema:
    """A schema that stores staging ids, see `read_ids`."""
    value = json.dumps({"episodes": {str(index): id_ for index, id_ in ids.items()}})
    return table_schema.with_metadata({_IDS: value} if ids else {})


def episode_stats(table: pa.Table) -> Iterator[dict[str, FeatureStats]]:
    """The statistics in each row of a table of `meta/episodes`."""
    columns = StatsColumns(table)
    for row in range(table.num_rows):
        yield columns.row(row)


class StatsColumns:
    """The statistics in a table of `meta/episodes`, to be looked at row by row.

    Columns of numbers become arrays as a whole: an array from each of its rows takes thirty times as long.

    Args:
        table: with columns ``stats/<key>/<name>``; others are ignored.
    """

    def __init__(self, table: pa.Table) -> None:
        names = [name for name in table.column_names if name.startswith("stats/")]
        self._columns: list[tuple[str, str, _Column]] = []
        for name, column in zip(names, table.select(names).columns, strict=True):
            key, _, stat = name.removeprefix("stats/").rpartition("/")
            array: Any = column.combine_chunks()
            whole = _as_whole(array)
            self._columns.append((key, stat, _OneByOne(array) if whole is None else whole))

    def row(self, number: int) -> dict[str, FeatureStats]:
        """The statistics in a row, by feature, without null ones. The arrays must not be changed."""
        stats: dict[str, FeatureStats] = {}
        for key, stat, column in self._columns:
            value = column[number]
            if value is not None:
                stats.setdefault(key, {})[stat] = value
        return stats


class _OneByOne:
    """A column of any type, whose values become arrays when they are accessed."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __getitem__(self, number: int) -> NDArray[Any] | None:
        value = self._array[number].as_py()
        return None if value is None else np.array(value)


type _Column = NDArray[Any] | _OneByOne


def _as_whole(array: Any) -> NDArray[Any] | None:
    """A column of equally long lists of numbers as float64 or int64; None for anything else."""
    sizes: list[int] = []
    values = array
    while isinstance(values.type, pa.ListType | pa.FixedSizeListType) and len(values):
        if values.null_count:
            return None
        lengths = values.value_lengths().to_numpy(zero_copy_only=False)
        if not lengths[0] or (lengths != lengths[0]).any():
            return None
        sizes.append(int(lengths[0]))
        values = values.flatten()
    is_float = values.type in (pa.float32(), pa.float64())
    if not sizes or values.null_count or not (is_float or pa.types.is_signed_integer(values.type)):
        return None
    numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return numbers.astype(np.float64 if is_float else np.int64, copy=False).reshape(len(array), *sizes)


class EpisodeLog:
    """Appends rows to `meta/episodes`.

    Args:
        schema: columns of every row: those of the existing files, or `episodes_schema`.
        last: number of the last existing file, None if there is none. It is not changed.
        episode: index of the next episode.
    """

    def __init__(self, root: Path, schema: pa.Schema, last: FileIndex | None, episode: int = 0) -> None:
        self._root = root
        self._schema = schema.remove_metadata()
        self._last = last
        self._episode = episode
        self._index: FileIndex | None = None
        self._table = self._schema.empty_table()
        self._ids: dict[int, str] = {}
        self._pending: tuple[pa.Table, dict[int, str]] | None = None

    @property
    def index(self) -> FileIndex:
        """Number of the file that gets the next row.

        Raises:
            DatasetError: there is no number left.
        """
        return self._index or layout.next_loose(self._last, self._episode)

    def write(self, row: Mapping[str, Any], episode_id: str) -> None:
        """Rewrite the newest file with one more row, durably. The row is dropped unless `accept` follows.

        See `rows_table` for what the row may lack.
        """
        table = pa.concat_tables([self._table, rows_table(self._schema, [row])]).combine_chunks()
        ids = {**self._ids, int(row["episode_index"]): episode_id}
        with storage.replacing(self._root / layout.episodes_path(self.index)) as temporary:
            write_table(temporary, table.cast(with_ids(self._schema, ids)))
        self._pending = (table, ids)

    def accept(self) -> None:
        """Keep the row that was written last, which is now counted."""
        assert self._pending, "accept() follows write()"
        index = self.index
        self._table, self._ids = self._pending
        self._pending = None
        if self._table.num_rows < ROWS_PER_FILE:
            self._index = index
        else:
            self._last, self._index = index, None
            self._table, self._ids = self._schema.empty_table(), {}
