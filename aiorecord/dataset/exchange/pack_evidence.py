"""Checks that a journal found on disk was written by a packing or a repair of this dataset.

A journal may be forged or belong to another dataset, so it alone never causes anything to be deleted or
replaced. What it names must follow from the old and the new `meta/episodes`: the new one counts the same
episodes and finds their files, a deleted video is one that only the old one names, and a replaced video
begins with the content of the old one. What only a repair replaces must be in its aside folder.
"""

from __future__ import annotations

import contextlib
import filecmp
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from ...errors import AiorecordError, DatasetError
from ...media.video_file import continues_video, stated_frames
from ...system import storage
from ..format import layout, quality_log
from ..format.episodes import (
    episode_files,
    location_columns,
    location_prefixes,
    locations,
    read_episodes,
)
from ..format.info_json import DatasetInfo, read_info
from ..format.layout import FileIndex
from ..format.tables import open_table, read_table

ASIDE = ".aiorecord-aside-"
"""Prefix of each folder that a repair moved files into. No reader's pattern matches it."""
REPAIRED_FILES = {layout.INFO_PATH, layout.STATS_PATH, layout.TASKS_PATH, quality_log.PATH}
"""Files that a repair also replaces."""
ASIDE_SUFFIX = ".aside"
"""Suffix of the replaced folder in the pack folder, used where two folders cannot be swapped."""

_PLACE = ("/chunk_index", "/file_index", "/from_timestamp", "/to_timestamp")
_SAME = ["episode_index", "length", "dataset_from_index", "dataset_to_index"]


def free_aside(root: Path) -> Path:
    """The next folder that files are moved into; it does not exist yet.

    Raises:
        StorageError: the disk refused to look.
    """
    number = 1
    while storage.is_there(root / f"{ASIDE}{number}"):
        number += 1
    return root / f"{ASIDE}{number}"


@dataclass
class Journal:
    """The decided steps of a packing. All paths are relative, with ``/``.

    Attributes:
        token: identifies this packing.
        moves: files in the pack folder and their targets in the dataset.
        folders: folders in the pack folder and the folders of the dataset that they replace. Each holds a
            file named by `marker`, which distinguishes it from the one it replaces.
        removed: files of the dataset to delete.
        watched: other programs have opened the dataset, or may have: a program that finds the journal keeps
            the `removed` files for them, see `replaced_videos`.
    """

    token: str
    moves: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    watched: bool = False

    @property
    def marker(self) -> str:
        """Name of the file that marks the new folders."""
        return f".pack-{self.token}{storage.TEMPORARY_SUFFIX}"


def check_evidence(root: Path, folder: Path, journal: Journal) -> None:
    """Compare a journal with the dataset and with the prepared files. Only reads.

    Args:
        folder: the pack folder.
        journal: its names have been checked to stay inside of the dataset.

    Raises:
        DatasetError: no packing or repair of this dataset wrote it.
    """
    try:
        _Evidence(root, folder, journal).check()
    except DatasetError as error:
        raise DatasetError(
            f"{folder} does not hold a packing of this dataset, nothing was changed: {error} Move it away, "
            f"then run `aiorecord check {root}`.",
            path=folder,
        ) from error


class _Evidence:
    def __init__(self, root: Path, folder: Path, journal: Journal) -> None:
        self._root, self._folder, self._journal = root, folder, journal
        aside = journal.moves.get("aside")
        places = [folder / "aside", *([root / aside] if aside else [])]
        self._aside = [place for place in places if aside and place.is_dir() and not place.is_symlink()]
        new_info = folder / layout.INFO_PATH
        self._info: DatasetInfo = read_info(folder if new_info.exists() else root)

    def check(self) -> None:
        if "episodes" not in self._journal.folders:
            self._refuse("it leaves meta/episodes as it is.")
        current = self._root / layout.EPISODES_FOLDER
        prepared = self._folder / "episodes"
        done = (current / self._journal.marker).exists()
        new = current if done else prepared
        old = prepared if done else current
        if not old.is_dir():
            old = prepared.with_name(prepared.name + ASIDE_SUFFIX)
        if not new.is_dir():
            self._refuse(f"there is no {new}.")
        if not done and not (new / self._journal.marker).exists():
            self._refuse(f"{new} is not marked.")
        after = self._episodes(new)
        before = self._episodes(old, counted=False) if old.is_dir() else None
        if not self._aside and (before is None or self._facts(new) != self._facts(old)):
            self._refuse("meta/episodes would have other episodes.")
        self._check_data(after)
        named, was_named = self._videos(after), self._videos(before)
        for source, target in self._journal.moves.items():
            if source != "aside" and (self._folder / source).exists():
                self._check_move(self._folder / source, target, named, was_named)
        for name in self._journal.removed:
            if name in named or (name not in REPAIRED_FILES and name not in was_named):
                self._refuse(f"{name} is not a file that a packing deletes.")
            if name in REPAIRED_FILES and not self._is_aside(name):
                self._refuse(f"{name} would be lost.")

    def _refuse(self, why: str) -> None:
        raise DatasetError(why, path=self._folder)

    def _episodes(self, folder: Path, *, counted: bool = True) -> pa.Table:
        files = episode_files(self._root, folder)
        names = location_columns(*location_prefixes(self._info.video_keys))
        table = read_episodes(files, [*_SAME, *names])
        ends = table["dataset_to_index"].to_pylist()
        totals = (self._info.total_episodes, self._info.total_frames)
        if counted and (table.num_rows, ends[-1] if ends else 0) != totals:
            self._refuse(f"{folder} has other episodes than meta/info.json counts.")
        return table

    def _facts(self, folder: Path) -> list[str]:
        """The metadata of each episode without its locations; the statistics identify its content."""
        found: list[str] = []
        for file in episode_files(self._root, folder):
            table = read_table(file.path)
            names = [name for name in table.column_names if not name.endswith(_PLACE)]
            found += map(repr, table.select(sorted(names)).to_pylist())  # as text, NaN is equal to NaN
        return found

    def _check_data(self, after: pa.Table) -> None:
        """Check that every row is where the new metadata say."""
        target = self._root / layout.DATA_FOLDER
        pending = "data" in self._journal.folders and not (target / self._journal.marker).exists()
        folder = self._folder / "data" if pending else target
        if pending and not (folder / self._journal.marker).exists():
            self._refuse(f"{folder} is not marked.")
        rows: dict[FileIndex, int] = {}
        for index, length in zip(locations(after, "data"), _lengths(after), strict=True):
            rows[index] = rows.get(index, 0) + length
        for index, count in rows.items():
            path = folder / Path(layout.data_path(index)).relative_to(layout.DATA_FOLDER)
            with open_table(path) as file:
                found = file.metadata.num_rows
            if found < count:
                self._refuse(f"{path} holds {found} rows, not {count}.")

    def _videos(self, table: pa.Table | None) -> dict[str, int]:
        """The videos that metadata name, and how many frames each holds."""
        found: dict[str, int] = {}
        if table is None:
            return found
        for key in self._info.video_keys:
            for index, length in zip(locations(table, f"videos/{key}"), _lengths(table), strict=True):
                path = layout.video_path(key, index)
                found[path] = found.get(path, 0) + length
        return found

    def _check_move(
        self, source: Path, target: str, named: Mapping[str, int], was_named: Mapping[str, int]
    ) -> None:
        if target in REPAIRED_FILES:
            if (self._root / target).exists() and not self._is_aside(target):
                self._refuse(f"{target} would be lost.")
            return
        if target not in named:
            self._refuse(f"no episode is to be in {target}.")
        with _as_damage(source):
            if stated_frames(source) < named[target]:
                self._refuse(f"{source} has fewer frames than its episodes.")
        if (self._root / target).exists() and not self._is_aside(target):
            if target not in was_named:
                self._refuse(f"{target} is not a file that a packing replaces.")
            with _as_damage(source):
                if not continues_video(source, self._root / target):
                    self._refuse(f"{source} does not continue {target}.")

    def _is_aside(self, name: str) -> bool:
        """Whether the repair keeps a copy of a file that is deleted or replaced."""
        path = self._root / name
        if not path.exists():
            return True  # done before the crash
        with storage.storage_errors(path, "read"):
            return any(
                (place / name).is_file() and filecmp.cmp(place / name, path, shallow=False)
                for place in self._aside
            )


def _lengths(table: pa.Table) -> list[int]:
    return [int(length or 0) for length in table["length"].to_pylist()]


@contextlib.contextmanager
def _as_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except DatasetError:
        raise
    except AiorecordError as error:
        raise DatasetError(f"{path} cannot be read: {error}", path=path) from error
