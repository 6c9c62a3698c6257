"""Removes what an interrupted commit left behind: everything that `info.json` does not count.

Every step removes only what no reader looks at, so a rollback can itself be interrupted and run again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc

from ...encoding.stats import FeatureStats, aggregate, from_json, to_json
from ...errors import DatasetError
from ...media.evidence import first_rows
from ...system import storage
from ..exchange.replaced_videos import replaced_names
from ..format import layout, quality_log
from ..format.episodes import (
    EpisodesFile,
    episode_files,
    episode_stats,
    location_columns,
    location_prefixes,
    locations,
    read_episodes,
    read_ids,
    with_ids,
)
from ..format.info_json import DatasetInfo
from ..format.layout import FileIndex
from ..format.numbered_files import numbered_files, remove_files, remove_temporaries
from ..format.table_size import check_size
from ..format.tables import (
    episode_column,
    evidence_of,
    open_table,
    parquet_writer,
    read_table,
    read_tasks,
    with_evidence,
    write_row_group,
    write_table,
    write_tasks,
)

_MAX_STATS_BYTES = 64 << 20


def rollback(root: Path, info: DatasetInfo) -> list[Path]:
    """Remove rows and files of episodes that `info.json` does not count, and temporary files.

    Args:
        root: the dataset's root folder. The caller holds its lock.
        info: the counted episodes.

    Returns:
        The files that were removed or rewritten.
    """
    changed = remove_temporaries(root)
    changed += _roll_back_rows(
        numbered_files(root / layout.EPISODES_FOLDER), info.total_episodes, _keep_episode_rows
    )
    files = counted_files(root, info)
    last = last_locations(files, info)
    data = numbered_files(root / layout.DATA_FOLDER)
    changed += _roll_back_rows(data, info.total_episodes, _keep_data_rows)
    kept = {root / name for name in replaced_names(root)}
    for key in info.video_keys:
        newest = last.get(f"videos/{key}")
        videos = numbered_files(root / layout.VIDEOS_FOLDER / key)
        # A packed file that no episode refers to is neither a leftover of a commit, nor needed by readers.
        changed += remove_files(
            path
            for index, path in videos.items()
            if index.is_loose and (newest is None or index > newest) and path not in kept
        )
    changed += _roll_back_tasks(root, info, files)
    changed += _roll_back_stats(root, info, files)
    changed += quality_log.roll_back(root, info.total_episodes)
    return changed


def counted_files(root: Path, info: DatasetInfo) -> list[EpisodesFile]:
    """The files of `meta/episodes`, checked to hold exactly the counted episodes.

    Raises:
        DatasetError: they do not.
    """
    files = episode_files(root)
    rows = files[-1].end if files else 0
    if rows != info.total_episodes:
        raise DatasetError(
            f"{root}: meta/episodes holds {rows} episodes, meta/info.json counts {info.total_episodes}. "
            "A dataset whose writer died before it finished (lerobot writes its last episodes in finalize()) "
            "cannot be continued.",
            path=root,
        )
    return files


def last_locations(files: list[EpisodesFile], info: DatasetInfo) -> dict[str, FileIndex]:
    """The files of the last episode: numbers by ``data`` and ``videos/<key>``; empty without episodes.

    Raises:
        DatasetError: it does not end at the frame that info.json states.
    """
    if not files:
        return {}
    prefixes, path = location_prefixes(info.video_keys), files[-1].path
    table = read_table(path, [*location_columns(*prefixes), "dataset_to_index"])
    row = table.slice(table.num_rows - 1)
    end = row["dataset_to_index"][0].as_py()
    if end != info.total_frames:
        raise DatasetError(
            f"{path}: the last episode ends at frame {end}, meta/info.json counts {info.total_frames}.",
            path=path,
        )
    return {prefix: locations(row, prefix)[0] for prefix in prefixes}


def read_stats(root: Path) -> dict[str, FeatureStats] | None:
    """stats.json, None when it is missing or not valid."""
    path = root / layout.STATS_PATH
    with storage.storage_errors(path, "read"):
        if not path.exists():
            return None
        try:
            return from_json(storage.read_json(path, max_bytes=_MAX_STATS_BYTES))
        except (ValueError, TypeError, OverflowError):
            return None  # recomputed by the caller


def _roll_back_rows(files: dict[FileIndex, Path], end: int, keep: Callable[[Path, int], None]) -> list[Path]:
    """Drop the rows of episodes from `end` on; files are in the order of their episodes."""
    changed: list[Path] = []
    for path in reversed(files.values()):
        episodes = episode_column(path)
        if len(episodes) and pc.max(episodes).as_py() < end:
            break
        if len(episodes) and pc.min(episodes).as_py() < end:
            keep(path, end)
            changed.append(path)
            break
        changed += remove_files([path])
    return changed


def _keep_episode_rows(path: Path, end: int) -> None:
    ids = {index: id_ for index, id_ in read_ids(path).items() if index < end}
    table = read_table(path).filter(pc.field("episode_index") < end)
    with storage.replacing(path) as temporary:
        write_table(temporary, table.cast(with_ids(table.schema, ids)))


def _keep_data_rows(path: Path, end: int) -> None:
    with open_table(path) as file, storage.replacing(path) as temporary:
        check_size(file, path, ["episode_index"])
        column = file.read(columns=["episode_index"], use_threads=False)["episode_index"]
        left = int((column.to_numpy() < end).sum())
        schema = with_evidence(file.schema_arrow, first_rows(evidence_of(file.schema_arrow), left))
        with parquet_writer(temporary, schema) as writer:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number).filter(pc.field("episode_index") < end)
                if table.num_rows:
                    write_row_group(writer, table.cast(schema))


def _roll_back_tasks(root: Path, info: DatasetInfo, files: list[EpisodesFile]) -> list[Path]:
    tasks = read_tasks(root)
    if len(tasks) < info.total_tasks:
        raise DatasetError(
            f"{root}: meta/tasks.parquet holds {len(tasks)} tasks, meta/info.json counts {info.total_tasks}.",
            path=root,
        )
    if len(tasks) == info.total_tasks:
        return []
    # Never drop a task that an episode refers to, whatever count info.json states.
    used: set[str] = set()
    if files:
        used.update(map(str, pc.list_flatten(read_episodes(files, ["tasks"])["tasks"]).to_pylist()))
    keep = max([info.total_tasks, *(tasks[task] + 1 for task in used if task in tasks)])
    if keep == len(tasks):
        return []
    if keep == 0:
        return remove_files([root / layout.TASKS_PATH])
    write_tasks(root, {task: index for task, index in tasks.items() if index < keep})
    return [root / layout.TASKS_PATH]


def _roll_back_stats(root: Path, info: DatasetInfo, files: list[EpisodesFile]) -> list[Path]:
    path = root / layout.STATS_PATH
    if not info.total_episodes:
        return remove_files([path])
    on_disk = read_stats(root)
    if on_disk is not None and _frames(on_disk) == info.total_frames:
        return []
    try:
        stats = aggregate([aggregate(list(episode_stats(read_table(file.path)))) for file in files])
    except (ValueError, KeyError) as error:
        raise DatasetError(f"{root}: statistics in meta/episodes do not fit: {error}", path=root) from error
    if not stats and on_disk is None:
        raise DatasetError(f"{path} is missing or broken, and meta/episodes has no statistics.", path=path)
    if stats:
        storage.write_json(path, to_json(stats))
    return [path] if stats else []


def _frames(stats: dict[str, FeatureStats]) -> int | None:
    """The number of frames that statistics cover, by the columns that every dataset has."""
    counts = [
        int(stats[key]["count"][0]) for key in ("index", "frame_index", "episode_index") if key in stats
    ]
    return counts[0] if counts else None
