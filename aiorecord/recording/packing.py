"""Merging the files of single episodes, with events for those who show it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import StorageError
from ..printable import get_logger
from ..system.threads import Threads
from .recorder_events import Events, PackingBegan, PackingEnded, PackingFailed

if TYPE_CHECKING:
    from ..dataset.commit.writer import DatasetWriter
    from ..dataset.packing.pack import PackResult

logger = get_logger(__name__)


class Packing:
    """Packs a dataset in a thread.

    Args:
        threads: one of them packs.
        events: are told when it begins, ends, and fails, also if the caller is cancelled.

    Attributes:
        packed: the outcome of the newest packing, None if nothing was packed.
    """

    def __init__(self, threads: Threads, events: Events) -> None:
        self._threads, self._events = threads, events
        self.packed: PackResult | None = None

    async def pack(
        self, writer: DatasetWriter, progress: Callable[[int, int], None] | None = None
    ) -> PackResult:
        """Merge the files of single episodes. Cancelling waits for the end of the packing.

        Args:
            writer: of the dataset.
            progress: called from the thread with bytes done and bytes in all.

        Raises:
            DatasetError: the dataset is damaged, or its folders cannot be replaced.
            StorageError: the disk refused, or does not have the room for it.
        """
        from ..dataset.packing.pack import pack

        outcome: PackResult | BaseException | None = None

        def work() -> PackResult:  # runs to its end even if the caller is cancelled
            nonlocal outcome
            try:
                outcome = pack(writer, progress)
            except BaseException as error:
                outcome = error
                raise
            return outcome

        self._events.publish(PackingBegan())
        try:
            return await self._threads.run(work)
        finally:
            if outcome is None or isinstance(outcome, BaseException):
                self._events.publish(PackingFailed(str(outcome or sys.exception())))
            else:
                self.packed = outcome
                files = outcome.data_files + outcome.video_files
                self._events.publish(PackingEnded(outcome.merged_files, files, outcome.bytes))

    async def pack_at_end(self, writer: DatasetWriter) -> None:
        """Pack unless that was done. A disk that refuses is logged: every episode is in the dataset."""
        if self.packed is not None:
            return
        try:
            await self.pack(writer)
        except StorageError as error:  # the dataset is valid with small files too
            logger.warning("The dataset is complete, but its small files were not merged: %s", error)
