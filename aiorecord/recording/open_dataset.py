"""Opens a dataset to record into it or to recover it: its folder, lock, staging area and writer."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..dataset.commit.lock import DatasetLock
from ..dataset.commit.new_folder import check_free
from ..dataset.commit.writer import DatasetWriter
from ..dataset.format.info_json import read_info
from ..dataset.recovery.rebuild_info import lost_info, rebuild_info
from ..dataset.recovery.unfinished import unfinished
from ..errors import StateError
from ..features import Schema
from ..media.camera_info import continued_depth
from ..options import RecorderOptions
from ..staging.folder import Staging
from ..system.storage import storage_errors


class DatasetHome:
    """One dataset on disk while it is recorded into, or recovered. All methods block.

    Whoever opens it calls `close` last of all, when no other call needs the lock: `Threads.aclose` does so.

    Args:
        root: the dataset's folder.

    Attributes:
        staging: its staging area.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = Staging(root)
        self._lock = DatasetLock(root)
        self._writer: DatasetWriter | None = None
        self._created = False

    @property
    def is_open(self) -> bool:
        """Whether the dataset was opened; it stays true after `close`."""
        return self._writer is not None

    @property
    def writer(self) -> DatasetWriter:
        """The dataset's writer.

        Raises:
            StateError: the dataset is not open.
        """
        if self._writer is None:
            raise StateError(
                "The recorder is not open: use `async with Recorder(...)` or `await aiorecord.open`."
            )
        return self._writer

    def open(self, schema: Schema, fps: int, options: RecorderOptions) -> None:
        """Lock the dataset, and create it or continue it.

        Args:
            schema: the features.
            fps: frames per second.
            options: whether to continue, and the settings of a new dataset. When a dataset is continued, its
                depth settings replace those that were not given.

        Raises:
            DatasetLockedError: another process records into it.
            DatasetError: the folder holds other files, or a dataset that does not match.
            StorageError: the disk refused.
        """
        with storage_errors(self.root, "open"):
            self._open(schema, fps, options)
            self.writer.watch_readers()

    def open_for_recovery(self) -> list[str]:
        """Lock a dataset that exists, and continue it as it is.

        Returns:
            What an interrupted recording left unfinished, a sentence each; opening has finished it.

        Raises:
            DatasetError: there is no dataset, or one that cannot be continued.
            DatasetLockedError: another process records into it.
            StorageError: the disk refused.
        """
        lost_info(self.root)  # a missing dataset is found before the lock makes files there
        notes: list[str] = []
        if self._lock_and_rebuild():
            notes.append("meta/info.json was missing; it was rebuilt from staging")
        notes += unfinished(self.root, read_info(self.root))
        self._writer = DatasetWriter.open(self.root)
        self._writer.watch_readers()
        return notes

    def _lock_and_rebuild(self) -> bool:
        """Lock a dataset that exists; True if its ``info.json`` was lost and was rebuilt."""
        self._lock.acquire()
        return rebuild_info(self.root)

    def _open(self, schema: Schema, fps: int, options: RecorderOptions) -> None:
        exists = (self.root / "meta" / "info.json").exists()
        lost = options.resume and not exists and bool(Staging(self.root).episode_paths())
        if lost:
            lost_info(self.root)  # before the lock makes files there
        if options.resume and (exists or lost):
            self._lock_and_rebuild()
            self._writer = DatasetWriter.open(
                self.root, schema=schema, fps=fps, robot_type=options.robot_type
            )
            if self._writer.total_episodes:
                options.depth_encoder = continued_depth(
                    self.root, self._writer.info.features, schema, options.depth_encoder
                )
            return
        if not exists:
            # Refuse a foreign folder before the lock makes files in it.
            check_free(self.root)
            self._created = True
        self._lock.acquire()
        self._writer = DatasetWriter.create(
            self.root,
            fps=fps,
            schema=schema,
            robot_type=options.robot_type,
            chunks_size=options.chunks_size,
            data_files_size_in_mb=options.data_files_size_in_mb,
            video_files_size_in_mb=options.video_files_size_in_mb,
        )

    def close(self) -> None:
        """Release the dataset; a new one that got no episode is deleted. Idempotent."""
        if not self._lock.is_locked:
            return
        self.staging.tidy()
        try:
            if self._created and self._writer is not None and self._writer.total_episodes == 0:
                self._writer.remove_empty()
        finally:
            if self._writer is not None:
                self._writer.unwatch_readers()
            self._lock.release()
            if self._created:
                with contextlib.suppress(OSError):  # it holds a dataset: the usual case
                    self.root.rmdir()
