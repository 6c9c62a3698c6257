"""Commits encoded episodes one by one: by priority, then in the order of submission."""

from __future__ import annotations

from ..capture.episode import EpisodeCapture
from ..clock import NS_PER_S, Clock
from ..dataset.commit.writer import CommittedEpisode, DatasetWriter
from ..system.threads import Threads
from .handle import EpisodeSave
from .pending import PendingSaves


class Committer:
    """Commits the pending saves one after another, as `PendingSaves.ready` names them.

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
            self._pending.forget_done()
            while (save := self._pending.ready()) is not None:
                await self._commit_next(save)
                self._pending.forget_done()
            await self._pending.changed.wait()

    async def _commit_next(self, save: EpisodeSave) -> None:
        save.committing = True
        try:
            committed = await self._threads.run(self._commit, save)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this save's outcome
            self._pending.fail(save, error)
        else:
            self._pending.committed(save, committed)
        finally:
            save.committing = False

    def _commit(self, save: EpisodeSave) -> CommittedEpisode:
        assert save.folder is not None
        assert save.encoded is not None
        saving: dict[str, float | None] = {}
        if isinstance(save.source, EpisodeCapture):  # else it ended in an earlier session
            saving = {f"{stage}_s": save.times.seconds_to(stage) for stage in ("durable", "encoded")}
            saving["commit_s"] = (self._clock.now_ns() - save.times.ended_ns) / NS_PER_S
        if save.priority:
            saving["priority"] = save.priority
        committed = self._writer.commit(save.folder, save.encoded, saving)
        save.folder.remove()
        return committed
