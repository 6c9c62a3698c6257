"""Decides which findings of a check hold when the dataset may have been written to while it was read.

Everything was read between two looks at the dataset (`commit.generation`). If episodes were only added in
between, the files counted at the first look did not change: findings about them hold, and files beyond the
count are not reported. If files were exchanged, mismatches may come from the exchange, and the check is
repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..dataset.commit.generation import Look, look
from ..dataset.format import layout
from ..dataset.format.info_json import DatasetInfo, parse_info
from ..errors import DatasetError, StorageError
from ..staging.folder import STAGING_FOLDER
from .checked import Checked
from .findings import NOTE, Finding
from .readers.metadata import EpisodeRow, EpisodesPart

_EXPLAINED = {
    *("staging-unfinished", "staging-packing", "temporary-file", "episodes-uncounted", "video-orphan"),
    *("stats-total", "stats-missing"),
}
"""Findings that are normal during recording, commits or packing, and leftovers otherwise."""


@dataclass(frozen=True)
class Metadata:
    """The metadata as read a second time.

    Attributes:
        tasks: tasks and their numbers, None if they cannot be read.
        parts: the files of `meta/episodes`, None for one that was not read.
    """

    tasks: dict[str, int] | None
    parts: dict[Path, EpisodesPart | None]


@dataclass(frozen=True)
class _Doubt:
    """Exchanged data and video files, by name, and episodes with another row in `meta/episodes`.

    Attributes:
        everything: it is unknown what was exchanged.
    """

    files: frozenset[str] = frozenset()
    episodes: frozenset[int] = frozenset()
    everything: bool = False


@dataclass(frozen=True)
class Generations:
    """Judges the findings of one pass of a check; call `judge` or `alone`, once.

    Args:
        checked: the result of the pass; `agreed` is set to False if the looks differ.
        before: the look before it.
        read_again: reads the metadata once more.
        wait_for_commit: waits for a commit to end; called if it is unknown whether a process records.
    """

    checked: Checked
    before: Look
    read_again: Callable[[], Metadata]
    wait_for_commit: Callable[[], object]

    def alone(self, found: list[Finding]) -> list[Finding]:
        """The findings when the caller holds the lock; a program that writes without it may be undetected."""
        if look(self.checked.report.root) == self.before:
            return found
        self.checked.agreed = False
        message = "It changed although its lock was held: a program that does not see it writes into it."
        return [*found, Finding("dataset-changed", ".", message)]

    def judge(self, found: list[Finding]) -> list[Finding]:
        """The findings that hold independent of what was written meanwhile."""
        before, after = self.before, look(self.checked.report.root)
        is_known = before.holder is not None or before.holder_is_dead
        if not is_known and after == before and any(_is_explained(finding) for finding in found):
            self.wait_for_commit()  # a commit whose lock cannot be seen may have been under way
            after = look(self.checked.report.root)
        if before.holder is None and after.holder is None and after == before:
            return found
        found = [replace(f, is_live=True) for f in found if not _is_explained(f) and not self._is_new(f)]
        if before.holder is None:
            found.append(_who(after))
        if not any(finding.severity != NOTE for finding in found):
            return found
        doubt = self._doubt(after)
        if doubt is None:
            return found
        self.checked.agreed = False
        firm = self._firm(doubt)
        left = [f for f in found if f.severity == NOTE or replace(f, is_live=False) in firm]
        message = "Its files were exchanged each time they were read, so mismatches are not reported."
        return [*left, Finding("dataset-changed", ".", message, is_live=True)]

    def _is_new(self, finding: Finding) -> bool:
        """Whether it is about a file added after the first look, which nothing counted then."""
        path = self.checked.report.root / finding.place
        was_read = path in self.checked.data or path in self.checked.parts
        return was_read and finding.place not in self.before.files

    def _doubt(self, after: Look) -> _Doubt | None:
        """What was exchanged among the files counted at the first look; None if nothing was."""
        before, checked = self.before, self.checked
        if before.is_packing or after.is_packing:
            return _Doubt(everything=True)
        if after == before:
            return None
        if checked.info is None:
            return None if after.info == before.info else _Doubt(everything=True)
        try:
            now = parse_info(after.info or b"", self.checked.report.root / layout.INFO_PATH)
            again = self.read_again()
        except (DatasetError, StorageError):
            return _Doubt(everything=True)
        if not _continues(checked.info, now) or not _has_tasks(again.tasks, checked.tasks):
            return _Doubt(everything=True)
        for path, part in checked.parts.items():
            other = again.parts.get(path)
            if part.problem is not None and (other is None or other.problem != part.problem):
                return _Doubt(everything=True)
        rows = _rows(again.parts.values(), checked.info.total_episodes)
        numbers = rows.keys() | checked.episodes.keys()
        # By their text, where NaN equals itself.
        episodes = {n for n in numbers if repr(rows.get(n)) != repr(checked.episodes.get(n))}
        names = {name for row in checked.episodes.values() for name in self._files_of(row)}
        names |= {checked.name(path) for path in checked.data}
        files = {name for name in names if before.files.get(name) != after.files.get(name)}
        return _Doubt(frozenset(files), frozenset(episodes)) if files or episodes else None

    def _firm(self, doubt: _Doubt) -> set[Finding]:
        """The findings on files that did not change, and whose rows in `meta/episodes` did not either."""
        if doubt.everything:
            return set()
        checked = self.checked
        doubtful = set(doubt.files)
        for number in doubt.episodes:
            if (row := checked.episodes.get(number)) is not None:
                doubtful.update(self._files_of(row))
        parts: dict[str, Any] = {checked.name(path): part for path, part in checked.data.items()}
        parts |= {layout.video_path(key, index): part for (key, index), part in checked.videos.items()}
        read = {name: part for name, part in parts.items() if part is not None and name not in doubtful}
        return {finding for part in read.values() for finding in part.findings}

    def _files_of(self, row: EpisodeRow) -> list[str]:
        videos = [layout.video_path(key, place.index) for key, place in row.videos.items()]
        return [layout.data_path(row.data), *videos]


def _is_explained(finding: Finding) -> bool:
    return finding.is_ahead or finding.code in _EXPLAINED


def _who(after: Look) -> Finding:
    what = "It changed during the check: a process whose lock cannot be seen records into it."
    if after.holder is not None:
        what = f"It is being recorded into by {after.holder}."
    return Finding("dataset-locked", f"{STAGING_FOLDER}/lock", what, is_live=True)


def _continues(before: DatasetInfo, after: DatasetInfo) -> bool:
    """Whether an info.json equals the other one except for more episodes."""
    counts = {"total_episodes": 0, "total_frames": 0, "total_tasks": 0, "splits": {}}
    return (
        after.total_episodes >= before.total_episodes
        and after.total_frames >= before.total_frames
        and {**before.as_dict(), **counts} == {**after.as_dict(), **counts}
    )


def _has_tasks(after: dict[str, int] | None, before: dict[str, int] | None) -> bool:
    if after is None or before is None:
        return after is before
    return before.items() <= after.items()


def _rows(parts: Iterable[EpisodesPart | None], count: int) -> dict[int, EpisodeRow]:
    rows = [row for part in parts if part is not None for row in part.rows]
    return {row.episode: row for row in rows[:count]}
