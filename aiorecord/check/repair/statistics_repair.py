"""Recomputes statistics and nothing else, for datasets whose only fault is their statistics.

The values that a check recomputed replace the ``stats/`` columns of `meta/episodes` that differ, and their
features in stats.json. Rows, videos, tasks and every other column stay as they are. The result is published
through the pack journal, so it can be killed at any point and run again; replaced files are first linked into
the aside folder.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...dataset.exchange.pack_evidence import Journal
from ...dataset.format import layout
from ...dataset.format.episodes import episodes_schema
from ...dataset.format.numbered_files import link_or_copy
from ...dataset.format.tables import open_table, parquet_writer, write_row_group
from ...encoding.stats import FeatureStats, to_json
from ...errors import DatasetError
from ...system import storage
from ...workers.pool import WorkerPool
from ...workers.progress import Progress
from ..checked import Checked
from ..compare import total_differences
from ..jobs import Job
from ..readers.folder_tree import file_index
from ..readers.metadata import load_stats, total_stats_job
from .publish import exchange, link_aside, run_writing

STATISTICS = frozenset({"stats-stale", "stats-total"})
"""Findings that recomputing statistics resolves."""

type EpisodeStats = dict[str, FeatureStats]


def recomputed_statistics(checked: Checked) -> dict[int, EpisodeStats]:
    """The statistics that a check recomputed because `meta/episodes` differs, by episode and feature."""
    found: dict[int, EpisodeStats] = defaultdict(dict)
    for path, rows in checked.data.items():
        if rows is None:
            continue
        for number, stats in rows.stats.items():
            row = checked.episodes.get(rows.runs[number].episode)
            if row is not None and row.data == file_index(path):
                found[row.episode] |= stats
    for (key, index), video in checked.videos.items():
        if video is None:
            continue
        for episode, feature in video.stats.items():
            row = checked.episodes.get(episode)
            if row is not None and key in row.videos and row.videos[key].index == index:
                found[episode][key] = feature
    return dict(found)


def whose(stats: Mapping[int, EpisodeStats]) -> str:
    """The part of a sentence that names the recomputed statistics besides the merged ones; may be empty."""
    return f"the statistics of {len(stats)} episodes and " if stats else ""


def publish_statistics(
    checked: Checked,
    folder: Path,
    stats: Mapping[int, EpisodeStats],
    aside: Path,
    pool: WorkerPool,
    width: int,
) -> None:
    """Write recomputed statistics into a dataset.

    If it is killed before the journal is written, nothing has changed; if later, `roll_forward` completes it.

    Args:
        checked: the result of the check, without errors.
        folder: the pack folder, empty.
        stats: see `recomputed_statistics`.
        aside: the folder for replaced files, which does not exist yet.
        pool: writes the files.
        width: how many files at once.

    Raises:
        DatasetError: a file could not be written; nothing was changed.
        StorageError: the disk refused.
    """
    assert checked.info is not None
    root, features = checked.report.root, checked.info.features
    changes: dict[str, dict[int, EpisodeStats]] = defaultdict(dict)
    for episode, value in stats.items():
        row = checked.episodes[episode]
        changes[row.file][row.row] = value
    counts = Counter(row.file for row in checked.episodes.values())
    arguments = (root, folder, features, dict(counts), dict(changes))
    run_writing(root, pool, [Job(folder, statistics_job, arguments, len(counts) + 1)], width)

    old = root / layout.EPISODES_FOLDER
    new = folder / "episodes"
    replaced = [root / layout.STATS_PATH]
    with storage.storage_errors(folder, "write into"):
        for path in sorted(path for path in old.rglob("*") if path.is_file()):
            target = new / path.relative_to(old)
            if target.exists():
                replaced.append(path)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path.resolve(), target)
        link_aside(root, replaced)
    journal = Journal(os.urandom(4).hex(), {"aside": aside.name, layout.STATS_PATH: layout.STATS_PATH})
    journal.folders["episodes"] = layout.EPISODES_FOLDER
    exchange(root, folder, journal)


def statistics_job(
    root: Path,
    folder: Path,
    features: dict[str, dict[str, Any]],
    counts: dict[str, int],
    changes: dict[str, dict[int, EpisodeStats]],
    progress: Progress,
) -> None:
    """Write the changed files of `meta/episodes`, and stats.json. A job. Durable, except their names.

    Args:
        root: the dataset.
        folder: receives the changed files of ``episodes/``, and ``meta/stats.json``.
        features: LeRobot's feature dict.
        counts: files of `meta/episodes`, relative to the root, in order, and how many rows of each count.
        changes: new statistics by file, row in it, and feature.
    """
    added = _added_columns(root, features, changes)
    files: list[Path] = []
    for done, name in enumerate(counts):
        path = root / name
        if added or name in changes:
            target = folder / Path(name).relative_to("meta")
            target.parent.mkdir(parents=True, exist_ok=True)
            _rewrite(path, target, changes.get(name, {}), added)
            path = target
        files.append(path)
        progress.update(done)
    (folder / "episodes").mkdir(exist_ok=True)
    merged = total_stats_job(files, list(counts.values()), list(features), progress)
    if isinstance(merged, str):
        raise DatasetError(f"The statistics of the episodes cannot be added up: {merged}.", path=root)
    keys = {key for rows in changes.values() for stats in rows.values() for key in stats}
    total = load_stats(root)
    keys |= total_differences(total, merged).keys()
    total |= {key: merged[key] for key in features if key in keys and key in merged}
    storage.write_json(folder / layout.STATS_PATH, to_json(total))


def _added_columns(
    root: Path, features: dict[str, dict[str, Any]], changes: Mapping[str, Mapping[int, EpisodeStats]]
) -> list[pa.Field[Any]]:
    """Columns of features without any yet. They are added to all files, because readers join the files."""
    keys: set[str] = set()
    for name, rows in changes.items():
        with open_table(root / name) as file:
            there = set(file.schema_arrow.names)
        keys |= {key for stats in rows.values() for key in stats if f"stats/{key}/mean" not in there}
    return [
        field
        for field in episodes_schema(features)
        if field.name.startswith("stats/") and field.name.split("/", 1)[1].rpartition("/")[0] in keys
    ]


def _rewrite(
    source: Path, target: Path, changes: Mapping[int, EpisodeStats], added: list[pa.Field[Any]]
) -> None:
    with open_table(source) as file:
        schema = file.schema_arrow
        for field in added:
            if field.name not in schema.names:
                schema = schema.append(field)
        first = 0
        with parquet_writer(target, schema) as writer:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, use_threads=False)
                end = first + table.num_rows
                inside = {at - first: stats for at, stats in changes.items() if first <= at < end}
                write_row_group(writer, _changed(table, schema, inside))
                first = end
    storage.fsync_file(target)


def _changed(table: pa.Table, schema: pa.Schema, changes: Mapping[int, EpisodeStats]) -> pa.Table:
    """A table with other statistics in some of its rows. Statistics without a column are left out."""
    values: dict[str, dict[int, NDArray[Any]]] = defaultdict(dict)
    for at, stats in changes.items():
        for key, feature in stats.items():
            for name, value in feature.items():
                values[f"stats/{key}/{name}"][at] = value
    columns = []
    for field in schema:
        is_there = field.name in table.column_names
        column: Any = table.column(field.name) if is_there else pa.nulls(table.num_rows, field.type)
        if field.name in values:
            rows = column.to_pylist()
            for at, value in values[field.name].items():
                rows[at] = _nested(value, field.type)
            column = pa.array(rows, field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def _nested(value: NDArray[Any], type_: Any) -> Any:
    """A statistic as lists for a column: other versions of lerobot nest them deeper, or store integers."""
    depth = 0
    while isinstance(type_, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        depth, type_ = depth + 1, type_.value_type
    array = np.rint(value).astype(np.int64) if pa.types.is_integer(type_) else value.astype(np.float64)
    if array.ndim > depth:
        array = array.reshape(-1)
    return array.reshape((1,) * (depth - array.ndim) + array.shape).tolist()
