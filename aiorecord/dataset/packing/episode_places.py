"""The columns of `meta/episodes` that locate each episode, before and after a packing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import DatasetError
from ...system import storage
from ..format.episodes import EpisodesFile, location, location_columns, read_episodes
from ..format.layout import FileIndex
from .pack_plan import Group, Unit

_FRAME_TOLERANCE = 0.01


class Places:
    """The location of every episode.

    Args:
        files: all of `meta/episodes`.
        prefixes: ``data``, then ``videos/<key>`` of each camera.
    """

    def __init__(self, files: list[EpisodesFile], prefixes: list[str]) -> None:
        names = location_columns(*prefixes)
        for prefix in prefixes[1:]:
            names += [f"{prefix}/from_timestamp", f"{prefix}/to_timestamp"]
        table = read_episodes(files, ["length", *names])
        self._lengths: NDArray[Any] = table["length"].to_numpy()
        self._old: dict[str, NDArray[Any]] = {name: table[name].to_numpy() for name in names}
        self._new = {name: values.copy() for name, values in self._old.items()}

    def units(self, prefix: str, path: Callable[[FileIndex], Path]) -> list[Unit]:
        """The files of one kind, in the order of their episodes.

        Raises:
            DatasetError: a file is missing, or the files are not in the order of the episodes.
        """
        chunks, numbers = self._old[f"{prefix}/chunk_index"], self._old[f"{prefix}/file_index"]
        if not len(chunks):
            return []
        changes = np.flatnonzero((np.diff(chunks) != 0) | (np.diff(numbers) != 0)) + 1
        bounds = [0, *map(int, changes), len(chunks)]
        found: list[Unit] = []
        for first, end in pairwise(bounds):
            index = FileIndex(int(chunks[first]), int(numbers[first]))
            if found and index <= found[-1].index:
                raise DatasetError(
                    f"{path(index)} comes after a file with a higher number.", path=path(index)
                )
            found.append(Unit(index, first, end, file_size(path(index))))
        return found

    def lengths(self, units: Sequence[Unit]) -> NDArray[Any]:
        """Frames of each episode in neighbouring files."""
        return self._lengths[units[0].first : units[-1].end]

    def on_grid(self, key: str, unit: Unit, fps: int) -> bool:
        """Whether the episodes of a video file follow each other without gap or overlap, from 0."""
        ends = np.cumsum(self.lengths([unit]))
        rows = slice(unit.first, unit.end)
        starts = self._old[f"videos/{key}/from_timestamp"][rows] * fps
        stops = self._old[f"videos/{key}/to_timestamp"][rows] * fps
        off = max(np.abs(starts - (ends - self.lengths([unit]))).max(), np.abs(stops - ends).max())
        return bool(off < _FRAME_TOLERANCE)

    def move(self, prefix: str, group: Group) -> None:
        """Set the new file of a group's episodes."""
        rows = slice(group.units[0].first, group.units[-1].end)
        for name, number in location(prefix, group.target).items():
            self._new[name][rows] = number

    def lay_out(self, key: str, group: Group, lengths: NDArray[Any], fps: int) -> None:
        """Set the new file and times of episodes that follow each other in it."""
        self.move(f"videos/{key}", group)
        rows = slice(group.units[0].first, group.units[-1].end)
        ends = np.cumsum(lengths)
        self._new[f"videos/{key}/from_timestamp"][rows] = (ends - lengths) / fps
        self._new[f"videos/{key}/to_timestamp"][rows] = ends / fps

    def changed(self, unit: Unit) -> bool:
        """Whether a file of `meta/episodes` has outdated locations."""
        rows = slice(unit.first, unit.end)
        return any(not np.array_equal(self._old[n][rows], self._new[n][rows]) for n in self._old)

    def update(self, table: pa.Table, first: int, index: FileIndex) -> pa.Table:
        """Rows of `meta/episodes` from `first` on, with the new locations; `index` is their own file."""
        rows = slice(first, first + table.num_rows)
        new = {name: values[rows] for name, values in self._new.items()}
        for name, number in location("meta/episodes", index).items():
            new[name] = np.full(table.num_rows, number)
        for name, values in new.items():
            if name in table.column_names:
                position = table.column_names.index(name)
                field = table.schema.field(position)
                table = table.set_column(position, field, pa.array(values).cast(field.type))
        return table


def file_size(path: Path) -> int:
    """Bytes in a file."""
    with storage.storage_errors(path, "read"):
        return path.stat().st_size
