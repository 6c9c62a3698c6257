"""The saves that are not finished, the order of their commits, and the results of finished ones."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from ..dataset.commit.writer import CommittedEpisode
from ..printable import get_logger
from ..system.machine_time import monotonic_s
from .backlog import Backlog, EncodeSpeed
from .failed import FailedSaves
from .handle import EpisodeSave
from .job import SaveJob
from .stages import EpisodeSaveResult, Stage

logger = get_logger(__name__)

KEPT_RESULTS = 1000
"""`AsyncEpisodeSaver.get_results` returns at most this many results; older ones that were not fetched are
dropped."""


@dataclass
class SaveCounts:
    """What a saver has done so far."""

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    discarded: int = 0
    last_error: str | None = None
    final_bytes: int = 0
    final_frames: int = 0


class PendingSaves:
    """What the parts of a saver know together. On one event loop.

    Args:
        failed: remembers the saves that fail.

    Attributes:
        order: saves that are not done, or have just come to their end, and their handles, in the order of
            submission.
        counts: of all saves so far.
        results: results that were not fetched yet.
        speed: of the encodes.
        noting: saves whose priority is being written to their manifests.
        changed: set when a save may be ready for its commit, or has ended without one.
    """

    def __init__(self, failed: FailedSaves) -> None:
        self.order: dict[SaveJob, EpisodeSave] = {}
        self._failed = failed
        self.counts = SaveCounts()
        self.results: deque[EpisodeSaveResult] = deque(maxlen=KEPT_RESULTS)
        self.speed = EncodeSpeed()
        self.noting: set[SaveJob] = set()
        self.changed = asyncio.Event()
        self._news = asyncio.Event()

    def add(self, save: EpisodeSave) -> None:
        """Append a save to the order of submission."""
        self.order[save.job] = save
        self.counts.submitted += 1

    def add_again(self, save: EpisodeSave) -> None:
        """Append a save that failed before; it no longer counts as failed."""
        self.counts.failed -= 1
        self.order.pop(save.job, None)  # there if it failed a moment ago
        self.order[save.job] = save

    def by_turn(self) -> list[SaveJob]:
        """The saves as their turns come: higher priorities first, of equals in the order of submission."""
        return sorted(self.order, key=lambda job: -job.priority)

    def ready(self) -> SaveJob | None:
        """The save to commit next; None when there is none yet.

        Of each priority it can only be the oldest, which must be encoded and not held. Of several priorities
        it is the highest that has one: a save that is ready does not wait for a higher one that is not.
        """
        seen: set[int] = set()
        for job in self.by_turn():
            if job.is_done or job.priority in seen:
                continue
            seen.add(job.priority)
            if job.encoded is not None and not job.held and job not in self.noting:
                return job
        return None

    def forget_done(self) -> None:
        """Take the saves that came to their end out of the order."""
        left = {job: save for job, save in self.order.items() if not job.is_done}
        if len(left) < len(self.order):
            self.order = left
            self.tell_news()

    def encoded(self, job: SaveJob, size: int) -> None:
        """Note that a save's videos are encoded and take so many bytes."""
        # Linked into the dataset, not copied, where the filesystem has links.
        self.counts.final_bytes += size
        self.counts.final_frames += job.length

    def committed(self, job: SaveJob, episode: CommittedEpisode) -> None:
        """End a save that is in the dataset."""
        if episode.flags is not None:
            job.flag(episode.flags)
        result = job.finish(Stage.COMMITTED, episode_index=episode.episode_index, size=episode.bytes)
        self.counts.completed += 1
        self.results.append(result)

    def discard(self, job: SaveJob) -> None:
        """End a save, failed or not, whose episode is not wanted. Its encode is stopped."""
        if job.stage is Stage.FAILED:
            self.counts.failed -= 1
        job.finish(Stage.DISCARDED)
        self.counts.discarded += 1
        self.changed.set()

    def fail(self, job: SaveJob, error: BaseException, *, asked: bool = False) -> None:
        """End a save that went wrong. Its encode is stopped; the episode stays in staging.

        Args:
            job: the save.
            error: what went wrong.
            asked: nothing did; the saver is stopped before the save is done.
        """
        self.results.append(job.finish(Stage.FAILED, error=error))
        self._failed.add(job, monotonic_s())
        self.counts.failed += 1
        self.counts.last_error = f"{type(error).__name__}: {error}"
        logger.log(
            logging.INFO if asked else logging.ERROR, "Episode %s was not saved: %s", job.episode_id, error
        )
        self.changed.set()

    def backlog(self) -> Backlog:
        """What the saves still need. Cheap."""
        left = running = 0.0
        order = list(self.order)  # in one step: another thread may ask
        for job in order:
            if not job.is_done and job.encoded is None:
                frames, done = job.frames_to_encode, job.progress
                left += frames * (1 - done)
                running += frames * done
        speed = self.speed.per_second(monotonic_s(), running)
        frames_left = round(left)
        seconds = 0.0 if not frames_left else None if speed is None else frames_left / speed
        return Backlog(frames_left, seconds, sum(s.staged_bytes for s in order if not s.is_done))

    def tell_news(self) -> None:
        """Wake those in `wait_for_news`: a save or its encode came to its end, or its size is known."""
        self._news.set()

    async def wait_for_news(self) -> None:
        """Wait for the next `tell_news`."""
        self._news.clear()
        await self._news.wait()
