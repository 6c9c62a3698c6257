"""The original proposal's `AsyncEpisodeSaver`, for synchronous callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...saving.stages import EpisodeSaveResult
from .attach import replace_writer
from .dataset_writer import AsyncDatasetWriter

STATUS_KEYS = (
    "is_running",
    "total_submitted",
    "total_completed",
    "total_failed",
    "queue_size",
    "pending_tasks",
    "last_error",
    "worker_alive",
)

IDLE_STATUS = {**dict.fromkeys(STATUS_KEYS, 0), "is_running": False, "last_error": "", "worker_alive": False}
"""The status if asynchronous saving was never enabled."""


class AsyncEpisodeSaver:
    """Saves episodes of a dataset in the background.

    It is enabled from the start; saves that were under way before are finished first. Saves in the foreground
    are counted too.

    `aiorecord.AsyncEpisodeSaver` has the same name and is for asyncio programs: this class calls one, on the
    event loop in a thread of its own that records the dataset.

    Args:
        dataset: an `AsyncLeRobotDataset`, or a writable `LeRobotDataset`, which becomes one.
        max_queue_size: saves that may wait for an encoder; further ones are refused.
        save_timeout: seconds that a save may go without progress before it fails (its episode stays in
            staging). None never fails it.

    Raises:
        ConfigError: a size or time is invalid.
        StateError: the dataset is read-only, or finalized.
    """

    def __init__(self, dataset: Any, max_queue_size: int = 10, save_timeout: float | None = 300.0) -> None:
        self.max_queue_size = max_queue_size
        self.save_timeout = save_timeout
        writer = replace_writer(dataset).writer
        assert writer is not None
        self._writer: AsyncDatasetWriter = writer
        self._writer.portal.call(self._writer.recorder.renew_saver, max_queue_size, save_timeout)
        self._running = True

    @property
    def running(self) -> bool:
        """Whether it accepts episodes."""
        return self._running and not self._writer.is_finalized

    def submit_episode(
        self,
        episode_buffer: Mapping[str, Any] | None = None,
        episode_index: int | None = None,
        priority: int = 0,
    ) -> bool:
        """Submit an ended episode. Returns within milliseconds.

        Args:
            episode_buffer: the dataset's running buffer, a copy of it, or a buffer with all its data, which
                then must not be changed until the save is done; None is the running one.
            episode_index: the index that the caller expects the episode to get, or None. The actual index is
                assigned when it is committed.
            priority: of the episodes that wait, higher ones are encoded and committed first, and so get lower
                indices.

        Returns:
            False if the queue is full or the saver is stopped: then the caller saves in the foreground.

        Raises:
            ValueError: the buffer is empty, or does not fit the features; the priority is no whole number.
            NotImplementedError: the episode cannot get that index.
            LostImageError: an image of the episode could not be stored.
            StateError: the buffer was saved before.
        """
        if not self.running:
            return False
        if episode_index is not None:
            buffer = self._writer.episode_buffer if episode_buffer is None else episode_buffer
            if buffer is not None:
                buffer = buffer.copy()  # type: ignore[attr-defined]  # any kind of dict
                buffer["episode_index"] = episode_index
                episode_buffer = buffer
        return self._writer.save_behind(episode_buffer, priority)

    def get_results(self, timeout: float | None = 0.0) -> list[EpisodeSaveResult]:
        """Results of finished saves since the last call, successful or not, oldest first.

        Args:
            timeout: when there is none yet, wait up to this many seconds for one; 0 and None do not wait.
        """
        if self._writer.is_finalized:
            last, self._writer.recorder.last_results = self._writer.recorder.last_results, []
            return last
        results: list[EpisodeSaveResult] = self._writer.portal.call(
            self._writer.recorder.saver.get_results, timeout or None
        )
        return results

    def wait_for_completion(self, timeout: float | None = None) -> bool:
        """Wait until no save is pending.

        Returns:
            True when all are done, False when `timeout` seconds passed first.
        """
        if self._writer.is_finalized:
            return True
        done: bool = self._writer.portal.call(self._writer.recorder.core.drain, timeout)
        return done

    def get_status(self) -> dict[str, Any]:
        """Counts and health, JSON-ready: `STATUS_KEYS`.

        ``last_error`` is empty if there was no error; ``worker_alive`` is False if the saver was stopped and
        no save goes on in the background.
        """
        status = self._writer.portal.ask(self._writer.recorder.saver.get_status)
        status["is_running"] = status["is_running"] and self.running
        status["worker_alive"] = status["worker_alive"] and (self.running or status["pending_tasks"] > 0)
        status["last_error"] = status["last_error"] or ""
        return {key: status[key] for key in STATUS_KEYS}

    def stop(self, wait: bool = True, timeout: float | None = None) -> None:
        """Accept no more episodes. Idempotent.

        Args:
            wait: return when the pending saves are done; otherwise they go on in the background.
            timeout: wait at most this many seconds; unfinished saves go on in the background, and
                `get_status` counts them.
        """
        self._running = False
        if wait:
            self.wait_for_completion(timeout)

    def wait_for_stop(self, timeout: float | None = None) -> None:
        """`stop`, waiting for the pending saves: the name in a later version of the proposal."""
        self.stop(wait=True, timeout=timeout)
