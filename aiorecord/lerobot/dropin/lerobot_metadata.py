"""lerobot's metadata object, updated with each commit of aiorecord."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.io_utils import load_episodes, load_stats, load_tasks

from ...dataset.commit.writer import DatasetWriter
from ...dataset.format.info_json import DatasetInfo, write_info
from ...errors import ConfigError, StateError

_LAZY = ("tasks", "episodes", "stats")


class TrackedMetadata(LeRobotDatasetMetadata):  # type: ignore[misc]  # lerobot is not typed
    """A `LeRobotDatasetMetadata` whose values are always those of the last commit.

    `info` is changed in place, so that references to its feature dict see the changes; `tasks`, `episodes`
    and `stats` are read when they are accessed. Made from an existing object by `track`.
    """

    _writer: DatasetWriter
    _seen: int
    _stale: set[str]

    @property
    def info(self) -> Any:
        """lerobot's `DatasetInfo`."""
        self.refresh()
        return self.__dict__["info"]

    @info.setter
    def info(self, value: Any) -> None:
        self.__dict__["info"] = value

    @property
    def tasks(self) -> Any:
        """DataFrame of tasks and their numbers; None before the first episode."""
        return self._lazy("tasks", self.total_tasks > 0, load_tasks)

    @tasks.setter
    def tasks(self, value: Any) -> None:
        self._set("tasks", value)

    @property
    def episodes(self) -> Any:
        """`datasets.Dataset` of the committed episodes; None before the first one."""
        return self._lazy("episodes", self.total_episodes > 0, self._load_committed)

    @episodes.setter
    def episodes(self, value: Any) -> None:
        self._set("episodes", value)

    @property
    def stats(self) -> Any:
        """Statistics over all committed episodes; None before the first one."""
        return self._lazy("stats", self.total_episodes > 0, load_stats)

    @stats.setter
    def stats(self, value: Any) -> None:
        self._set("stats", value)

    @LeRobotDatasetMetadata.tools.setter  # type: ignore[untyped-decorator]
    def tools(self, value: list[dict[str, Any]] | None) -> None:
        def change(info: DatasetInfo) -> None:
            info.extra.pop("tools", None)
            if value:
                info.extra["tools"] = [dict(tool) for tool in value]

        self._change(change)
        self.info.tools = [dict(tool) for tool in value] if value else None

    def update_chunk_settings(
        self,
        chunks_size: int | None = None,
        data_files_size_in_mb: int | None = None,
        video_files_size_in_mb: int | None = None,
    ) -> None:
        """Change the files' sizes, on disk too; None keeps a value. Waits for a commit under way.

        Raises:
            ConfigError: a value is not positive (a ValueError, as in lerobot).
            StorageError: the disk refused.
        """
        given = {
            "chunks_size": chunks_size,
            "data_files_size_in_mb": data_files_size_in_mb,
            "video_files_size_in_mb": video_files_size_in_mb,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        for name, value in changes.items():
            if value <= 0:
                raise ConfigError(f"{name} must be positive, not {value!r}.", option=name)

        def change(info: DatasetInfo) -> None:
            for name, value in changes.items():
                setattr(info, name, value)

        self._change(change)
        for name, value in changes.items():
            setattr(self.info, name, value)

    def refresh(self) -> None:
        """Update `info` to the last commit. Every property does this."""
        committed = self._writer.total_episodes
        if committed == self._seen:
            return
        self._seen = committed
        self._stale.update(_LAZY)
        info, new = self.__dict__["info"], self._writer.info
        for name in ("total_episodes", "total_frames", "total_tasks", "splits"):
            setattr(info, name, getattr(new, name))
        for key, feature in new.features.items():
            if feature.get("info"):
                info.features[key]["info"] = feature["info"]
            elif committed:
                info.features[key].pop("info", None)

    def __getstate__(self) -> dict[str, Any]:
        raise StateError("A dataset that is being recorded cannot be pickled; finalize it first.")

    def _change(self, change: Callable[[DatasetInfo], None]) -> None:
        # lerobot's method writes the counts it knows; a commit may have increased them meanwhile.
        with self._writer.exclusive():
            info = self._writer.info
            change(info)
            write_info(self._writer.root, info)
            self._writer.rollback()  # reads it

    def _set(self, name: str, value: Any) -> None:
        self.refresh()
        self._stale.discard(name)
        self.__dict__[name] = value

    def _lazy(self, name: str, exists: bool, load: Callable[[Any], Any]) -> Any:
        if name in self._stale:
            self.__dict__[name] = load(self.root) if exists else None
            self._stale.discard(name)
        return self.__dict__[name]

    def _load_committed(self, root: Any) -> Any:
        episodes = load_episodes(root)
        total = self.total_episodes
        # An episode being committed may be in the file already, and is not counted yet.
        return episodes if len(episodes) <= total else episodes.select(range(total))


def track(meta: Any, writer: DatasetWriter) -> None:
    """Turn a `LeRobotDatasetMetadata` into a `TrackedMetadata`, in place."""
    meta.__dict__ |= {"_writer": writer, "_seen": -1, "_stale": set()}
    meta.__class__ = TrackedMetadata


def untrack(meta: Any) -> None:
    """Turn it back into lerobot's class, with everything read from disk."""
    for name in ("_writer", "_seen", "_stale"):
        del meta.__dict__[name]
    meta.__class__ = LeRobotDatasetMetadata
    meta.episodes = meta.tasks = meta.stats = None
    meta._load_metadata()
    meta.finalize()
