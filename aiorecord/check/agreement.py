"""Checks that info.json, `meta/episodes` and the rows agree. Opens no file: works on what was read before."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ..dataset.format import layout
from ..dataset.format.info_json import DatasetInfo
from ..dataset.format.layout import parse_index
from .checked import Checked
from .findings import CODES, UNDETERMINED, Finding
from .readers.folder_tree import name_in, parquet_files
from .readers.metadata import EpisodeRow
from .readers.model import Run


class Agreement:
    """One comparison; call one of its methods, once.

    Args:
        checked: the data that was read.
        info: its info.json.
    """

    def __init__(self, checked: Checked, info: DatasetInfo) -> None:
        self._checked, self._info = checked, info
        self._root = checked.report.root
        self._found: list[Finding] = []

    def _add(self, code: str, place: str, message: str, **details: Any) -> None:
        self._found.append(Finding(code, place, message, **details))

    def _name(self, path: Path) -> str:
        return name_in(self._root, path)

    def order(self) -> list[Finding]:
        """Check that episodes are numbered from 0 in the order of the files, and contiguous in the rows."""
        problems = [part.problem for part in self._checked.parts.values()]
        if any(code is not None and CODES[code][0] == UNDETERMINED for code in problems):
            return []  # its content is unknown, so nothing can be called missing
        rows = [row for part in self._checked.parts.values() for row in part.rows]
        counted = rows[: self._info.total_episodes]
        expected = end = 0
        for row in counted:
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
        if len(rows) > self._info.total_episodes:
            self._add(
                "episodes-uncounted",
                layout.EPISODES_FOLDER,
                f"It holds {len(rows)} episodes, meta/info.json counts {self._info.total_episodes}.",
                is_ahead=True,
            )
        if len(rows) < self._info.total_episodes:
            code = "lerobot-killed-metadata-behind" if self._looks_killed(lost) else "info-counts"
            self._add(
                code,
                layout.INFO_PATH,
                f"It counts {self._info.total_episodes} episodes, meta/episodes holds {len(rows)}"
                + (
                    ": LeRobot 0.6 keeps up to ten in memory, which die with it."
                    if code != "info-counts"
                    else "."
                ),
            )
        elif rows and expected == len(counted) and end != self._info.total_frames:
            self._add(
                "info-counts",
                layout.INFO_PATH,
                f"total_frames is {self._info.total_frames}, the episodes have {end}.",
            )
        splits = self._info.splits if isinstance(self._info.splits, dict) else {}
        train = splits.get("train")
        if set(splits) == {"train"} and train != f"0:{self._info.total_episodes}":
            self._add(
                "info-counts",
                layout.INFO_PATH,
                f"splits say {train!r} for {self._info.total_episodes} episodes.",
            )
        return self._found

    def _looks_killed(self, lost: bool) -> bool:
        """Whether there is data without metadata, as a killed LeRobot leaves it."""
        return lost and bool(parquet_files(self._root / layout.DATA_FOLDER))

    def runs(self) -> list[Finding]:
        """Check that the rows match `meta/episodes`, in its order."""
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
                    if checked.is_complete:
                        self._orphan(path, run)
                    continue
                seen[run.episode] += 1
                self._match_run(path, run, row, known, before)
                before = run.episode
        lost = {path for path, part in checked.data.items() if part is None or not part.readable}
        for row in checked.episodes.values():
            path = self._root / layout.data_path(row.data)
            if not seen[row.episode] and path in checked.data and path not in lost:
                self._add("rows-count", self._name(path), "It has no row of it.", episode=row.episode)
        return self._found

    def _orphan(self, path: Path, run: Run) -> None:
        self._add(
            "data-orphan",
            self._name(path),
            f"It holds {run.length} rows of episode {run.episode}, which meta/episodes does not locate here"
            + (" (info.json does not count it)." if run.episode >= self._info.total_episodes else "."),
            episode=run.episode,
            is_ahead=run.episode >= self._info.total_episodes,
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
