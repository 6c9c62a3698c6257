"""Checks that info.json, `meta/episodes`, the rows and the quality record agree, on what was read before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..dataset.format import layout, quality_log
from ..dataset.format.info_json import DatasetInfo
from ..errors import StorageError
from .checked import Checked
from .findings import Finding, is_undetermined
from .readers.folder_tree import file_index, parquet_files
from .readers.metadata import EpisodeRow
from .readers.model import Run


def compare_counts(checked: Checked, info: DatasetInfo) -> Iterator[Finding]:
    """Check that episodes are numbered from 0 in the order of the files, without gaps, and all counted."""
    problems = {part.problem for part in checked.parts.values()} - {None}
    if any(is_undetermined(code) for code in problems if code is not None):
        return  # its content is unknown, so nothing can be called missing
    rows = [row for part in checked.parts.values() for row in part.rows]
    counted = rows[: info.total_episodes]
    expected = end = 0
    for row in counted:
        if row.episode != expected or row.first != end or row.end != end + row.length or row.length < 1:
            yield Finding(
                "episodes-order",
                row.file,
                f"Row {row.row} is episode {row.episode} with {row.length} frames from {row.first} to "
                f"{row.end}; episode {expected} from {end} on should be here.",
                row.episode,
            )
            break
        expected, end = expected + 1, row.end
    if len(rows) > info.total_episodes:
        message = f"It holds {len(rows)} episodes, meta/info.json counts {info.total_episodes}."
        yield Finding("episodes-uncounted", layout.EPISODES_FOLDER, message, is_ahead=True)
    wrong: list[str] = []
    if len(rows) < info.total_episodes:
        message = f"It counts {info.total_episodes} episodes, meta/episodes holds {len(rows)}"
        # A killed LeRobot leaves data without metadata.
        if (problems or not rows) and parquet_files(checked.report.root / layout.DATA_FOLDER):
            message += ": LeRobot 0.6 keeps up to ten in memory, which die with it."
            yield Finding("lerobot-killed-metadata-behind", layout.INFO_PATH, message)
        else:
            wrong.append(f"{message}.")
    elif rows and expected == len(counted) and end != info.total_frames:
        wrong.append(f"total_frames is {info.total_frames}, the episodes have {end}.")
    splits = info.splits if isinstance(info.splits, dict) else {}
    train = splits.get("train")
    if set(splits) == {"train"} and train != f"0:{info.total_episodes}":
        wrong.append(f"splits say {train!r} for {info.total_episodes} episodes.")
    for message in wrong:
        yield Finding("info-counts", layout.INFO_PATH, message)


def compare_rows(checked: Checked, info: DatasetInfo) -> Iterator[Finding]:
    """Check that the rows match `meta/episodes`, in its order."""
    seen: Counter[int] = Counter()
    known = {index: task for task, index in (checked.tasks or {}).items()}
    before = -1
    readable = {path: part for path, part in checked.data.items() if part is not None and part.readable}
    for path, part in readable.items():
        for run in part.runs:
            row = checked.episodes.get(run.episode)
            if row is not None and row.data == file_index(path):
                seen[run.episode] += 1
                yield from _compare_run(checked.name(path), run, row, before)
                if checked.tasks is not None:
                    yield from _compare_tasks(checked.name(path), run, row, known)
                before = run.episode
            elif checked.is_complete:
                yield _orphan(checked.name(path), run, info.total_episodes)
    for row in checked.episodes.values():
        path = checked.report.root / layout.data_path(row.data)
        if not seen[row.episode] and path in readable:
            yield Finding("rows-count", checked.name(path), "It has no row of it.", row.episode)


def _orphan(place: str, run: Run, counted: int) -> Finding:
    is_ahead = run.episode >= counted
    message = f"It holds {run.length} rows of episode {run.episode}, which meta/episodes does not locate here"
    message += " (info.json does not count it)." if is_ahead else "."
    return Finding("data-orphan", place, message, run.episode, is_ahead=is_ahead)


def _compare_run(place: str, run: Run, row: EpisodeRow, before: int) -> Iterator[Finding]:
    if run.length != row.length:
        message = f"It has {run.length} rows of it, meta/episodes says {row.length}."
        yield Finding("rows-count", place, message, run.episode)
    if run.first != row.first:
        message = f"Its rows begin at index {run.first}, meta/episodes says {row.first}."
        yield Finding("rows-index", place, message, run.episode)
    elif run.episode <= before:
        yield Finding("rows-index", place, f"It comes after episode {before}.", run.episode)


def _compare_tasks(place: str, run: Run, row: EpisodeRow, known: dict[int, str]) -> Iterator[Finding]:
    names = [known.get(task) for task in run.tasks]
    if None in names:
        message = f"task_index {run.tasks[names.index(None)]} is not in meta/tasks.parquet."
        yield Finding("task-unknown", place, message, run.episode)
    elif set(names) != set(row.tasks):
        message = f"Its tasks are {list(row.tasks)}, its rows say {names}."
        yield Finding("task-unknown", row.file, message, run.episode)


def flagged_episodes(checked: Checked) -> Iterator[Finding]:
    """Findings on episodes that exceeded their limits when they were recorded, by the quality record."""
    try:
        records, _ = quality_log.read(checked.report.root, len(checked.episodes))
    except StorageError:
        return  # only these findings depend on it
    for index, record in sorted(records.items()):
        row = checked.episodes.get(index)
        if record.flags and row is not None and row.length == record.length:
            message = f"When it was recorded, {'; '.join(record.flags)}."
            yield Finding("episode-flagged", quality_log.PATH, message, index)
