"""The check of a whole dataset: info against metadata against rows against video frames."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dataset import layout
from ..dataset.info import DatasetInfo
from ..dataset.layout import FileIndex, parse_index
from ..dataset.lock import live_holder
from ..dataset.stats import FeatureStats
from ..dataset.workers import WorkerPool
from ..errors import DatasetError
from .compare import total_difference
from .findings import Finding, Report
from .jobs import Job, Outcome, is_regular, run_jobs
from .metadata import (
    EpisodeRow,
    EpisodesPart,
    episodes_job,
    load_info,
    load_stats,
    tasks_job,
    total_stats_job,
)
from .rows import RowsPart, Run, rows_job
from .tree import leftovers, parquet_files
from .video import VideoPart, default_threads, video_job

ProgressCallback = Callable[[str, int, int], None]

_BYTES_PER_UNIT = 1 << 12
"""Progress of a video is in frames, which are not known before; its size stands for them."""


@dataclass
class Checked:
    """What a check learned, for a repair to build on.

    Attributes:
        report: the findings.
        info: info.json, None if it cannot be used (then there is nothing else).
        tasks: tasks and their numbers, None if they cannot be read.
        parts: the files of `meta/episodes`.
        episodes: the rows of `meta/episodes` that count, by episode.
        data: data files and what is in them; None where the reader died.
        videos: video files by camera and number, likewise.
    """

    report: Report
    info: DatasetInfo | None = None
    tasks: dict[str, int] | None = None
    parts: dict[Path, EpisodesPart] = field(default_factory=dict)
    episodes: dict[int, EpisodeRow] = field(default_factory=dict)
    data: dict[Path, RowsPart | None] = field(default_factory=dict)
    videos: dict[tuple[str, FileIndex], VideoPart | None] = field(default_factory=dict)

    @property
    def video_keys(self) -> list[str]:
        """Cameras stored as video."""
        features = self.info.features if self.info else {}
        return [key for key, spec in features.items() if spec["dtype"] == "video"]


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
    """Verify a dataset deeply. Blocking. Only reads; it may be one that is being recorded into.

    Every file is read once, in worker processes, one row group or one video frame at a time. Whatever is on
    disk, this ends with a report.

    Args:
        root: the dataset's root folder.
        fast: decode no video and no image; count and place frames by reading packets.
        workers: processes, default one for each processor.
        progress: called with what is being looked at, the units done and the units in all.

    Returns:
        What was found; see `findings.CODES`.

    Raises:
        ConfigError: `workers` is not positive.
    """
    width = default_workers() if workers is None else workers
    pool = WorkerPool(width, name="aiorecord-check")
    try:
        return Check(root, pool, width, fast, progress).run().report
    finally:
        pool.shutdown(cancel_futures=True)


class Check:
    """One check; `run` it once.

    Args:
        root: the dataset's root folder.
        pool: where files are read.
        width: how many at once.
        fast: decode nothing.
        progress: see `check_dataset`.
        holding_lock: the caller holds the dataset's lock, so nobody records into it.
    """

    def __init__(
        self,
        root: Path,
        pool: WorkerPool,
        width: int,
        fast: bool = False,
        progress: ProgressCallback | None = None,
        *,
        holding_lock: bool = False,
    ) -> None:
        self.root, self.pool, self.width, self.fast = root, pool, width, fast
        self._progress = progress
        self._holder = None if holding_lock else live_holder(root)
        self._live = self._holder is not None
        self._found: list[Finding] = []
        self._checked = Checked(Report(root, fast=fast))

    def run(self) -> Checked:
        """Look at everything."""
        started = time.monotonic()
        checked = self._checked
        try:
            self._found += leftovers(self.root, self._holder)
        except OSError as error:
            self._add("info-missing", ".", f"The folder cannot be read: {error}.")
        if self._load_info():
            assert checked.info is not None
            self._load_tasks(checked.info)
            self._load_episodes(checked.info)
            self._look_at_data(checked.info)
            self._look_at_videos(checked.info)
            self._look_at_totals(checked.info)
        checked.report.add(self._found)
        checked.report.episodes = len(checked.episodes)
        checked.report.seconds = time.monotonic() - started
        return checked

    def _add(self, code: str, place: str, message: str, **details: Any) -> None:
        self._found.append(Finding(code, place, message, **details))

    def _jobs(self, what: str, jobs: list[Job]) -> Iterable[Outcome]:
        def tell(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(what, done, total)

        for outcome in run_jobs(self.pool, jobs, tell, width=self.width):
            if outcome.code is not None:
                self._add(outcome.code, self._name(outcome.job.path), outcome.message)
            yield outcome

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _is_file(self, path: Path) -> bool:
        """Whether a path that is there is a file; reports what is not."""
        if is_regular(path) is False:
            self._add("not-a-file", self._name(path), "It is a folder, a pipe or a device.")
            return False
        return True

    def _load_info(self) -> bool:
        path = self.root / layout.INFO_PATH
        if is_regular(path) is None:
            self._add("info-missing", layout.INFO_PATH, "It is missing, so this is no dataset.")
            return False
        if not self._is_file(path):
            return False
        try:
            self._checked.info = load_info(self.root)
        except DatasetError as error:
            self._add("info-invalid", layout.INFO_PATH, f"{error}")
            return False
        return True

    def _load_tasks(self, info: DatasetInfo) -> None:
        path = self.root / layout.TASKS_PATH
        if is_regular(path) is None:
            if info.total_tasks:
                self._add("tasks-unreadable", layout.TASKS_PATH, "It is missing.")
            else:
                self._checked.tasks = {}
            return
        if not self._is_file(path):
            return
        for outcome in self._jobs("tasks", [Job(path, tasks_job, (self.root,))]):
            if isinstance(outcome.value, str):
                self._add("tasks-unreadable", layout.TASKS_PATH, outcome.value)
            else:
                self._checked.tasks = outcome.value
        tasks = self._checked.tasks
        if (
            tasks is not None
            and len(tasks) != info.total_tasks
            and not (self._live and len(tasks) > info.total_tasks)
        ):
            self._add(
                "info-counts",
                layout.INFO_PATH,
                f"total_tasks is {info.total_tasks}, meta/tasks.parquet holds {len(tasks)}.",
            )

    def _load_episodes(self, info: DatasetInfo) -> None:
        keys = tuple(self._checked.video_keys)
        paths = [path for path in parquet_files(self.root / layout.EPISODES_FOLDER) if self._is_file(path)]
        jobs = [Job(path, episodes_job, (self.root, path, keys)) for path in paths]
        parts: dict[Path, EpisodesPart] = {}
        for outcome in self._jobs("metadata", jobs):
            part = outcome.value or EpisodesPart([], "episodes-unreadable", outcome.message)
            parts[outcome.job.path] = part
            if outcome.value is not None and part.problem is not None:
                self._add(part.problem, self._name(outcome.job.path), part.message)
        self._checked.parts = {path: parts[path] for path in paths}
        self._check_order(info)

    def _check_order(self, info: DatasetInfo) -> None:
        """Episodes must be numbered from 0 in the order of the files, and follow each other in the rows."""
        rows = [row for part in self._checked.parts.values() for row in part.rows]
        expected = end = 0
        for row in rows:
            if row.episode != expected or row.first != end or row.end != end + row.length or row.length < 1:
                self._add(
                    "episodes-order",
                    row.file,
                    f"Row {row.row} is episode {row.episode} with {row.length} frames from {row.first} to "
                    f"{row.end}; episode {expected} from {end} on should be here.",
                    episode=row.episode,
                )
                break
            expected, end = expected + 1, row.end
        lost = any(part.problem for part in self._checked.parts.values()) or not rows
        if len(rows) > info.total_episodes and not self._live:
            self._add(
                "episodes-uncounted",
                layout.EPISODES_FOLDER,
                f"It holds {len(rows)} episodes, meta/info.json counts {info.total_episodes}.",
            )
        elif len(rows) < info.total_episodes:
            code = "lerobot-killed-metadata-behind" if self._looks_killed(lost) else "info-counts"
            self._add(
                code,
                layout.INFO_PATH,
                f"It counts {info.total_episodes} episodes, meta/episodes holds {len(rows)}"
                + (
                    ": LeRobot 0.6 keeps up to ten in memory, which die with it."
                    if code != "info-counts"
                    else "."
                ),
            )
        elif rows and expected == len(rows) and end != info.total_frames:
            self._add(
                "info-counts",
                layout.INFO_PATH,
                f"total_frames is {info.total_frames}, the episodes have {end}.",
            )
        splits = info.splits if isinstance(info.splits, dict) else {}
        train = splits.get("train")
        if set(splits) == {"train"} and train != f"0:{info.total_episodes}":
            self._add(
                "info-counts", layout.INFO_PATH, f"splits say {train!r} for {info.total_episodes} episodes."
            )
        counted = rows[: info.total_episodes]
        self._checked.episodes = {row.episode: row for row in counted}

    @property
    def _is_complete(self) -> bool:
        """Whether `meta/episodes` could be read and holds all that info.json counts."""
        checked = self._checked
        broken = any(part.problem for part in checked.parts.values())
        return (
            not broken and checked.info is not None and len(checked.episodes) >= checked.info.total_episodes
        )

    def _looks_killed(self, lost: bool) -> bool:
        """Whether data are there that metadata lacks, as a killed LeRobot leaves them."""
        return lost and bool(parquet_files(self.root / layout.DATA_FOLDER))

    def _look_at_data(self, info: DatasetInfo) -> None:
        checked = self._checked
        by_file: dict[FileIndex, list[EpisodeRow]] = defaultdict(list)
        for row in checked.episodes.values():
            by_file[row.data].append(row)
        jobs: list[Job] = []
        there: set[FileIndex] = set()
        for path in parquet_files(self.root / layout.DATA_FOLDER):
            index = parse_index(f"{path.parent.name}/{path.name}")
            rows = by_file.get(index, []) if index is not None else []
            if index is not None:
                there.add(index)
            if not self._is_file(path):
                continue
            total = sum(row.length for row in rows if 0 < row.length < 1 << 40) or 1
            jobs.append(
                Job(path, rows_job, (self.root, path, info.features, info.fps, rows, self.fast), total)
            )
        for index, rows in by_file.items():
            if index not in there:
                shown = _episodes(row.episode for row in rows)
                self._add("data-missing", layout.data_path(index), f"It is missing; it should hold {shown}.")
        parts: dict[Path, RowsPart | None] = {}
        for outcome in self._jobs("rows", jobs):
            parts[outcome.job.path] = outcome.value
            if outcome.value is not None:
                self._found += outcome.value.findings
                checked.report.frames += outcome.value.rows
            checked.report.files += 1
        checked.data = {job.path: parts.get(job.path) for job in jobs}
        self._match_runs(info)

    def _match_runs(self, info: DatasetInfo) -> None:
        """Rows must be those that `meta/episodes` says, in its order."""
        checked = self._checked
        seen: Counter[int] = Counter()
        known = {index: task for task, index in (checked.tasks or {}).items()}
        before = -1
        for path, part in checked.data.items():
            if part is None or not part.readable:
                continue
            index = parse_index(f"{path.parent.name}/{path.name}")
            for run in part.runs:
                row = checked.episodes.get(run.episode)
                if row is None or row.data != index:
                    if self._is_complete and not (self._live and run.episode >= info.total_episodes):
                        self._orphan(path, run, info)
                    continue
                seen[run.episode] += 1
                self._match_run(path, run, row, known, before)
                before = run.episode
        lost = {path for path, part in checked.data.items() if part is None or not part.readable}
        for row in checked.episodes.values():
            path = self.root / layout.data_path(row.data)
            if not seen[row.episode] and path in checked.data and path not in lost:
                self._add("rows-count", self._name(path), "It has no row of it.", episode=row.episode)

    def _orphan(self, path: Path, run: Run, info: DatasetInfo) -> None:
        self._add(
            "data-orphan",
            self._name(path),
            f"It holds {run.length} rows of episode {run.episode}, which meta/episodes does not look for here"
            + (" (info.json does not count it)." if run.episode >= info.total_episodes else "."),
            episode=run.episode,
        )

    def _match_run(self, path: Path, run: Run, row: EpisodeRow, known: dict[int, str], before: int) -> None:
        place = self._name(path)
        if run.length != row.length:
            self._add(
                "rows-count",
                place,
                f"It has {run.length} rows of it, meta/episodes says {row.length}.",
                episode=run.episode,
            )
        if run.first != row.first or run.episode <= before:
            self._add(
                "rows-index",
                place,
                f"Its rows begin at index {run.first}, meta/episodes says {row.first}."
                if run.first != row.first
                else f"It comes after episode {before}.",
                episode=run.episode,
            )
        if self._checked.tasks is None:
            return
        names = [known.get(task) for task in run.tasks]
        if None in names:
            number = run.tasks[names.index(None)]
            self._add(
                "task-unknown",
                place,
                f"task_index {number} is not in meta/tasks.parquet.",
                episode=run.episode,
            )
        elif set(names) != set(row.tasks):
            self._add(
                "task-unknown",
                row.file,
                f"Its tasks are {list(row.tasks)}, its rows say {names}.",
                episode=run.episode,
            )

    def _look_at_videos(self, info: DatasetInfo) -> None:
        checked = self._checked
        found: dict[tuple[str, FileIndex], list[EpisodeRow]] = defaultdict(list)
        for row in checked.episodes.values():
            for key in checked.video_keys:
                if key in row.videos:
                    found[key, row.videos[key].index].append(row)
                else:
                    self._add(
                        "video-missing",
                        row.file,
                        "meta/episodes does not say where its video is.",
                        episode=row.episode,
                        camera=key,
                    )
        jobs: list[Job] = []
        for (key, index), rows in sorted(found.items()):
            path = self.root / layout.video_path(key, index)
            if is_regular(path) is None:
                shown = _episodes(row.episode for row in rows)
                self._add(
                    "video-missing", self._name(path), f"It is missing; it should hold {shown}.", camera=key
                )
            elif self._is_file(path):
                jobs.append(self.video_job(info, key, index, rows, []))
        for outcome in self._jobs("videos", jobs):
            number = parse_index("/".join(outcome.job.path.parts[-2:]))
            assert number is not None
            checked.videos[outcome.job.arguments[2], number] = outcome.value
            if outcome.value is not None:
                self._found += outcome.value.findings
                checked.report.video_frames += outcome.value.frames
            checked.report.files += 1
        self._look_for_orphans(set(found))

    def video_job(
        self,
        info: DatasetInfo,
        key: str,
        index: FileIndex,
        rows: list[EpisodeRow],
        inferred: list[tuple[int, int, float]],
    ) -> Job:
        """The job that looks through one video file."""
        path = self.root / layout.video_path(key, index)
        threads = default_threads(self.width)
        spec = info.features[key]
        arguments = (self.root, path, key, spec, info.fps, rows, inferred, self.fast, threads)
        frames = sum(row.length for row in rows if 0 < row.length < 1 << 40)
        frames += sum(length for _, length, _ in inferred)
        return Job(path, video_job, arguments, max(1, frames or path.stat().st_size // _BYTES_PER_UNIT))

    def _look_for_orphans(self, used: set[tuple[str, FileIndex]]) -> None:
        if self._live or not self._is_complete:
            return  # a commit publishes videos before it counts them; lost metadata is reported by itself
        folder = self.root / layout.VIDEOS_FOLDER
        wanted = {self.root / layout.video_path(key, index) for key, index in used}
        for path in sorted(folder.glob("*/*/*.mp4")):
            if path not in wanted and not path.name.startswith("."):
                self._add("video-orphan", self._name(path), "No episode refers to it.")

    def _look_at_totals(self, info: DatasetInfo) -> None:
        checked = self._checked
        path = self.root / layout.STATS_PATH
        if not checked.episodes or self._live:
            return
        if is_regular(path) is None:
            self._add("stats-missing", layout.STATS_PATH, "It is missing.")
            return
        if not self._is_file(path):
            return
        try:
            stored = load_stats(self.root)
        except DatasetError as error:
            self._add("stats-invalid", layout.STATS_PATH, str(error))
            return
        counts = Counter(row.file for row in checked.episodes.values())
        names = list(counts)
        job = Job(path, total_stats_job, (self.root, names, [counts[n] for n in names]), len(names))
        merged: dict[str, FeatureStats] | None = None
        for outcome in self._jobs("statistics", [job]):
            merged = outcome.value
        if merged is not None and (difference := total_difference(stored, merged)) is not None:
            self._add(
                "stats-total",
                layout.STATS_PATH,
                f"It is not what the statistics of the episodes add up to: {difference}.",
            )


def _episodes(numbers: Iterable[int]) -> str:
    """A list of episodes for people."""
    found = sorted(numbers)
    if len(found) == 1:
        return f"episode {found[0]}"
    if found == list(range(found[0], found[-1] + 1)):
        return f"episodes {found[0]} to {found[-1]}"
    return f"{len(found)} episodes from {found[0]} to {found[-1]}"
