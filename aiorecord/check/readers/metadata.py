"""Reads a dataset's metadata for the check: info.json, stats.json, tasks, and the rows of `meta/episodes`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ...dataset.format import layout
from ...dataset.format.episodes import StatsColumns, episode_stats, ids_of
from ...dataset.format.layout import FileIndex
from ...dataset.format.table_size import check_size
from ...dataset.format.tables import open_table, read_tasks
from ...encoding.stats import FeatureStats, aggregate, from_json
from ...errors import DatasetError
from ...system.storage import read_json, storage_errors
from ...workers.progress import Progress
from ..findings import FOOTERLESS
from ..jobs import content_error, is_regular, looks
from .folder_tree import name_in
from .footer import is_footerless

MAX_JSON_BYTES = 64 << 20
"""A larger stats.json is not read: those of real datasets have kilobytes."""
MAX_EPISODES = 10_000_000
"""Files of `meta/episodes` with more rows are not read."""

_INTEGERS = ("episode_index", "length", "data/chunk_index", "data/file_index")
_RANGE = ("dataset_from_index", "dataset_to_index")


@dataclass(frozen=True)
class Place:
    """The location of an episode's frames.

    Attributes:
        index: number of the video file.
        start_s: ``from_timestamp``.
        end_s: ``to_timestamp``.
    """

    index: FileIndex
    start_s: float
    end_s: float


@dataclass(frozen=True)
class EpisodeRow:
    """A row of `meta/episodes`, without the statistics.

    Attributes:
        episode: its index.
        length: frames.
        data: number of its data file.
        first: ``dataset_from_index``.
        end: ``dataset_to_index``.
        tasks: its tasks.
        videos: places by camera; cameras that the row lacks are left out.
        file: the file that the row is in, relative to the root.
        row: its place in that file.
        id: the name of the staging folder that it was recorded in, None if the file does not say.
    """

    episode: int
    length: int
    data: FileIndex
    first: int
    end: int
    tasks: tuple[str, ...]
    videos: dict[str, Place]
    file: str
    row: int
    id: str | None = None


def frames_claimed(rows: Iterable[EpisodeRow]) -> int:
    """How many frames episodes have together, for the progress; impossible lengths are left out."""
    return sum(row.length for row in rows if 0 < row.length < 1 << 40)


@dataclass
class EpisodesPart:
    """The content of a file of `meta/episodes`.

    Attributes:
        rows: the valid rows.
        problem: the code of what is wrong with the file, or None.
        message: what is wrong with it.
    """

    rows: list[EpisodeRow] = field(default_factory=list)
    problem: str | None = None
    message: str = ""


def load_json(path: Path) -> Any:
    """Read a JSON file, if it is not too large.

    Raises:
        DatasetError: missing, too large, or not JSON.
        StorageError: it cannot be read.
    """
    if not is_regular(path):
        raise DatasetError(f"{path} is missing, or not a file.", path=path)
    try:
        with storage_errors(path, "read"):
            return read_json(path, max_bytes=MAX_JSON_BYTES)
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read: {error}", path=path) from error


def load_stats(root: Path) -> dict[str, FeatureStats]:
    """stats.json.

    Raises:
        DatasetError: missing or not valid.
    """
    path = root / layout.STATS_PATH
    data = load_json(path)
    try:
        return from_json(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise DatasetError(f"{path} holds no statistics: {error}", path=path) from error


def tasks_job(root: Path, progress: Progress) -> dict[str, int] | str:
    """Read tasks.parquet, or return what is wrong with it. A job."""
    try:
        return read_tasks(root)
    except (DatasetError, OSError, ValueError, TypeError) as error:
        return content_error(error)


def episodes_job(root: Path, path: Path, videos: tuple[str, ...], progress: Progress) -> EpisodesPart:
    """Read one file of `meta/episodes`, without the statistics. A job."""
    if is_footerless(path):
        return EpisodesPart([], "lerobot-killed-footerless-parquet", FOOTERLESS)
    name = name_in(root, path)
    try:
        with open_table(path) as file:
            if file.metadata.num_rows > MAX_EPISODES:
                return EpisodesPart(
                    [], "episodes-unreadable", f"It claims {file.metadata.num_rows} episodes."
                )
            columns = set(file.schema_arrow.names)
            missing = sorted({*_INTEGERS, *_RANGE, "tasks"} - columns)
            if missing:
                return EpisodesPart([], "episodes-columns", f"It lacks the columns {', '.join(missing)}.")
            wanted = [n for n in file.schema_arrow.names if not n.startswith(("stats/", "meta/"))]
            check_size(file, path, wanted)
            ids = ids_of(file.schema_arrow)
            rows: list[EpisodeRow] = []
            for batch in file.iter_batches(batch_size=4096, columns=wanted, use_threads=False):
                rows += _rows(batch, videos, name, len(rows), ids)
    except (DatasetError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return EpisodesPart([], "episodes-unreadable", f"It cannot be read: {content_error(error)}")
    return EpisodesPart(rows)


def _rows(
    batch: pa.RecordBatch, videos: tuple[str, ...], name: str, at: int, ids: Mapping[int, str]
) -> Iterator[EpisodeRow]:
    for number, row in enumerate(batch.to_pylist(), at):
        places = {}
        for key in videos:
            names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
            parts: list[Any] = [row.get(f"videos/{key}/{part}") for part in names]
            if None not in parts:
                index = FileIndex(int(parts[0]), int(parts[1]))
                places[key] = Place(index, float(parts[2]), float(parts[3]))
        yield EpisodeRow(
            int(row["episode_index"]),
            int(row["length"]),
            FileIndex(int(row["data/chunk_index"]), int(row["data/file_index"])),
            int(row["dataset_from_index"]),
            int(row["dataset_to_index"]),
            tuple(str(task) for task in row["tasks"] or ()),
            places,
            name,
            number,
            ids.get(int(row["episode_index"])),
        )


def stored_stats(root: Path, rows: list[EpisodeRow]) -> dict[int, dict[str, FeatureStats]]:
    """The statistics of some episodes, from the row groups that hold them; empty where there are none."""
    found: dict[int, dict[str, FeatureStats]] = {row.episode: {} for row in rows}
    by_file: dict[str, dict[int, int]] = {}
    for row in rows:
        by_file.setdefault(row.file, {})[row.row] = row.episode
    for name, wanted in by_file.items():
        state = _state(root / name)
        first = 0
        for number, count in enumerate(_group_rows(state)):
            inside = [at for at in wanted if first <= at < first + count]
            if inside and (columns := _group_stats(state, number)) is not None:
                for at in inside:
                    stats = columns.row(at - first)
                    found[wanted[at]] = {key: _arrays(value) for key, value in stats.items()}
            first += count
    return found


class _State(NamedTuple):
    """A file as it is now. What was read of it is read again if it changed, or for a second read."""

    path: Path
    inode: int
    changed_ns: int
    size: int
    looks: int


def _state(path: Path) -> _State:
    with storage_errors(path, "read"):
        about = path.stat()
    return _State(path, about.st_ino, about.st_mtime_ns, about.st_size, looks())


@lru_cache(maxsize=1)
def _group_rows(state: _State) -> list[int]:
    """The number of rows in each row group of a file."""
    with open_table(state.path) as file:
        return [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]


@lru_cache(maxsize=1)  # the statistics for the next data file are mostly in the same row group
def _group_stats(state: _State, number: int) -> StatsColumns | None:
    """The statistics in one row group of a file; None if it has no column of any."""
    with open_table(state.path) as file:
        columns = [name for name in file.schema_arrow.names if name.startswith("stats/")]
        check_size(file, state.path, columns, group=number)
        # The reader treats a name as the prefix of a path, hence the selection.
        table = file.read_row_group(number, columns=columns, use_threads=False)
        return StatsColumns(table.select(columns)) if columns else None


def _arrays(stats: Mapping[str, Any]) -> FeatureStats:
    """Statistics as float arrays; other values become NaN, which equals nothing."""
    out = {}
    for name, value in stats.items():
        try:
            is_number = value.dtype.kind in "if"
            out[name] = value.astype(np.float64) if is_number else np.array(value.tolist(), np.float64)
        except (ValueError, TypeError):
            out[name] = np.full(1, np.nan)
    return out


def total_stats_job(
    paths: list[Path], counts: list[int], features: list[str], progress: Progress
) -> dict[str, FeatureStats] | str:
    """Merge the statistics in files of `meta/episodes`, or return why that is impossible. A job.

    Args:
        paths: the files.
        counts: how many rows of each count.
        features: the features to merge; lerobot keeps the statistics of removed features in its episodes.
    """
    wanted = {f"stats/{key}" for key in features}
    parts = []
    for done, (path, count) in enumerate(zip(paths, counts, strict=True)):
        with open_table(path) as file:
            columns = [n for n in file.schema_arrow.names if n.rpartition("/")[0] in wanted]
            for number in range(file.num_row_groups):
                check_size(file, path, columns, group=number)
            for batch in file.iter_batches(batch_size=1000, columns=columns or None, use_threads=False):
                table = pa.Table.from_batches([batch]).slice(0, count)
                if table.num_rows and columns:
                    try:
                        parts.append(aggregate(list(episode_stats(table.select(columns)))))
                    except (ValueError, TypeError, KeyError, OverflowError):
                        return f"in {path.name} they are not numbers of one shape for each feature"
                count -= table.num_rows
        progress.update(done + 1)
    try:
        return aggregate(parts)
    except (ValueError, TypeError, KeyError, OverflowError):
        return "they do not have one shape for each feature"
