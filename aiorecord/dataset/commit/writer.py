"""Commits encoded episodes to a dataset, all or nothing.

Steps of a commit, each durable before the next: the intent in staging, the data file, the videos, new tasks,
the row in `meta/episodes`, the statistics, the line of the quality record, and last `info.json`, which makes
the episode count. A reader finds a valid dataset between any two steps, because it ignores everything that
`info.json` does not count.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...encoding.encoded import file_crc
from ...encoding.stats import FeatureStats, aggregate, to_json
from ...errors import AiorecordError, StateError
from ...features import Schema
from ...media.evidence import ensure_dataset_id, read_dataset_id
from ...printable import get_logger
from ...staging.folder import EpisodeFolder, Staging
from ...staging.sealed_json import write_sealed
from ...system import storage
from ..exchange.other_readers import ReaderWatch
from ..exchange.pack_journal import is_decided, roll_forward
from ..exchange.replaced_videos import is_due, read_replaced, release
from ..format import layout, quality_log
from ..format.episodes import EpisodeLog, episode_row, episodes_schema, location_prefixes, read_schema
from ..format.info_json import DatasetInfo, check_continues, new_info, read_info, write_info
from ..format.layout import FileIndex
from ..format.links import check_links, damage_errors
from ..format.numbered_files import link_or_copy
from ..format.tables import read_evidence, read_tasks, with_evidence, write_table, write_tasks
from .already_committed import check_committed, committed_index, span_of
from .assemble import Assembled, assemble, check_episode, evidence
from .new_folder import check_free
from .rollback import counted_files, last_locations, read_stats, rollback

if TYPE_CHECKING:
    from ...encoding.encoded import EncodedCamera, EncodedEpisode

logger = get_logger(__name__)


@dataclass(frozen=True)
class CommittedEpisode:
    """An episode that is in the dataset.

    Attributes:
        episode_index: its index.
        length: frames.
        from_index: dataset-wide index of its first frame.
        to_index: one more than that of its last frame.
        bytes: size of its data and video files.
        flags: the limits it exceeded, as in the quality record; None if it had been committed before.
    """

    episode_index: int
    length: int
    from_index: int
    to_index: int
    bytes: int
    flags: list[str] | None = None


class DatasetWriter:
    """Appends episodes to a LeRobotDataset v3.0. Made by `create` or `open`.

    The caller holds the dataset's `DatasetLock` for as long as the writer is used. All methods block; they
    may be called from any thread, and wait for each other. The cost of a commit does not depend on how many
    episodes came before.

    Attributes:
        root: the dataset's root folder.
        readers: watches other programs that read the dataset; None before `watch_readers`.
    """

    def __init__(self, root: Path, info: DatasetInfo) -> None:
        self.root = root
        self._mutex = threading.RLock()
        self._info = info
        self._read = self._identity()
        self.readers: ReaderWatch | None = None
        self._load()

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        fps: int,
        schema: Schema,
        robot_type: str | None = None,
        chunks_size: int | None = None,
        data_files_size_in_mb: int | float | None = None,
        video_files_size_in_mb: int | float | None = None,
    ) -> DatasetWriter:
        """Make a dataset without episodes.

        Args:
            root: a folder that does not exist or is empty.
            chunks_size: files per folder, at most 1000 (the default).
            data_files_size_in_mb: size at which packing ends a data file, default 100.
            video_files_size_in_mb: size at which packing ends a video file, default 200.

        Raises:
            ConfigError: a setting is unusable; nothing was written.
            DatasetError: the folder is not free, see `check_free`.
        """
        settings = {
            "chunks_size": chunks_size,
            "data_files_size_in_mb": data_files_size_in_mb,
            "video_files_size_in_mb": video_files_size_in_mb,
        }
        given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
        info = new_info(schema, fps=fps, robot_type=robot_type, **given)
        check_free(root)
        write_info(root, info)
        ensure_dataset_id(root)
        return cls(root, info)

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        schema: Schema | None = None,
        fps: int | None = None,
        robot_type: str | None = None,
    ) -> DatasetWriter:
        """Continue a dataset that aiorecord or lerobot wrote, after undoing what a crash left.

        An interrupted packing is finished first, then `rollback` removes what info.json does not count.
        Features, rate and robot must be the dataset's; None skips a check.

        Raises:
            DatasetError: no dataset, a damaged one, or one that does not match; every difference is listed.
        """
        info = read_info(root)
        check_continues(root, info, schema=schema, fps=fps, robot_type=robot_type)
        with damage_errors(root):
            check_links(root)
            roll_forward(root)
            rollback(root, info)
            writer = cls(root, info)
            if schema is not None:  # videos are encoded before the commit, and store the dataset's id too
                ensure_dataset_id(root, writer._known_id())
            return writer

    @property
    def info(self) -> DatasetInfo:
        """The content of info.json. A copy."""
        return copy.deepcopy(self._info)

    @property
    def schema(self) -> Schema:
        """The features, without the default columns."""
        return self._schema

    @property
    def total_episodes(self) -> int:
        """Committed episodes."""
        return self._info.total_episodes

    @property
    def total_frames(self) -> int:
        """Committed frames."""
        return self._info.total_frames

    def watch_readers(self) -> None:
        """From now on take account of other programs that read the dataset.

        Packing waits for a moment in which they open no tables. Replaced videos that they may need stay for
        at least `other_readers.GRACE_S` seconds, until the next commit, packing or opening.
        """
        with self._mutex:
            self.unwatch_readers()
            # Videos are kept for a reader that may still be there.
            self.readers = ReaderWatch(self.root, expected=bool(self._replaced))

    def unwatch_readers(self) -> None:
        """Stop watching; videos that are packed afterwards are kept for readers. Idempotent."""
        with self._mutex:
            if self.readers is not None:
                self.readers.close()

    def rollback(self) -> list[Path]:
        """Remove what info.json does not count, such as the files of a failed commit; finish a packing.

        Everything is read from disk again (info.json only if it changed).

        Returns:
            The files that were removed or rewritten.
        """
        with self._mutex, storage.storage_errors(self.root, "roll back"):
            self._stale = True
            if is_decided(self.root) or self._read is None or self._identity() != self._read:
                with self.readers.ignoring() if self.readers is not None else contextlib.nullcontext():
                    roll_forward(self.root)
                    self._info, self._read = read_info(self.root), self._identity()
            else:
                roll_forward(self.root)
            changed = rollback(self.root, self._info)
            self._load()
            return changed

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Block commits while the files on disk are rearranged; afterwards everything is read again.

        When the block begins, the dataset holds only what info.json counts.
        """
        with self._mutex:
            self.rollback()
            with self._cleaning_up(), storage.storage_errors(self.root, "rearrange"):
                yield
            self._load()

    def is_committed(self, folder: EpisodeFolder) -> int | None:
        """The episode's index if it is in the dataset already, else None; see `committed_index`."""
        with self._mutex:
            self._refresh()
            return committed_index(self.root, self._info.total_episodes, folder)

    def remove_empty(self) -> None:
        """Delete the metadata of a dataset without episodes, unless some wait in staging.

        Raises:
            StateError: there are episodes.
        """
        with self._mutex:
            if self.total_episodes:
                raise StateError(f"{self.root} holds {self.total_episodes} episodes; it is not removed.")
            if Staging(self.root).episode_paths():
                return
            self.rollback()
            for name in layout.TOPS:
                storage.remove_tree(self.root / name)

    def commit(
        self,
        folder: EpisodeFolder,
        encoded: EncodedEpisode,
        saving: Mapping[str, float | None] | None = None,
    ) -> CommittedEpisode:
        """Append one episode. Committing it again changes nothing.

        When it fails, the dataset is unchanged and the episode can be committed later. Files that do not
        count are removed; if the disk refuses that too, they are removed before the next commit or at `open`.

        Args:
            folder: a complete episode. It is left in place, for the caller to delete.
            encoded: its cameras; files inside the folder.
            saving: seconds from the episode's end to the stages of its save, for the quality record.

        Returns:
            Where it is now. The size is 0 when it had been committed before.

        Raises:
            StateError: the episode is not complete.
            DatasetError: it has no rows, fewer than it should, or does not fit the dataset.
            EncodeError: a camera is missing or does not have a frame for every row.
        """
        with self._mutex, storage.storage_errors(self.root, "commit an episode to"):
            index = self.is_committed(folder)
            if index is not None:
                check_committed(self.root, index, folder)  # the caller deletes it now
                from_index, to_index = span_of(self.root, index)
                return CommittedEpisode(index, to_index - from_index, from_index, to_index, 0)
            check_episode(self.root, self._info, folder, encoded)
            parts = assemble(self._info, self._tasks, folder, encoded)
            with self._cleaning_up():
                return self._write(folder, encoded, parts, saving)

    @contextlib.contextmanager
    def _cleaning_up(self) -> Iterator[None]:
        """If the block fails, remove what info.json does not count: now, or else before the next use."""
        try:
            yield
        except BaseException as error:
            self._stale = True  # there may be uncounted files; even info.json may be new
            if isinstance(error, Exception):
                try:
                    self.rollback()
                except AiorecordError as problem:
                    error.add_note(f"Its leftovers could not be removed yet: {problem}")
            raise

    def _refresh(self) -> None:
        """After a failure, read the state on disk again before anything is added to it."""
        if self._stale:
            self.rollback()

    def _load(self) -> None:
        """Read the state that commits append to. The dataset must hold only what info.json counts."""
        info = self._info
        files = counted_files(self.root, info)
        self._schema = info.schema()
        self._tasks = read_tasks(self.root)
        self._stats: dict[str, FeatureStats] = (read_stats(self.root) or {}) if files else {}
        self._last: dict[str, FileIndex] = last_locations(files, info)
        self._replaced = read_replaced(self.root)
        self._release_expired()
        schema = read_schema(files[-1].path) if files else episodes_schema(info.features)
        last = files[-1].index if files else None
        self._log = EpisodeLog(self.root, schema, last, info.total_episodes)
        self._stale = False

    def _identity(self) -> tuple[int, int, int] | None:
        """The identity of info.json: if unchanged, it is not opened, which would look like a reader."""
        try:
            status = (self.root / layout.INFO_PATH).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _release_expired(self) -> None:
        """Delete the files that packing replaced, once they have been kept for long enough."""
        try:
            with storage.storage_errors(self.root, "read"):
                if is_due(self.root, self._replaced):
                    self._replaced = release(self.root, self._info)
        except AiorecordError as error:  # it may stay; the next use tries again
            logger.warning("Replaced videos of %s could not be deleted yet: %s", self.root, error)

    def _write(
        self,
        folder: EpisodeFolder,
        encoded: EncodedEpisode,
        parts: Assembled,
        saving: Mapping[str, float | None] | None,
    ) -> CommittedEpisode:
        info, index, length = parts.info, self.total_episodes, parts.length
        from_index, to_index = self.total_frames, info.total_frames
        prefixes = location_prefixes(self._schema.videos)
        places = {prefix: layout.next_loose(self._last.get(prefix), index) for prefix in prefixes}
        row = episode_row(
            index,
            parts.episode_tasks,
            length=length,
            first=from_index,
            places={**places, "meta/episodes": self._log.index},
            seconds=dict.fromkeys(self._schema.videos, (0.0, length / info.fps)),
            stats=parts.stats,
        )
        stats = aggregate([self._stats, parts.stats]) if self._stats else parts.stats

        intent = {"episode_index": index, "from_index": from_index, "length": length}
        write_sealed(folder.path / EpisodeFolder.COMMIT, intent)
        described = evidence(folder, parts, ensure_dataset_id(self.root, self._known_id()))
        table = parts.table.cast(with_evidence(parts.table.schema, described))
        data = self.root / layout.data_path(places["data"])
        with storage.replacing(data) as temporary:
            write_table(temporary, table)
        size = data.stat().st_size
        for key in self._schema.videos:
            target = self.root / layout.video_path(key, places[f"videos/{key}"])
            size += self._add_video(folder.path / encoded.cameras[key].file, target, encoded.cameras[key])
        if len(parts.tasks) > len(self._tasks):
            write_tasks(self.root, parts.tasks)
        self._log.write(row, folder.id)
        storage.write_json(self.root / layout.STATS_PATH, to_json(stats))
        quality = quality_log.describe(
            folder,
            encoded,
            episode_index=index,
            tasks=parts.episode_tasks,
            times_ns=parts.times_ns,
            saving=saving,
        )
        quality_log.append(self.root, quality)
        write_info(self.root, info)

        self._log.accept()
        self._info, self._tasks, self._stats, self._last = info, parts.tasks, stats, places
        self._read = self._identity()
        self._release_expired()
        return CommittedEpisode(index, length, from_index, to_index, size, quality.flags)

    def _known_id(self) -> str | None:
        """The dataset's id, from its newest data file."""
        if read_dataset_id(self.root) is not None or "data" not in self._last:
            return None
        stored = read_evidence(self.root / layout.data_path(self._last["data"]))
        return stored.episodes[-1].dataset if stored is not None and stored.episodes else None

    def _add_video(self, source: Path, target: Path, camera: EncodedCamera) -> int:
        with storage.replacing(target) as temporary:
            link_or_copy(source, temporary)
            if not os.path.samefile(source, temporary):  # a copy, on a filesystem without links
                camera.check(temporary, file_crc(temporary))
        return target.stat().st_size
