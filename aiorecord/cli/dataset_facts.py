"""Collects what `aiorecord info` shows about a dataset, without a lock, while others may write to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..dataset.commit.generation import read_unchanged
from ..dataset.commit.lock import live_holder
from ..dataset.format import quality_log
from ..dataset.format.episodes import episode_files, read_episodes
from ..dataset.format.info_json import DatasetInfo, read_info
from ..errors import DatasetError, StorageError
from ..quality import EpisodeQuality
from ..staging.folder import EpisodeFolder, Staging


@dataclass(frozen=True)
class EpisodeFacts:
    """An episode that info.json counts.

    Attributes:
        index: its index.
        length: frames, by the metadata.
        tasks: its tasks.
        quality: its line in the quality record; None if there is none, or it is of another episode.
    """

    index: int
    length: int
    tasks: list[str]
    quality: EpisodeQuality | None


@dataclass(frozen=True)
class StagedFacts:
    """An episode in staging.

    Attributes:
        id: its folder's name.
        state: ``recording``, ``complete`` or ``unreadable``.
        frames: frames, known once it is complete.
        bytes: on disk.
        priority: of its save.
    """

    id: str
    state: str
    frames: int | None
    bytes: int
    priority: int = 0


@dataclass(frozen=True)
class DatasetFacts:
    """The facts that `aiorecord info` shows about a dataset.

    Attributes:
        root: its folder.
        info: info.json.
        episodes: the counted episodes, in order.
        sizes: bytes on disk of ``data``, ``videos``, ``meta``, and of ``staging``.
        staged: episodes that are not in the dataset yet.
        writer: the process that records into it now, None if there is none.
        problems: unreadable parts of the quality record.
    """

    root: Path
    info: DatasetInfo
    episodes: list[EpisodeFacts]
    sizes: dict[str, int]
    staged: list[StagedFacts]
    writer: str | None
    problems: list[str]


def read_facts(root: Path) -> DatasetFacts:
    """Read everything. Blocking; changes nothing, and needs no lock.

    Raises:
        DatasetError: there is no dataset, or a damaged one.
        StorageError: the disk refused.
    """
    info, rows = read_unchanged(root, lambda: _counted(root))
    records, problems = quality_log.read(root, info.total_episodes)
    episodes = []
    for index, length, tasks in rows:
        quality = records.get(index)
        if quality is not None and quality.length != length:
            problems.append(f"episode {index} has {length} frames, its record says {quality.length}")
            quality = None
        episodes.append(EpisodeFacts(index, length, tasks, quality))
    staging = Staging(root)
    sizes = {name: folder_bytes(root / name) for name in ("data", "videos", "meta")}
    sizes["staging"] = folder_bytes(staging.path)
    staged = [_staged(path) for path in staging.episode_paths()]
    return DatasetFacts(root, info, episodes, sizes, staged, live_holder(root), problems)


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder; links are not followed, files that vanish meanwhile do not count."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue
    return total


def count_tasks(episodes: Sequence[EpisodeFacts]) -> dict[str, int]:
    """Episodes by task."""
    counts: dict[str, int] = {}
    for episode in episodes:
        for task in episode.tasks:
            counts[task] = counts.get(task, 0) + 1
    return counts


def _counted(root: Path) -> tuple[DatasetInfo, list[tuple[int, int, list[str]]]]:
    info = read_info(root)
    return info, _episode_rows(root, info)


def _episode_rows(root: Path, info: DatasetInfo) -> list[tuple[int, int, list[str]]]:
    """Index, length and tasks of the counted episodes."""
    files = episode_files(root)
    if not info.total_episodes:
        return []
    if not files or files[-1].end < info.total_episodes:
        held = files[-1].end if files else 0
        raise DatasetError(
            f"{root}: meta/episodes holds {held} episodes, meta/info.json counts {info.total_episodes}.",
            path=root,
        )
    table = read_episodes(files, ["episode_index", "length", "tasks"]).slice(0, info.total_episodes)
    rows = [
        (int(row["episode_index"]), int(row["length"] or 0), [str(task) for task in row["tasks"] or []])
        for row in table.to_pylist()
    ]
    if [index for index, _, _ in rows] != list(range(info.total_episodes)):
        raise DatasetError(f"{root}: the files of meta/episodes do not fit each other.", path=root)
    return rows


def _staged(path: Path) -> StagedFacts:
    size = folder_bytes(path)
    try:
        manifest = EpisodeFolder.load(path).manifest
    except DatasetError:
        return StagedFacts(path.name, "unreadable", None, size)
    except StorageError:
        return StagedFacts(path.name, "undetermined", None, size)
    return StagedFacts(path.name, manifest.state, manifest.length, size, manifest.priority)
