"""Checks a whole dataset: info.json against the metadata, the rows and the video frames."""

from __future__ import annotations

import copy
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..dataset.commit.generation import Look, look
from ..dataset.exchange.pack_journal import is_decided
from ..dataset.exchange.replaced_videos import read_replaced
from ..dataset.format import layout
from ..dataset.format.info_json import DatasetInfo, parse_info, read_info
from ..dataset.format.layout import FileIndex
from ..errors import DatasetError, StorageError
from ..media.evidence import read_dataset_id
from ..workers.pool import WorkerPool
from .agreement import compare_counts, compare_rows, flagged_episodes
from .checked import Checked
from .compare import total_differences
from .findings import Finding, Report
from .generations import Generations, Metadata
from .jobs import Job, Outcome, ProgressCallback, is_regular, run_jobs
from .pairing import Pairing
from .readers.data_file import RowsFile, rows_job
from .readers.folder_tree import file_index, leftovers, parquet_files
from .readers.metadata import (
    EpisodeRow,
    EpisodesPart,
    episodes_job,
    frames_claimed,
    load_stats,
    tasks_job,
    total_stats_job,
)
from .readers.model import RowsPart
from .readers.video_frames import VideoFile, default_threads

TRIES = 4
"""How often the check of a dataset is tried if its files are exchanged meanwhile, as packing does."""

SETTLE_S = 1.0
"""Seconds before findings that a running commit would explain are checked again, if none is known."""

PATIENCE_S = 10.0
"""Longest time in seconds that a repeated check waits for a packing to end."""


def default_workers() -> int:
    """One worker for each processor."""
    return os.cpu_count() or 1


def check_dataset(
    root: Path,
    *,
    fast: bool = False,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> Report:
    """Verify every part of a dataset. Blocking. Only reads; the dataset may be recorded into meanwhile.

    Every file is read once, in worker processes, one row group or one video frame at a time. The result is a
    report, whatever is on disk. If files were exchanged during the check, and something did not fit,
    everything is checked again; a dataset that keeps changing is undetermined (`dataset-changed`).

    Args:
        root: the dataset's root folder.
        fast: decode no video and no image; count and place frames by reading packets.
        workers: processes, default one for each processor.
        progress: called with what is being checked, the units done and the units in all.

    Returns:
        The findings; see `findings.CODES`.

    Raises:
        ConfigError: `workers` is not positive.
    """
    width = default_workers() if workers is None else workers
    pool = WorkerPool(width, name="aiorecord-check")
    started = time.monotonic()
    try:
        report = run_until_agreed(root, pool, width, fast, progress)
    finally:
        pool.shutdown(cancel_futures=True)
    report.seconds = time.monotonic() - started
    return report


def run_until_agreed(
    root: Path, pool: WorkerPool, width: int, fast: bool = False, progress: ProgressCallback | None = None
) -> Report:
    """Run a `Check` until its findings hold for one state of the dataset, `TRIES` times at most."""
    for number in range(TRIES):
        if number:
            _await_packing(root)
        checked = Check(root, pool, width, fast, progress).run()
        if checked.agreed:
            break
    return checked.report


def _wait_for_commit() -> None:
    time.sleep(SETTLE_S)


def _await_packing(root: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while is_decided(root) and time.monotonic() < end:
        time.sleep(0.05)


@dataclass
class Check:
    """One pass of a check, between two looks at the dataset; `run` it once.

    Args:
        root: the dataset's root folder.
        pool: reads the files.
        width: how many files at once.
        fast: decode nothing.
        progress: see `check_dataset`.
        holding_lock: the caller holds the dataset's lock, so no other process records into it.
        info_found: a reconstructed info.json, if it is lost; then all of `meta/episodes` counts.
        wait_for_commit: waits for a commit whose lock cannot be seen.
    """

    root: Path
    pool: WorkerPool
    width: int
    fast: bool = False
    progress: ProgressCallback | None = None
    _: KW_ONLY
    holding_lock: bool = False
    info_found: DatasetInfo | None = None
    wait_for_commit: Callable[[], object] = _wait_for_commit

    def __post_init__(self) -> None:
        self._holder: str | None = None
        self._found: list[Finding] = []
        self._checked = Checked(Report(self.root, fast=self.fast))

    def run(self) -> Checked:
        """Check everything."""
        started = time.monotonic()
        checked = self._checked
        before = look(self.root)
        self._holder = None if self.holding_lock else before.holder
        self._look_for_leftovers()
        try:
            self._look(before)
        except OSError as error:
            path = error.path if isinstance(error, StorageError) else None
            place = "." if path is None else self._checked.name(path)
            self._add("file-unread", place, f"The rest was not checked: {error}.")
        generations = Generations(checked, before, self._read_again, self.wait_for_commit)
        judge = generations.alone if self.holding_lock else generations.judge
        checked.report.add(judge(self._found))
        checked.report.episodes = len(checked.episodes)
        checked.report.seconds = time.monotonic() - started
        return checked

    def _look_for_leftovers(self) -> None:
        for again in (True, False):  # a recorder that is closing removes its folder during the first look
            try:
                self._found += list(leftovers(self.root, self._holder))
                return
            except OSError as error:
                if not again:
                    self._add("file-unread", ".", f"The folder cannot be read: {error}.")

    def _look(self, before: Look) -> None:
        info = self._load_info(before)
        if info is None and self.info_found is not None:
            info, self._checked.info_found = copy.deepcopy(self.info_found), True
        self._checked.info = info
        if info is not None:
            self._load_tasks(info)
            self._load_episodes(info)
            self._look_at_data(info)
            self._look_at_videos(info)
            self._look_at_totals(info)
            self._found += flagged_episodes(self._checked)

    def _add(self, code: str, place: str, message: str, **details: Any) -> None:
        self._found.append(Finding(code, place, message, **details))

    def _jobs(self, what: str, jobs: list[Job]) -> Iterable[Outcome]:
        tell = None if self.progress is None else partial(self.progress, what)
        for outcome in run_jobs(self.pool, jobs, tell, width=self.width):
            if outcome.code is not None:
                self._add(outcome.code, self._checked.name(outcome.job.path), outcome.message)
            yield outcome

    def _read_files(self, what: str, jobs: list[Job]) -> Iterator[tuple[Path, Any]]:
        """What data or video files hold, None for one whose reader died; their findings are reported."""
        for outcome in self._jobs(what, jobs):
            self._checked.report.files += 1
            if outcome.value is not None:
                self._found += outcome.value.findings
            yield outcome.job.path, outcome.value

    def _is_file(self, path: Path, missing: Finding | None = None) -> bool:
        """Whether a path is a file; otherwise a finding is reported, `missing` if there is nothing."""
        regular = is_regular(path)
        if regular is False:
            self._add("not-a-file", self._checked.name(path), "It is a folder, a pipe or a device.")
        elif regular is None and missing is not None:
            self._found.append(missing)
            return False
        return regular is not False

    def _load_info(self, before: Look) -> DatasetInfo | None:
        path = self.root / layout.INFO_PATH
        missing = Finding("info-missing", layout.INFO_PATH, "It is missing, so this is not a dataset.")
        if not self._is_file(path, missing):
            return None
        try:
            # Episodes counted at the first look are checked; those added meanwhile are ignored.
            return read_info(self.root) if before.info is None else parse_info(before.info, path)
        except DatasetError as error:
            self._add("info-invalid", layout.INFO_PATH, f"{error}")
            return None

    def _load_tasks(self, info: DatasetInfo) -> None:
        path = self.root / layout.TASKS_PATH
        if is_regular(path) is None and not info.total_tasks:
            self._checked.tasks = {}
            return
        if not self._is_file(path, Finding("tasks-unreadable", layout.TASKS_PATH, "It is missing.")):
            return
        (outcome,) = self._jobs("tasks", [Job(path, tasks_job, (self.root,))])
        if isinstance(outcome.value, str):
            self._add("tasks-unreadable", layout.TASKS_PATH, outcome.value)
        else:
            self._checked.tasks = outcome.value
        tasks = self._checked.tasks
        if self._checked.info_found:
            info.total_tasks = len(tasks or ())
        if tasks is not None and len(tasks) != info.total_tasks:
            message = f"total_tasks is {info.total_tasks}, meta/tasks.parquet holds {len(tasks)}."
            is_ahead = len(tasks) > info.total_tasks
            self._add("info-counts", layout.INFO_PATH, message, is_ahead=is_ahead)

    def _load_episodes(self, info: DatasetInfo) -> None:
        paths = [path for path in parquet_files(self.root / layout.EPISODES_FOLDER) if self._is_file(path)]
        jobs = self._episodes_jobs(paths)
        parts: dict[Path, EpisodesPart] = {}
        for outcome in self._jobs("metadata", jobs):
            part = outcome.value or EpisodesPart([], outcome.code or "episodes-unreadable", outcome.message)
            parts[outcome.job.path] = part
            if outcome.value is not None and part.problem is not None:
                self._add(part.problem, self._checked.name(outcome.job.path), part.message)
        self._checked.parts = {path: parts[path] for path in paths}
        rows = [row for path in paths for row in parts[path].rows]
        if self._checked.info_found:
            info.total_episodes, info.total_frames = len(rows), rows[-1].end if rows else 0
        self._checked.episodes = {row.episode: row for row in rows[: info.total_episodes]}
        self._found += compare_counts(self._checked, info)

    def _episodes_jobs(self, paths: list[Path]) -> list[Job]:
        keys = tuple(self._checked.video_keys)
        return [Job(path, episodes_job, (self.root, path, keys)) for path in paths]

    def _read_again(self) -> Metadata:
        """Read the metadata once more, without reporting problems."""
        tasks_path = self.root / layout.TASKS_PATH
        paths = [path for path in parquet_files(self.root / layout.EPISODES_FOLDER) if is_regular(path)]
        jobs = self._episodes_jobs(paths)
        if is_regular(tasks_path):
            jobs.append(Job(tasks_path, tasks_job, (self.root,)))
        found = {outcome.job.path: outcome for outcome in run_jobs(self.pool, jobs, width=self.width)}
        tasks = found[tasks_path].value if tasks_path in found else {}
        parts = {path: found[path].value for path in paths}
        return Metadata(tasks if isinstance(tasks, dict) else None, parts)

    def _look_at_data(self, info: DatasetInfo) -> None:
        checked = self._checked
        by_file: dict[FileIndex, list[EpisodeRow]] = defaultdict(list)
        for row in checked.episodes.values():
            by_file[row.data].append(row)
        paths = {path: file_index(path) for path in parquet_files(self.root / layout.DATA_FOLDER)}
        jobs: list[Job] = []
        for path, index in paths.items():
            if self._is_file(path):
                rows = by_file.get(index, []) if index is not None else []
                file = RowsFile(self.root, path, info.features, info.fps, rows, self.fast)
                jobs.append(Job(path, rows_job, (file,), frames_claimed(rows) or 1))
        there = set(paths.values())
        for number, rows in by_file.items():
            if number not in there:
                self._add("data-missing", layout.data_path(number), _missing(rows))
        parts: dict[Path, RowsPart | None] = dict(self._read_files("rows", jobs))
        checked.data = {job.path: parts[job.path] for job in jobs}
        checked.report.frames = sum(part.rows for part in parts.values() if part is not None)
        self._found += compare_rows(checked, info)

    def _look_at_videos(self, info: DatasetInfo) -> None:
        checked = self._checked
        found: dict[tuple[str, FileIndex], list[EpisodeRow]] = defaultdict(list)
        for row in checked.episodes.values():
            for key in checked.video_keys:
                if key in row.videos:
                    found[key, row.videos[key].index].append(row)
                else:
                    message = "meta/episodes does not say where its video is."
                    self._add("video-missing", row.file, message, episode=row.episode, camera=key)
        jobs: list[Job] = []
        places: dict[Path, tuple[str, FileIndex]] = {}
        threads = default_threads(self.width)
        for (key, index), rows in sorted(found.items()):
            name = layout.video_path(key, index)
            path = self.root / name
            places[path] = key, index
            if self._is_file(path, Finding("video-missing", name, _missing(rows), camera=key)):
                spec = info.features[key]
                file = VideoFile(self.root, path, key, spec, info.fps, rows, [], self.fast, threads)
                jobs.append(file.job())
        for path, part in self._read_files("videos", jobs):
            checked.videos[places[path]] = part
            checked.report.video_frames += part.frames if part is not None else 0
        self._found += Pairing(checked, info, read_dataset_id(self.root)).findings()
        self._look_for_orphans(set(found))

    def _look_for_orphans(self, used: set[tuple[str, FileIndex]]) -> None:
        if not self._checked.is_complete:
            return  # lost metadata is reported separately
        folder = self.root / layout.VIDEOS_FOLDER
        wanted = {self.root / layout.video_path(key, index) for key, index in used}
        replaced = {file.name: file.size for file in read_replaced(self.root)}
        kept: list[int] = []
        for path in sorted(folder.glob("*/*/*.mp4")):
            if path in wanted or path.name.startswith("."):
                continue
            if self._checked.name(path) in replaced:
                kept.append(replaced[self._checked.name(path)])
            else:
                self._add("video-orphan", self._checked.name(path), "No episode refers to it.")
        if kept:
            size = sum(kept) / layout.MEGABYTE
            message = f"{len(kept)} videos ({size:.1f} MiB) that were replaced are kept for their readers."
            self._add("video-replaced", layout.VIDEOS_FOLDER, message)

    def _look_at_totals(self, info: DatasetInfo) -> None:
        checked = self._checked
        path = self.root / layout.STATS_PATH
        if not checked.episodes or self._holder is not None:
            return  # a commit writes stats.json before info.json counts the episode
        if not self._is_file(path, Finding("stats-missing", layout.STATS_PATH, "It is missing.")):
            return
        try:
            stored = load_stats(self.root)
        except DatasetError as error:
            self._add("stats-invalid", layout.STATS_PATH, str(error))
            return
        counts = Counter(row.file for row in checked.episodes.values())
        files = [self.root / name for name in counts]
        arguments = (files, list(counts.values()), list(info.features))
        (outcome,) = self._jobs("statistics", [Job(path, total_stats_job, arguments, len(files))])
        if isinstance(outcome.value, str):
            message = f"The statistics of the episodes cannot be merged: {outcome.value}."
            self._add("stats-total", layout.STATS_PATH, message)
            return
        for key, difference in total_differences(stored, outcome.value or {}).items():
            message = f"It differs from the merged statistics of the episodes: {key}: {difference}."
            self._add("stats-total", layout.STATS_PATH, message)


def _missing(rows: Iterable[EpisodeRow]) -> str:
    """The message about a missing file that should hold some episodes."""
    found = sorted(row.episode for row in rows)
    shown = f"{len(found)} episodes from {found[0]} to {found[-1]}"
    if len(found) == 1:
        shown = f"episode {found[0]}"
    elif found == list(range(found[0], found[-1] + 1)):
        shown = f"episodes {found[0]} to {found[-1]}"
    return f"It is missing; it should hold {shown}."
