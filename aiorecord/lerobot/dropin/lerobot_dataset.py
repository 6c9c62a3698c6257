"""A `LeRobotDataset` that writes through aiorecord, for scripts that stay synchronous."""

from __future__ import annotations

import glob
import inspect
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from lerobot.datasets import LeRobotDataset

from ...dataset.exchange.replaced_videos import RECORD, replaced_names
from ...dataset.format.own_files import OwnFiles
from ...errors import StateError
from ...printable import get_logger
from ...staging.folder import STAGING_FOLDER
from ...system.storage import remove_tree
from ...system.threads import run_in_thread
from .attach import becomes, replace_writer
from .dataset_writer import AsyncDatasetWriter
from .sync_saver import IDLE_STATUS, AsyncEpisodeSaver

logger = get_logger(__name__)

VISIBLE_FILES = "[!.]*"
"""Matches every path that does not begin with a dot: a dataset without its staging area."""


@becomes
class AsyncLeRobotDataset(LeRobotDataset):  # type: ignore[misc]  # lerobot is not typed
    """A `LeRobotDataset` that saves through aiorecord. See lerobot for everything not described here.

    Frames are captured losslessly to disk as they come; `save_episode` returns when the episode is committed,
    `save_episode_async` at once. After each commit the dataset on disk can be read; a killed program loses no
    saved episode, and `resume` finishes the rest.

    ::

        dataset = AsyncLeRobotDataset.create(repo_id, fps, features, root=...)
        dataset.enable_async_saving(max_queue_size=5, save_timeout=180.0)
        for _ in range(episodes):
            ...
            dataset.add_frame(frame)
            ...
            if not dataset.save_episode_async():
                dataset.save_episode()
        dataset.finalize()

    Attributes:
        writer: an `AsyncDatasetWriter`; None when the dataset is read-only.
    """

    meta: Any
    reader: Any
    root: Path
    writer: AsyncDatasetWriter | None

    resume_waits = True
    """Whether `resume` returns only when the episodes of an interrupted recording are committed, so that
    `num_episodes` counts them."""

    recorder_options: ClassVar[Mapping[str, Any]] = {}
    """Options of `Recorder` that `create` and `resume` use, such as ``encode_workers``."""

    _saver: AsyncEpisodeSaver | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.writer is not None:  # lerobot makes one for deprecated arguments
            replace_writer(self, **self.recorder_options)

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> Self:
        """Create a new dataset, as in lerobot.

        ``image_writer_*``, ``batch_encoding_size``, ``metadata_buffer_size``, ``streaming_encoding`` and
        ``encoder_queue_maxsize`` are accepted and have no effect.

        Raises:
            ValueError: invalid features or settings.
            FileExistsError: the folder exists.
            CodecUnavailableError: a codec cannot be opened as configured; nothing is left on disk.
            StorageError: the disk refused.
        """
        arguments, image_writer = _split_image_writer(super().create, args, kwargs)
        dataset = cast(Self, super().create(**arguments))
        try:
            cls._take_over(dataset, image_writer)
        except BaseException:
            remove_tree(dataset.root)
            raise
        return dataset

    @classmethod
    def resume(cls, *args: Any, **kwargs: Any) -> Self:
        """Continue an existing dataset, as in lerobot; see `create` for arguments without effect.

        Episodes that an interrupted recording left in staging are saved first.

        Raises:
            ValueError: no root, or features that cannot be recorded.
            DatasetLockedError: another process, or another object of this one, records into it.
            DatasetError: it is damaged.
            CodecUnavailableError: a codec cannot be opened as configured.
            StorageError: the disk refused.
        """
        arguments, image_writer = _split_image_writer(super().resume, args, kwargs)
        dataset = cast(Self, super().resume(**arguments))
        writer = cls._take_over(dataset, image_writer)
        left = writer.portal.ask(lambda: len(writer.recorder.saver.pending))
        if left and cls.resume_waits:
            logger.info("Saving %d episodes of an interrupted recording.", left)
            writer.flush_pending_videos()
        return dataset

    def enable_async_saving(self, max_queue_size: int = 10, save_timeout: float | None = 300.0) -> None:
        """Enable `save_episode_async`, and let aiorecord write the dataset if lerobot does.

        Saves under way are finished first; counts are reset.

        Args:
            max_queue_size: as in `AsyncEpisodeSaver`.
            save_timeout: likewise.

        Raises:
            ConfigError: a size or time is invalid.
            StateError: the dataset is read-only, or finalized.
        """
        saver = _saver_of(self)
        if (
            saver is not None
            and saver.running
            and (saver.max_queue_size, saver.save_timeout) == (max_queue_size, save_timeout)
        ):
            logger.warning("Asynchronous saving is enabled already.")
            return
        self._saver = AsyncEpisodeSaver(self, max_queue_size, save_timeout)

    def save_episode_async(self, episode_buffer: Mapping[str, Any] | None = None, priority: int = 0) -> bool:
        """Save the running episode in the background. Returns within milliseconds.

        The next frame belongs to the next episode. Episodes get their indices in the order of saving, those
        of higher priority first. If asynchronous saving is not enabled, the episode is saved in the
        foreground, as by `save_episode`.

        Args:
            episode_buffer: the running buffer, a copy of it, or a buffer with all its data, which then
                must not be changed until the save is done; None is the running one.
            priority: of the episodes that wait, higher ones are encoded and committed first.

        Returns:
            False if the queue is full: then call `save_episode`. Otherwise the episode will be saved.

        Raises:
            ValueError: the buffer is empty, or does not fit the features; the priority is no whole number.
            NotImplementedError: the buffer was made for another episode index.
            LostImageError: an image of the episode could not be stored.
            StateError: the dataset is read-only or finalized, or the buffer was saved before.
        """
        writer_of(self, "save_episode_async")
        saver = _saver_of(self)
        if saver is None or not saver.running:
            logger.warning(
                "Asynchronous saving is not enabled, the episode is saved in the foreground: call "
                "enable_async_saving() first."
            )
            self.save_episode(episode_buffer)
            return True
        return saver.submit_episode(episode_buffer, priority=priority)

    def get_async_save_status(self) -> dict[str, Any]:
        """Counts and health of the saver, JSON-ready.

        Returns:
            ``is_running``, ``total_submitted``, ``total_completed``, ``total_failed``, ``queue_size``,
            ``pending_tasks``, ``last_error``, ``worker_alive``, ``async_saving_enabled``. Saves in the
            foreground are counted too.
        """
        saver = _saver_of(self)
        status = IDLE_STATUS if saver is None else saver.get_status()
        return status | {"async_saving_enabled": status["is_running"]}

    def wait_for_async_saves(self, timeout: float | None = None) -> bool:
        """Wait until no save is pending.

        Args:
            timeout: wait at most this many seconds.

        Returns:
            True if all are done, False if the time was over first.
        """
        saver = _saver_of(self)
        return saver is None or saver.wait_for_completion(timeout)

    def get_async_save_results(self) -> list[dict[str, Any]]:
        """Results of finished saves since the last call, successful or not, oldest first.

        Returns:
            The fields of `EpisodeSaveResult`, and the proposal's names for two of them: ``error_message`` for
            ``error``, and ``save_time`` for ``duration_s``.
        """
        saver = _saver_of(self)
        results = [] if saver is None else saver.get_results()
        return [
            {**result.as_dict(), "error_message": result.error_message, "save_time": result.save_time}
            for result in results
        ]

    def disable_async_saving(self, wait_for_completion: bool = True, timeout: float | None = None) -> None:
        """Accept no more asynchronous saves. Pending ones are finished in any case; see the status.

        Args:
            wait_for_completion: return when they are done; otherwise they go on in the background.
            timeout: wait at most this many seconds.
        """
        saver = _saver_of(self)
        if saver is not None:
            saver.stop(wait_for_completion, timeout)

    async def asave_episode(self, episode_data: Mapping[str, Any] | None = None) -> None:
        """`save_episode` for asyncio. Cancelling it ends the waiting; the save goes on.

        Raises:
            Exception: as raised by `save_episode`.
        """
        await writer_of(self, "asave_episode").asave_episode(episode_data)

    async def await_async_saves(self, timeout: float | None = None) -> bool:
        """`wait_for_async_saves` for asyncio. Cancelling it ends the waiting; the saves go on."""
        writer = self.writer
        if self._saver is None or writer is None or writer.is_finalized:
            return True
        done: bool = await writer.portal.acall(writer.recorder.core.drain, timeout)
        return done

    async def aclose(self) -> None:
        """`finalize` for asyncio. Cancelling it does not stop it; the cancellation is raised afterwards.

        Raises:
            Exception: as raised by `finalize`.
        """
        await run_in_thread(self.finalize)

    @property
    def episode_buffer(self) -> dict[str, Any] | None:
        """The running episode; None when the dataset is read-only."""
        return None if self.writer is None else self.writer.episode_buffer

    def create_episode_buffer(self, episode_index: int | None = None) -> dict[str, Any]:
        """An empty buffer, to be filled and passed in.

        Args:
            episode_index: default is the index of the next episode.

        Raises:
            StateError: the dataset is read-only.
        """
        return dict(writer_of(self, "create_episode_buffer")._create_episode_buffer(episode_index))

    def finalize(self) -> None:
        """Commit what is pending, pack the files, release the dataset; it can be read then. Idempotent.

        See `AsyncDatasetWriter.finalize`.

        Raises:
            AiorecordError: the packing failed; everything is committed and closed all the same.
        """
        recorded = self.writer is not None and not self.writer.is_finalized
        super().finalize()
        if recorded and self.episodes is None:
            self.reader = None  # the loaded data is incomplete by now

    def push_to_hub(self, *args: Any, **kwargs: Any) -> None:
        """Upload the dataset as lerobot does, but only committed episodes, and nothing through a link.

        The staging area and videos that packing has replaced are left out.

        Raises:
            DatasetError: the dataset's folder holds a link, a pipe or a device: lerobot would send data from
                elsewhere.
        """
        with OwnFiles(Path(self.root)) as own:
            own.check(STAGING_FOLDER, "images")
        parent = super().push_to_hub
        bound = inspect.signature(parent).bind(*args, **kwargs)
        patterns = bound.arguments.get("allow_patterns")
        replaced = replaced_names(Path(self.root))
        if patterns is None and not replaced:
            bound.arguments["allow_patterns"] = VISIBLE_FILES
        elif replaced or (self.root / STAGING_FOLDER).exists():
            wanted = [patterns] if isinstance(patterns, str) else list(patterns or [VISIBLE_FILES])
            wanted = [pattern + "*" if pattern.endswith("/") else pattern for pattern in wanted]
            paths = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
            left_out = {*replaced, RECORD} if replaced else set()
            visible = [
                name
                for path in paths
                if path.parts[0] != STAGING_FOLDER and (name := path.as_posix()) not in left_out
            ]
            bound.arguments["allow_patterns"] = [
                glob.escape(path) for path in visible if any(fnmatch(path, pattern) for pattern in wanted)
            ]
        parent(*bound.args, **bound.kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """A finalized dataset can be pickled, for the workers of a data loader."""
        return {**self.__dict__, "_saver": None}

    @classmethod
    def _take_over(cls, dataset: Any, image_writer: tuple[int, int] | None) -> AsyncDatasetWriter:
        """Let aiorecord write a dataset that lerobot has just opened."""
        writer: AsyncDatasetWriter = replace_writer(dataset, **cls.recorder_options).writer
        if image_writer is not None:
            writer.start_image_writer(*image_writer)
        return writer


def writer_of(dataset: Any, method: str) -> AsyncDatasetWriter:
    """The writer of a dataset, which a method needs.

    Raises:
        StateError: the dataset is read-only.
    """
    writer: AsyncDatasetWriter | None = dataset.writer
    if writer is None:
        raise StateError(
            f"{method}() needs a dataset that can be written; this one is read-only. Make it with "
            "create() or resume()."
        )
    return writer


def _saver_of(dataset: Any) -> AsyncEpisodeSaver | None:
    """None if it was never enabled; the dataset may be of lerobot's own class then, see `install`."""
    return getattr(dataset, "_saver", None)


for _name in ("__init__", "create", "resume"):
    # `help()` shows lerobot's parameters.
    _ours, _theirs = (inspect.getattr_static(kind, _name) for kind in (AsyncLeRobotDataset, LeRobotDataset))
    getattr(_ours, "__func__", _ours).__signature__ = inspect.signature(getattr(_theirs, "__func__", _theirs))


def enable_async_saving(
    dataset: Any, max_queue_size: int = 10, save_timeout: float | None = 300.0
) -> AsyncLeRobotDataset:
    """Let an existing `LeRobotDataset` save through aiorecord.

    The object stays the same and gets the methods of `AsyncLeRobotDataset`; episodes recorded so far are
    finished first.

    Args:
        dataset: made by ``create`` or ``resume``, without unsaved frames.
        max_queue_size: as in `AsyncEpisodeSaver`.
        save_timeout: likewise.

    Returns:
        The dataset.

    Raises:
        ConfigError: a size or time is invalid.
        StateError: the dataset is read-only or finalized, or has unsaved frames.
        AiorecordError: as raised by `AsyncLeRobotDataset.resume`.
    """
    replaced: AsyncLeRobotDataset = replace_writer(dataset)
    replaced.enable_async_saving(max_queue_size, save_timeout)
    return replaced


def _split_image_writer(make: Any, args: Any, kwargs: Any) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """Arguments of lerobot's constructor without an image writer, and the requested one."""
    arguments = dict(inspect.signature(make).bind(*args, **kwargs).arguments)
    processes = arguments.pop("image_writer_processes", 0)
    threads = arguments.pop("image_writer_threads", 0)
    return arguments, (processes, threads) if processes or threads else None
