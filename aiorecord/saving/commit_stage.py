"""Commits encoded episodes one by one: by priority, then in the order of submission."""

from __future__ import annotations

from ..clock import NS_PER_S, Clock
from ..dataset.commit.writer import CommittedEpisode, DatasetWriter
from ..system.threads import Threads
from .job import SaveJob
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
            while (job := self._pending.ready()) is not None:
                await self._commit_next(job)
                self._pending.forget_done()
            await self._pending.changed.wait()

    async def _commit_next(self, job: SaveJob) -> None:
        job.committing = True
        try:
            committed = await self._threads.run(self._commit, job)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this save's outcome
            self._pending.fail(job, error)
        else:
            self._pending.committed(job, committed)
        finally:
            job.committing = False

    def _commit(self, job: SaveJob) -> CommittedEpisode:
        assert job.folder is not None
        assert job.encoded is not None
        saving: dict[str, float | None] = {}
        if job.capture is not None:  # else it ended in an earlier session
            saving = {f"{stage}_s": job.times.seconds_to(stage) for stage in ("durable", "encoded")}
            saving["commit_s"] = (self._clock.now_ns() - job.times.ended_ns) / NS_PER_S
        if job.priority:
            saving["priority"] = job.priority
        committed = self._writer.commit(job.folder, job.encoded, saving)
        job.folder.remove()
        return committed
