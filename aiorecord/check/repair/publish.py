"""Publishes a repaired dataset: prepares every new file, then exchanges them through the pack journal."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...dataset.exchange.pack_evidence import Journal
from ...dataset.exchange.pack_journal import PACK_FOLDER, decide, roll_forward
from ...dataset.format import layout, quality_log
from ...dataset.format.info_json import DatasetInfo
from ...dataset.format.numbered_files import link_or_copy
from ...errors import DatasetError, StorageError
from ...system import storage
from ...workers.pool import WorkerPool
from ..checked import Checked
from ..findings import is_undetermined
from ..jobs import Job, is_regular, run_jobs
from ..readers.folder_tree import parquet_files
from ..readers.model import RowsPart
from .repair_plan import Kept
from .rewrite import write_data_job, write_metadata_job

_META_FILES = (layout.STATS_PATH, layout.TASKS_PATH, layout.INFO_PATH)


@dataclass
class Rebuilding:
    """The prepared parts of a repaired dataset, which `publish` puts together.

    Attributes:
        checked: the result of the check.
        info: info.json; its counts are set.
        folder: the pack folder, which is empty but for `videos` and recovered copies.
        kept: the episodes, in order.
        tasks: all tasks and their numbers.
        nameless: numbers of the tasks whose names are lost.
        videos: further files in `folder`, and the files of the dataset that they replace.
    """

    checked: Checked
    info: DatasetInfo
    folder: Path
    kept: list[Kept]
    tasks: dict[str, int]
    nameless: list[int]
    videos: dict[str, str]


def publish(new: Rebuilding, aside: Path, pool: WorkerPool, width: int) -> None:
    """Replace a dataset by its kept episodes. Every replaced file is first linked into `aside`.

    If it is killed before the journal is written, nothing has changed; if later, `roll_forward` completes it.

    Args:
        new: what is published.
        aside: the folder for replaced files, which does not exist yet.
        pool: writes the files.
        width: how many files at once.

    Raises:
        DatasetError: a file could not be written; nothing was changed.
        StorageError: the disk refused.
    """
    info, folder, kept, root = new.info, new.folder, new.kept, new.checked.report.root
    untouched = _write_files(new, pool, width)
    info.total_episodes, info.total_tasks = len(kept), len(new.tasks)
    info.total_frames = sum(episode.length for episode in kept)
    info.splits = {"train": f"0:{len(kept)}"}
    storage.write_json(folder / layout.INFO_PATH, info.as_dict())
    replaced = list(_META_FILES)
    if _write_quality(root, folder, kept):
        replaced.append(quality_log.PATH)

    old = [path for path in parquet_files(root / layout.DATA_FOLDER) if path not in untouched]
    old += parquet_files(root / layout.EPISODES_FOLDER)
    old += [root / name for name in (*replaced, *new.videos.values())]
    journal = Journal(os.urandom(4).hex())
    if link_aside(root, [path for path in old if is_regular(path)]):
        journal.moves["aside"] = aside.name
    journal.moves |= new.videos
    for name in replaced:
        if (folder / name).exists():
            journal.moves[name] = name
        elif (root / name).exists():
            journal.removed.append(name)
    journal.folders |= {layout.DATA_FOLDER: layout.DATA_FOLDER, "episodes": layout.EPISODES_FOLDER}
    exchange(root, folder, journal)


def exchange(root: Path, folder: Path, journal: Journal) -> None:
    """Make the files in the pack folder durable, and exchange them for those of the dataset.

    Raises:
        DatasetError: part of the dataset is on another disk or behind a link; nothing was changed.
        StorageError: the disk refused.
    """
    storage.fsync_folders(folder)
    decide(root, journal)
    roll_forward(root, journal)


def _write_files(new: Rebuilding, pool: WorkerPool, width: int) -> set[Path]:
    """Write rows, metadata and statistics; returns the data files that stay unchanged."""
    folder, root = new.folder, new.checked.report.root
    features, info = new.info.features, new.info.as_dict()
    names = {number: name for name, number in new.tasks.items()}
    by_source: dict[Path, list[Kept]] = defaultdict(list)
    for episode in new.kept:
        by_source[episode.found.source].append(episode)
    jobs: list[Job] = []
    untouched: set[Path] = set()
    for source, episodes in by_source.items():
        path = root / layout.data_path(episodes[0].found.data)
        target = folder / path.relative_to(root)
        part = new.checked.data.get(path)
        if source == path and part is not None and _is_as_it_was(part, episodes):
            untouched.add(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, target)
        else:
            rows = (target, features, episodes, names, info)
            jobs.append(Job(target, write_data_job, rows, len(new.kept)))
    arguments = (root, folder, features, new.info.fps, new.kept, new.tasks)
    jobs.append(Job(folder, write_metadata_job, arguments, len(new.kept) or 1))
    run_writing(root, pool, jobs, width)
    (folder / layout.DATA_FOLDER).mkdir(exist_ok=True)
    (folder / "episodes").mkdir(exist_ok=True)
    return untouched


def run_writing(root: Path, pool: WorkerPool, jobs: Sequence[Job], width: int) -> None:
    """Run jobs that write into the pack folder.

    Raises:
        DatasetError: one failed; nothing was changed.
        StorageError: the disk refused.
    """
    for outcome in run_jobs(pool, jobs, width=width):
        if outcome.code is not None:
            raise (StorageError if is_undetermined(outcome.code) else DatasetError)(
                f"{root}: the repaired files could not be written, nothing was changed: {outcome.message}",
                path=root,
            )


def _is_as_it_was(part: RowsPart, episodes: Sequence[Kept]) -> bool:
    """Whether a data file already holds exactly these episodes with these numbers."""
    if not part.readable or len(part.runs) != len(episodes):
        return False
    return all(
        run.counted and run == kept.found.run and (run.episode, run.first) == (kept.episode, kept.first)
        for run, kept in zip(part.runs, episodes, strict=True)
    )


def _write_quality(root: Path, folder: Path, kept: Sequence[Kept]) -> bool:
    """Rewrite the quality record if some of its episodes are removed or renumbered.

    Returns:
        Whether the old record must be removed; there is no new one if none of its lines fits.
    """
    records, _ = quality_log.read(root)
    fitting = {
        episode.episode: replace(record, episode_index=episode.episode)
        for episode in kept
        if (record := records.get(episode.found.run.episode)) is not None and record.length == episode.length
    }
    if fitting == records:
        return False
    if fitting:
        path = folder / quality_log.PATH
        with storage.storage_errors(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(fitting[index].to_line() for index in sorted(fitting)))
            storage.fsync_file(path)
    return True


def link_aside(root: Path, paths: Iterable[Path]) -> bool:
    """Link files into the future aside folder; returns whether there were any."""
    any_linked = False
    for path in paths:
        target = root / PACK_FOLDER / "aside" / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(path.resolve(), target)
        any_linked = True
    return any_linked
