"""Encoded episodes enter the dataset one by one, in the order in which they were submitted."""

from __future__ import annotations

from ..capture.episode import EpisodeCapture
from ..clock import NS_PER_S, Clock
from ..dataset.writer import CommittedEpisode, DatasetWriter
from ..threads import Threads
from .pending import PendingSaves
from .saves import EpisodeSave


class Committer:
    """Commits the oldest of the pending saves, when it is encoded and not held; then the next.

    Args:
        writer: the dataset.
        pending: the saves.
        threads: one of them is used at a time.
        clock: reads the times of stages.
    """

    def __init__(self, writer: DatasetWriter, pending: PendingSaves, threads: Threads, clock: Clock) -> None:
        self._writer, self._pending, self._threads, self._clock = writer, pending, threads, clock

    async def run(self) -> None:
        """Commit saves as they become ready, until it is cancelled."""
        while True:
            self._pending.changed.clear()
            while self._pending.order and await self._commit_next(self._pending.order[0]):
                self._pending.order.popleft()
                self._pending.settle()
            await self._pending.changed.wait()

    async def _commit_next(self, save: EpisodeSave) -> bool:
        """Commit the oldest save if it can be; True when it is out of the way."""
        if save.done():
            return True
        if save.encoded is None or save.held:
            return False
        save.committing = True
        try:
            committed = await self._threads.run(self._commit, save)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this save's outcome
            self._pending.fail(save, error)
        else:
            self._pending.committed(save, committed)
        finally:
            save.committing = False
        return True

    def _commit(self, save: EpisodeSave) -> CommittedEpisode:
        assert save.folder is not None
        assert save.encoded is not None
        saving: dict[str, float | None] = {}
        if isinstance(save.source, EpisodeCapture):  # else it ended in an earlier session
            saving = {f"{stage}_s": save.times.seconds_to(stage) for stage in ("durable", "encoded")}
            saving["commit_s"] = (self._clock.now_ns() - save.times.ended_ns) / NS_PER_S
        committed = self._writer.commit(save.folder, save.encoded, saving)
        save.folder.remove()
        return committed
