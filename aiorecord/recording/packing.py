"""Merging the files of single episodes, with events for those who show it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..dataset.commit.writer import DatasetWriter
from ..dataset.packing.pack import PackResult, pack
from ..system.threads import Threads
from .recorder_events import Events, PackingBegan, PackingEnded, PackingFailed


async def pack_and_publish(
    writer: DatasetWriter,
    threads: Threads,
    events: Events,
    progress: Callable[[int, int], None] | None,
    ended: Callable[[PackResult], None],
) -> PackResult:
    """Pack a dataset in a thread. Cancelling waits for the end of the packing.

    Args:
        writer: of the dataset.
        threads: one of them packs.
        events: are told when it begins, ends, and fails, also if the caller is cancelled.
        progress: called from the thread with bytes done and bytes in all.
        ended: called with the result, also if the caller is cancelled.

    Raises:
        DatasetError: the dataset is damaged, or its folders cannot be replaced.
        StorageError: the disk refused, or does not have the room for it.
    """
    outcome: PackResult | BaseException | None = None

    def work() -> PackResult:  # runs to its end even if the caller is cancelled
        nonlocal outcome
        try:
            outcome = pack(writer, progress)
        except BaseException as error:
            outcome = error
            raise
        return outcome

    events.publish(PackingBegan())
    try:
        return await threads.run(work)
    finally:
        if isinstance(outcome, PackResult):
            ended(outcome)
            files = outcome.data_files + outcome.video_files
            events.publish(PackingEnded(outcome.merged_files, files, outcome.bytes))
        else:
            events.publish(PackingFailed(str(outcome or sys.exception())))
