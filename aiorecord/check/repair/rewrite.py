"""Writes the files of a repaired dataset in worker processes, from files that may be damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...dataset.format import layout
from ...dataset.format.episodes import episode_row, episodes_schema, rows_table, with_ids
from ...dataset.format.layout import FileIndex
from ...dataset.format.tables import (
    as_schema,
    data_schema,
    default_columns,
    open_table,
    parquet_writer,
    with_evidence,
    write_row_group,
    write_tasks,
)
from ...encoding.stats import FeatureStats, aggregate, column_stats, to_json
from ...media.evidence import Evidence, Named, describing
from ...system import storage
from ...workers.progress import Progress
from ..readers.footer import find_row_groups, write_with_footer
from ..readers.metadata import stored_stats
from .repair_plan import Kept

_ROWS_PER_GROUP = 50
_NUMBERS = {"frame_index", "episode_index", "index"}


def recover_job(path: Path, target: Path, schema: pa.Schema, progress: Progress) -> int:
    """Copy the whole row groups of a Parquet file without footer into a readable one. A job.

    Returns:
        Their rows; 0 when there is none, and then no file.
    """
    found = find_row_groups(path, schema)
    if found.rows:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_with_footer(path, found, schema, target)
    return sum(found.rows)


def write_data_job(
    target: Path,
    features: dict[str, dict[str, Any]],
    episodes: list[Kept],
    tasks: dict[int, str],
    info: dict[str, Any],
    progress: Progress,
) -> None:
    """Write a data file of some renumbered episodes, a row group each. A job. Durable, except its name.

    Args:
        target: the file.
        features: LeRobot's feature dict.
        episodes: in order; all of one source.
        tasks: all tasks by number.
        info: info.json, to store in the file.
    """
    schema = data_schema(features)
    named = tuple(kept.found.named or Named(None, kept.length) for kept in episodes)
    used = {name for kept in episodes for name in kept.tasks}
    evidence = Evidence(named, None, {n: name for n, name in tasks.items() if name in used}, describing(info))
    if any(episode.id for episode in named):
        schema = with_evidence(schema, evidence)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_table(episodes[0].found.source) as file, parquet_writer(target, schema) as writer:
        for kept, table in _tables(file, episodes, schema):
            write_row_group(writer, table)
            progress.update(kept.episode)
    storage.fsync_file(target)


def _tables(
    file: pq.ParquetFile, episodes: Sequence[Kept], schema: pa.Schema
) -> Iterator[tuple[Kept, pa.Table]]:
    """The rows of each episode, renumbered."""
    todo = list(episodes)
    pending: list[pa.Table] = []
    at = 0
    for batch in file.iter_batches(batch_size=256, columns=schema.names, use_threads=False):
        table = as_schema(pa.Table.from_batches([batch]), schema)
        while todo and table.num_rows:
            kept = todo[0]
            done = sum(part.num_rows for part in pending)
            skip = max(0, kept.found.run.row + done - at)
            if skip >= table.num_rows:
                break
            part = table.slice(skip, kept.length - done)
            pending.append(part)
            table = table.slice(skip + part.num_rows)
            at += skip + part.num_rows
            if done + part.num_rows == kept.length:
                yield kept, _renumbered(pa.concat_tables(pending).combine_chunks(), kept)
                pending = []
                todo.pop(0)
        at += table.num_rows
    if todo:
        raise ValueError(f"the rows of episode {todo[0].episode} ended early")


def _renumbered(table: pa.Table, kept: Kept) -> pa.Table:
    frames = np.arange(kept.length, dtype=np.int64)
    columns = {
        "frame_index": frames,
        "index": frames + kept.first,
        "episode_index": np.full(kept.length, kept.episode, dtype=np.int64),
    }
    for name, values in columns.items():
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values))
    return table


def write_metadata_job(
    root: Path,
    folder: Path,
    features: dict[str, dict[str, Any]],
    fps: int,
    episodes: list[Kept],
    tasks: dict[str, int],
    progress: Progress,
) -> None:
    """Write `meta/episodes` as one file, tasks.parquet and stats.json. A job. Durable, except their names.

    Args:
        root: the dataset, for unchanged statistics.
        folder: receives ``episodes/``, ``meta/tasks.parquet`` and ``meta/stats.json``.
        features: LeRobot's feature dict.
        fps: frames per second.
        episodes: all of them, in order.
        tasks: all tasks and their numbers.
    """
    ids = {kept.episode: named.id for kept in episodes if (named := kept.found.named) and named.id}
    schema = with_ids(episodes_schema(features), ids)
    index = FileIndex(0, 0)
    target = folder / Path(layout.episodes_path(index)).relative_to("meta")
    target.parent.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, FeatureStats]] = []
    if episodes:
        with parquet_writer(target, schema) as writer:
            for start in range(0, len(episodes), _ROWS_PER_GROUP):
                group = episodes[start : start + _ROWS_PER_GROUP]
                old = [kept.old for kept in group if kept.old is not None]
                stored = stored_stats(root, old)
                rows = []
                for kept in group:
                    stats = _stats(kept, stored.get(kept.old.episode, {}) if kept.old else {}, features, fps)
                    parts.append(stats)
                    rows.append(_row(kept, index, stats))
                write_row_group(writer, rows_table(schema, rows))
                parts = [aggregate(parts)]
                progress.update(start)
        storage.fsync_file(target)
    write_tasks(folder, tasks)
    if parts:
        storage.write_json(folder / layout.STATS_PATH, to_json(parts[0]))


def _stats(
    kept: Kept, stored: dict[str, FeatureStats], features: dict[str, dict[str, Any]], fps: int
) -> dict[str, FeatureStats]:
    """All statistics of an episode, in the order of the features."""
    # The recomputed statistics of these are of the old numbers.
    stats = stored | {key: value for key, value in kept.found.stats.items() if key not in _NUMBERS}
    renumbered = kept.old is None or (kept.old.episode, kept.old.first) != (kept.episode, kept.first)
    if renumbered or kept.found.stats.keys() & _NUMBERS:
        numbers = default_columns(
            kept.length,
            fps=fps,
            episode_index=kept.episode,
            from_index=kept.first,
            task_indices=np.zeros(kept.length, np.int64),
        )
        stats |= {name: column_stats(numbers[name]) for name in _NUMBERS}
    return {key: stats[key] for key in features if key in stats}


def _row(kept: Kept, index: FileIndex, stats: dict[str, FeatureStats]) -> dict[str, Any]:
    videos = {f"videos/{key}": place.index for key, place in kept.found.videos.items()}
    return episode_row(
        kept.episode,
        kept.tasks,
        length=kept.length,
        first=kept.first,
        places={"data": kept.found.data, "meta/episodes": index} | videos,
        seconds={key: (place.start_s, place.end_s) for key, place in kept.found.videos.items()},
        stats=stats,
    )
