"""Merges the small files of single commits into files of lerobot's sizes ("packing").

Works in rounds, each with one output file per camera and one data file, so that it needs little free space
and can be interrupted between any two rounds; each round is journaled, see `pack_journal`. Videos are joined
by stream copy; Parquet keeps one row group per episode. Replaced videos stay for a while where readers may
need them, see `replaced_videos`.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...errors import DatasetError, EncodeError, StorageError
from ...media.evidence import joined
from ...media.remux import concat_videos, same_stream
from ...media.video_file import read_evidence as read_video_evidence
from ...system import storage
from ..commit.writer import DatasetWriter
from ..exchange.pack_evidence import Journal
from ..exchange.pack_journal import begin, decide, roll_forward
from ..exchange.replaced_videos import newest_packed, read_replaced, release
from ..format import layout
from ..format.episodes import (
    EpisodesFile,
    episode_files,
    location_prefixes,
    read_ids,
    read_schema,
    with_ids,
)
from ..format.layout import FileIndex
from ..format.numbered_files import link_or_copy, supports_links
from ..format.reader_limits import is_readable_at
from ..format.tables import (
    as_schema,
    data_schema,
    open_table,
    parquet_writer,
    read_evidence,
    read_table,
    stored_type,
    with_evidence,
    write_row_group,
)
from .episode_places import Places, file_size
from .pack_plan import Group, Unit, highest, plan_groups

_SPARE_BYTES = 16 * layout.MEGABYTE
_ROWS_PER_GROUP = 1000


@dataclass
class PackResult:
    """The result of a packing.

    Attributes:
        data_files: data files written.
        video_files: video files written, of all cameras.
        merged_files: merged files of single commits (and small packed ones).
        bytes: bytes written.
        rounds: number of journaled rounds.
    """

    data_files: int = 0
    video_files: int = 0
    merged_files: int = 0
    bytes: int = 0
    rounds: int = 0


def pack(writer: DatasetWriter, progress: Callable[[int, int], None] | None = None) -> PackResult:
    """Merge every file that a commit wrote into lerobot's layout. Blocking; commits wait meanwhile.

    If it is interrupted or killed at any point, the dataset is valid after `DatasetWriter.open`. Readers find
    it valid before that too, except between two renames where folders cannot be swapped.

    Args:
        writer: the dataset.
        progress: called between rounds with the bytes done and the bytes in all.

    Raises:
        DatasetError: the dataset is damaged, or its folders cannot be replaced.
        StorageError: the disk refused, or has too little space for a round.
    """
    result = PackResult()
    with writer.exclusive():
        one_by_one = supports_links(writer.root)
        total: int | None = None
        while True:
            step = _Round(writer, result)
            left = step.loose_bytes
            total = left if total is None else total
            if progress is not None:
                progress(total - left, total)
            if not step.has_loose:
                return result
            # Without hard links a round copies all data files, so there is only one.
            step.run(1 if one_by_one else None)
            result.rounds += 1


class _Round:
    """One round: reads the locations, prepares the new files, writes the journal, carries it out."""

    def __init__(self, writer: DatasetWriter, result: PackResult) -> None:
        self._root, self._info, self._result = writer.root, writer.info, result
        self._readers = writer.readers
        self._kept = read_replaced(self._root)
        self._chunks_size = self._info.chunks_size
        self._keys = list(writer.schema.videos)
        self._files = episode_files(self._root)
        self._places = Places(self._files, location_prefixes(self._keys))
        self._data = self._places.units("data", lambda index: self._root / layout.data_path(index))
        self._videos = {
            key: self._places.units(f"videos/{key}", functools.partial(self._video, key))
            for key in self._keys
        }
        self._episodes = [
            Unit(file.index, file.first, file.end, file_size(file.path)) for file in self._files
        ]
        self._journal = Journal(secrets.token_hex(4))
        self._folder = self._root

    @property
    def has_loose(self) -> bool:
        """Whether any file is left to pack."""
        return any(unit.index.is_loose for unit in self._all_units())

    @property
    def loose_bytes(self) -> int:
        """Size of the files that are left to pack."""
        return sum(unit.size for unit in self._all_units() if unit.index.is_loose)

    def run(self, groups: int | None) -> None:
        """Pack the first `groups` files of each kind; None packs all."""
        videos = {key: list(islice(self._plan_videos(key), groups)) for key in self._keys}
        data = list(islice(self._plan_data(), groups))
        episodes = list(self._plan_episodes())
        planned = [group for found in [*videos.values(), data, episodes] for group in found]
        needed = sum(group.size for group in planned) + _SPARE_BYTES
        if self._kept and storage.free_bytes(self._root) < needed:
            release(self._root, self._info, 0)  # recording has priority over readers
        if storage.free_bytes(self._root) < needed:
            raise StorageError(
                f"Packing {self._root} needs {needed // layout.MEGABYTE} MB of free space for a moment.",
                path=self._root,
            )
        self._folder = begin(self._root)
        with storage.storage_errors(self._folder, "write into"):
            for key, found in videos.items():
                for group in found:
                    if not self._join_videos(key, group):
                        break  # the other groups were planned for another state
            if data:
                self._join_data(data)
            self._write_episodes(episodes)
            storage.fsync_folders(self._folder)
        self._journal.watched = self._readers is not None and self._readers.are_expected
        decide(self._root, self._journal)
        roll_forward(self._root, self._journal, self._readers)

    def _all_units(self) -> Iterator[Unit]:
        yield from self._data
        yield from self._episodes
        for units in self._videos.values():
            yield from units

    def _video(self, key: str, index: FileIndex) -> Path:
        return self._root / layout.video_path(key, index)

    def _taken(self, key: str) -> FileIndex | None:
        """The highest number of a kept packed video: its name is not reused."""
        return newest_packed(self._kept, key)

    def _plan_videos(self, key: str) -> Iterator[Group]:
        @functools.cache
        def joinable(a: Unit, b: Unit) -> bool:
            # Only files whose frames match meta/episodes and the k/fps grid can be moved.
            exact = all(self._places.on_grid(key, unit, self._info.fps) for unit in (a, b))
            return exact and same_stream(self._video(key, a.index), self._video(key, b.index))

        def readable(before: Sequence[Unit], unit: Unit) -> bool:
            start = int(self._places.lengths(before).sum()) if before else 0
            for length in map(int, self._places.lengths([unit])):
                if not is_readable_at(start, length, self._info.fps):
                    return False
                start += length
            return True

        limit = round(self._info.video_files_size_in_mb * layout.MEGABYTE)
        return plan_groups(
            self._videos[key],
            limit=limit,
            chunks_size=self._chunks_size,
            joinable=joinable,
            fits_after=readable,
            taken=self._taken(key),
            # lerobot keeps decoders by file name. If an undetected reader knows the old file, it finds its
            # episodes in the new file too, which begins with the content of the old one.
            new_names=self._readers is not None and self._readers.are_expected,
        )

    def _plan_data(self) -> Iterator[Group]:
        schema = data_schema(self._info.features)

        @functools.cache
        def is_sound(unit: Unit) -> bool:
            """Whether a file may be merged with others: a damaged one must not spoil them."""
            path = self._root / layout.data_path(unit.index)
            with open_table(path) as file:
                same = _storage_types(file.schema_arrow) == _storage_types(schema)
                return same and not _has_nulls(file.metadata)

        limit = round(self._info.data_files_size_in_mb * layout.MEGABYTE)
        return plan_groups(
            self._data,
            limit=limit,
            chunks_size=self._chunks_size,
            joinable=lambda a, b: is_sound(a) and is_sound(b),
        )

    def _plan_episodes(self) -> Iterator[Group]:
        @functools.cache
        def schema(unit: Unit) -> pa.Schema:
            return read_schema(self._root / layout.episodes_path(unit.index))

        limit = round(self._info.data_files_size_in_mb * layout.MEGABYTE)
        return plan_groups(
            self._episodes,
            limit=limit,
            chunks_size=self._chunks_size,
            joinable=lambda a, b: schema(a).equals(schema(b)),
        )

    def _join_videos(self, key: str, group: Group) -> bool:
        """Write one packed video; returns whether it holds the whole group."""
        whole = True
        source = f"videos/{key}-{group.units[0].first}.mp4"
        output = self._folder / source
        output.parent.mkdir(exist_ok=True)
        if len(group.units) > 1:
            lengths = self._places.lengths(group.units)
            paths = [self._video(key, unit.index) for unit in group.units]
            try:
                counts = [int(self._places.lengths([unit]).sum()) for unit in group.units]
                parts = [(read_video_evidence(path), n) for path, n in zip(paths, counts, strict=True)]
                frames = concat_videos(paths, output, self._info.fps, joined(parts, key))
            except EncodeError:
                frames = -1
            if frames == lengths.sum():
                self._places.lay_out(key, group, lengths, self._info.fps)
            else:
                # A file does not match its metadata, which happens only with files of other programs. Take
                # one at a time: a file that is only renamed stays correct.
                output.unlink(missing_ok=True)
                packed = [unit.index for unit in self._videos[key] if not unit.index.is_loose]
                last = highest(packed[-1] if packed else None, self._taken(key))
                group, whole = group.first_alone(last, self._chunks_size), False
        if len(group.units) == 1:
            link_or_copy(self._video(key, group.units[0].index), output)
            self._places.move(f"videos/{key}", group)
        self._journal.moves[source] = layout.video_path(key, group.target)
        old = [layout.video_path(key, unit.index) for unit in group.units if unit.index != group.target]
        self._journal.removed += old
        self._result.video_files += 1
        self._count(group, output)
        return whole

    def _join_data(self, groups: Sequence[Group]) -> None:
        schema = data_schema(self._info.features)
        new, current = self._folder / "data", self._root / layout.DATA_FOLDER
        merged = {layout.data_path(unit.index) for group in groups for unit in group.units}
        _link_tree(current, new, {self._root / path for path in merged})
        for group in groups:
            self._places.move("data", group)
            target = new / Path(layout.data_path(group.target)).relative_to(layout.DATA_FOLDER)
            target.parent.mkdir(parents=True, exist_ok=True)
            paths = [self._root / layout.data_path(unit.index) for unit in group.units]
            if len(paths) == 1:
                link_or_copy(paths[0], target)
            else:
                counts = [int(self._places.lengths([unit]).sum()) for unit in group.units]
                evidence = joined((read_evidence(p), n) for p, n in zip(paths, counts, strict=True))
                with parquet_writer(target, with_evidence(schema, evidence)) as out:
                    for path, unit in zip(paths, group.units, strict=True):
                        for table in _episode_tables(path, self._places.lengths([unit])):
                            write_row_group(out, as_schema(table, schema))
            self._result.data_files += 1
            self._count(group, target)
        self._journal.folders["data"] = layout.DATA_FOLDER

    def _write_episodes(self, groups: Sequence[Group]) -> None:
        """Make the new `meta/episodes`: merged, with the new locations."""
        by_first = {file.first: file for file in self._files}
        target_of = {unit.first: group for group in groups for unit in group.units}
        new, current = self._folder / "episodes", self._root / layout.EPISODES_FOLDER
        _link_tree(current, new, {file.path for file in self._files})
        for unit in self._episodes:
            group = target_of.get(unit.first, Group(unit.index, (unit,)))
            if group.units[0] is not unit:
                continue
            files = [by_first[member.first] for member in group.units]
            target = new / Path(layout.episodes_path(group.target)).relative_to(layout.EPISODES_FOLDER)
            target.parent.mkdir(parents=True, exist_ok=True)
            if unit.index == group.target and len(files) == 1 and not self._places.changed(unit):
                link_or_copy(files[0].path, target)
            else:
                self._rewrite_episodes(files, target, group.target)
                storage.fsync_file(target)
                self._result.bytes += file_size(target)
        self._journal.folders["episodes"] = layout.EPISODES_FOLDER

    def _rewrite_episodes(self, files: list[EpisodesFile], target: Path, index: FileIndex) -> None:
        ids = {n: id_ for file in files for n, id_ in read_ids(file.path).items()}
        schema = with_ids(read_schema(files[0].path), ids)
        pending: list[pa.Table] = []
        with parquet_writer(target, schema) as out:
            for file in files:
                table = self._places.update(read_table(file.path), file.first, index)
                pending.append(as_schema(table, schema))
                if file is files[-1] or sum(part.num_rows for part in pending) >= _ROWS_PER_GROUP:
                    write_row_group(out, pa.concat_tables(pending).combine_chunks())
                    pending.clear()

    def _count(self, group: Group, output: Path) -> None:
        self._result.merged_files += len(group.units)
        if len(group.units) > 1:
            storage.fsync_file(output)
            self._result.bytes += file_size(output)


def _episode_tables(path: Path, lengths: NDArray[Any]) -> Iterator[pa.Table]:
    """A data file's episodes one by one, independent of its row groups."""
    with open_table(path) as file:
        if file.metadata.num_rows != lengths.sum():
            raise DatasetError(
                f"{path} holds {file.metadata.num_rows} rows, meta/episodes says {lengths.sum()}.", path=path
            )
        groups = iter(range(file.num_row_groups))
        pending: list[pa.Table] = []
        for length in map(int, lengths):
            while sum(table.num_rows for table in pending) < length:
                pending.append(file.read_row_group(next(groups)))
            table = pending[0] if len(pending) == 1 else pa.concat_tables(pending)
            yield table.slice(0, length)
            pending = [table.slice(length)] if table.num_rows > length else []


def _link_tree(source: Path, target: Path, leave_out: set[Path]) -> None:
    """Make a second folder with the same files, except some. Its folders are not made durable."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        if path.is_file() and path not in leave_out:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, copy)


def _has_nulls(metadata: pq.FileMetaData) -> bool:
    """Whether a data file has missing values, which no episode has."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for number in range(group.num_columns):
            statistics = group.column(number).statistics
            if statistics is not None and statistics.null_count:
                return True
    return False


def _storage_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Column types; those that `datasets` registers are replaced by their storage types."""
    return {field.name: stored_type(field.type) for field in schema}
