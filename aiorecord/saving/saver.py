"""Saves episodes in the background: a bounded queue, encode workers, an ordered committer.

::

    submit_episode ─► bounded queue ─► save workers ──► committer (in order of submission) ─► dataset
                                          │ run_in_executor: encode in worker processes, verify

Saves with a higher `EpisodeSave.priority` leave the queue first, and are committed first.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import Any

import anyio

from ..clock import Clock, SystemClock
from ..dataset.commit.writer import DatasetWriter
from ..errors import ConfigError, SaveError, StateError
from ..options import SaveOrder
from ..system.loop_owner import LoopOwner
from ..system.shared_ending import SharedEnding
from ..system.tasks import TaskOwner
from ..system.threads import Threads
from ..system.uncancellable import UncancellableTask, ended, finished
from ..workers.pool import WorkerPool
from .backlog import Backlog
from .commit_stage import Committer
from .encode_stage import SaveEncoder
from .failed import FailedSaves
from .handle import EpisodeSave
from .job import SaveJob
from .pending import PendingSaves
from .ready_queue import SaveQueue
from .stages import EpisodeSaveResult


def default_encode_workers() -> int:
    """Default number of worker processes: one per core, at least two, at most four."""
    return min(4, max(2, os.cpu_count() or 2))


class AsyncEpisodeSaver:
    """Saves ended episodes in the background: encodes them, then commits them one after another.

    Use it as an async context manager, or call `start` and `stop`. `Recorder` owns one.

    Its methods are coroutines and belong to one event loop. `aiorecord.lerobot.AsyncEpisodeSaver` has the
    same name and the methods of the original proposal, for synchronous programs with a `LeRobotDataset`: it
    calls a saver of this class, on an event loop in a thread of its own.

    Args:
        writer: the dataset.
        max_queue_size: saves that may wait for an encoder; further ones are refused.
        save_timeout: seconds that a save may go without progress before it fails (its episode stays in
            staging). None never fails it. A slow encode that moves is not a timeout.
        encode_executor: runs the encodes; default is a pool of worker processes, owned and closed here.
        encode_workers: worker processes, and saves encoded at the same time.
        clock: reads the times of stages.
        fallback_vcodec: codec for cameras that the configured one fails on, also when tried again; None
            leaves such an episode in staging.
        save_order: which of the waiting saves of equal priority is encoded next: ``fifo``, or the
            ``shortest``, by frames to encode (one that waits is overtaken four times at most). Their commits
            keep the order of submission either way.
        failed: remembers the saves that fail; it may be shared with a saver that this one replaces.

    Raises:
        ConfigError: a size or time that makes no sense.
    """

    def __init__(
        self,
        writer: DatasetWriter,
        *,
        max_queue_size: int = 10,
        save_timeout: float | None = 300.0,
        encode_executor: Executor | None = None,
        encode_workers: int | None = None,
        clock: Clock | None = None,
        save_order: SaveOrder = "fifo",
        fallback_vcodec: str | None = None,
        failed: FailedSaves | None = None,
    ) -> None:
        if max_queue_size < 1:
            raise ConfigError(
                f"The save queue needs room for 1 or more, not {max_queue_size}.", option="queue"
            )
        if save_timeout is not None and not save_timeout > 0:
            raise ConfigError(f"The save timeout must be above 0 s, not {save_timeout}.", option="timeout")
        workers = encode_workers or default_encode_workers()
        clock = clock or SystemClock()
        self._own_executor = encode_executor is None
        self.executor: Executor = encode_executor or WorkerPool(workers)
        self._workers = workers
        self._queue: SaveQueue[SaveJob] = SaveQueue(
            max_queue_size,
            size_of=lambda job: 0 if save_order == "fifo" else job.frames_to_encode,
            priority_of=lambda job: job.priority,
        )
        self._pending = PendingSaves(FailedSaves() if failed is None else failed)
        self._tasks = TaskOwner(
            "aiorecord-saver", self._tasks_ended, on_cancel=lambda: self._begin_stopping(wait=False)
        )
        # One thread for each save that is encoded, one for the commit, two that make episodes durable.
        self._threads = Threads(workers + 3, "aiorecord-save")
        self._encoder = SaveEncoder(
            self.executor,
            self._pending,
            self._tasks,
            self._threads,
            stall_timeout_s=save_timeout,
            fallback_vcodec=fallback_vcodec,
        )
        self._committer = Committer(writer, self._pending, self._threads, clock)
        self._writer = writer
        self._first_index = 0
        self._accepting = False
        self._owner = LoopOwner("saver")
        self._ending: SharedEnding[bool] = SharedEnding(
            f"The saver of {writer.root}", "aiorecord-saver-stop", self.abandon
        )

    async def __aenter__(self) -> AsyncEpisodeSaver:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever was cancelled does not wait for encodes, which stay in staging.
        await self.stop(wait=not isinstance(error, asyncio.CancelledError))

    async def start(self) -> None:
        """Start the workers.

        Raises:
            StateError: it was started before.
        """
        if self._accepting or self._ending.has_begun:
            raise StateError("This saver was started before; make a new one.")
        self._owner.bind()
        self._first_index = self._writer.total_episodes
        try:
            await self._tasks.start()
        except asyncio.CancelledError:
            await ended(self._begin_stopping(wait=False))
            raise
        for n in range(self._workers):
            self._tasks.create(self._work(), f"aiorecord-save-worker-{n}")
        self._tasks.create(self._committer.run(), "aiorecord-committer")
        self._accepting = True

    def submit_episode(self, save: EpisodeSave) -> bool:
        """Take over an ended episode. Never waits.

        Returns:
            False when the queue is full: then the caller saves in the foreground with `save_now`.

        Raises:
            StateError: the saver does not run.
        """
        self._owner.check("AsyncEpisodeSaver.submit_episode()")
        self._check_accepting()
        if self._queue.full():
            return False
        self._accept(save)
        self._queue.put_nowait(save.job)
        return True

    def submit_recovered(self, saves: Sequence[EpisodeSave]) -> None:
        """Take over episodes of an earlier session: all at once, whatever the queue's size.

        They are on disk already, and are committed before anything of their priority that is submitted later.

        Raises:
            StateError: the saver does not run.
        """
        self._owner.check("AsyncEpisodeSaver.submit_recovered()")
        self._check_accepting()
        for save in saves:
            self._accept(save)
        self._queue.put_beyond(save.job for save in saves)

    async def save_now(self, save: EpisodeSave) -> EpisodeSaveResult:
        """Save in the foreground: encode at once, beside the queue, and return when it is committed.

        Commits keep the order of submission, so it also waits for the saves of its priority before it.
        Cancelling stops only the waiting; the save continues in the background.

        Raises:
            SaveError: the save failed.
            StateError: the saver does not run.
        """
        self._owner.check_awaited("AsyncEpisodeSaver.save_now()")
        self._check_accepting()
        self._accept(save)
        self._tasks.create(self._encoder.encode(save.job), f"aiorecord-save-now-{save.episode_id}")
        save.release()
        return await save

    async def get_results(self, timeout: float | None = None) -> list[EpisodeSaveResult]:
        """Outcomes since the last call, good and bad, oldest first.

        Args:
            timeout: when there is none yet, wait up to this many seconds for one.
        """
        self._owner.check_awaited("AsyncEpisodeSaver.get_results()")
        if not self._pending.results and timeout is not None:
            with anyio.move_on_after(timeout):
                while not self._pending.results:
                    await self._pending.wait_for_news()
        results = list(self._pending.results)
        self._pending.results.clear()
        return results

    async def wait_for_completion(self, timeout: float | None = None) -> bool:
        """Wait until no save is pending. A held save is pending until it is released.

        Returns:
            True when all are done, False when `timeout` seconds passed first.
        """
        self._owner.check_awaited("AsyncEpisodeSaver.wait_for_completion()")
        with anyio.move_on_after(timeout):
            await self._until_done()
        return not self._pending.order

    def get_status(self) -> dict[str, Any]:
        """Counts, health and backlog (see `Backlog`), JSON-ready.

        ``pending_priorities`` counts the pending saves by priority, the highest first.
        """
        counts = self._pending.counts
        backlog = self.backlog()
        return {
            "is_running": self._accepting,
            "total_submitted": counts.submitted,
            "total_completed": counts.completed,
            "total_failed": counts.failed,
            "queue_size": self._queue.qsize(),
            "pending_tasks": len(self._pending.order),
            "last_error": counts.last_error,
            "worker_alive": self._tasks.alive,
            "total_discarded": counts.discarded,
            "max_queue_size": self._queue.maxsize,
            "backlog_frames": backlog.frames,
            "backlog_s": backlog.seconds,
            "backlog_bytes": backlog.bytes,
            "pending_priorities": dict(Counter(str(save.priority) for save in self.pending)),
        }

    @property
    def pending(self) -> list[EpisodeSave]:
        """Saves that are not done, in the order of their turns."""
        return [self._pending.order[job] for job in self._pending.by_turn()]

    def expected_index(self, save: EpisodeSave | None = None) -> int:
        """The episode index that a pending save will get if all before it are committed. Cheap.

        Args:
            save: the save; None asks for the one that is submitted next.
        """
        expected = self.expected_indices()
        following = self._first_index + self._pending.counts.completed + len(expected)
        return following if save is None else expected.get(save, following)

    def expected_indices(self) -> dict[EpisodeSave, int]:
        """`expected_index` of every pending save, in one look at them: a thousand may wait."""
        waiting = (save for save in self.pending if not save.done())
        return {
            save: index
            for index, save in enumerate(waiting, self._first_index + self._pending.counts.completed)
        }

    def backlog(self) -> Backlog:
        """What the pending saves still need. Cheap."""
        return self._pending.backlog()

    async def wait_for_backlog(self, limit_bytes: int) -> None:
        """Wait until the pending saves take at most so many bytes in staging. Held ones are released.

        Returns at once when that is so; also when the saver stops.
        """
        self._owner.check_awaited("AsyncEpisodeSaver.wait_for_backlog()")
        while self._accepting and self._tasks.alive and self.backlog().bytes > limit_bytes:
            for save in self.pending:
                save.release()
            await self._pending.wait_for_news()

    async def wait_for_next(self) -> None:
        """Wait until one of the pending saves, or its encode, has ended."""
        self._owner.check_awaited("AsyncEpisodeSaver.wait_for_next()")
        if self._pending.order and self._tasks.alive:
            await self._pending.wait_for_news()

    def frames_not_encoded(self) -> int:
        """Frames of the pending episodes that are not encoded yet."""
        return sum(job.length for job in self._pending.order if job.encoded is None)

    def final_bytes_per_frame(self) -> float:
        """Bytes of a frame in the final files, over all cameras; 0 before an episode is encoded."""
        counts = self._pending.counts
        return counts.final_bytes / counts.final_frames if counts.final_frames else 0.0

    async def discard(self, save: EpisodeSave) -> bool:
        """Take an episode back before it is committed: its encode is stopped and its data deleted.

        Returns:
            False when it is too late: the commit has begun or is done. A failed save can be discarded.
        """
        self._owner.check_awaited("AsyncEpisodeSaver.discard()")
        job = save.job
        if job.is_final():
            return False
        save.hold()
        await job.wait_durable()
        if job.is_final():  # others were quicker
            return False
        self._pending.discard(job)
        # Runs to its end even if the caller is cancelled: an episode left in staging would be recovered.
        await finished(self._tasks.finish(self._discard(job), f"aiorecord-discard-{save.episode_id}"))
        return True

    async def _discard(self, job: SaveJob) -> None:
        while job.encoding is not None or (job in self._pending.noting and self._tasks.alive):
            await self._pending.wait_for_news()
        await self._threads.run(job.delete_episode)

    async def stop(self, wait: bool = True, timeout: float | None = None) -> bool:
        """Stop. Idempotent. Cancelling it leaves in staging what is not committed, and waits for the rest.

        Args:
            wait: finish the pending saves first (held ones are released); else they stay in staging.
            timeout: wait at most this many seconds for them.

        Returns:
            True when every submitted save came to its end, False when some stay in staging.
        """
        self._owner.check_awaited("AsyncEpisodeSaver.stop()")
        self._begin_stopping(wait, timeout)
        return await self._ending.wait()

    def _begin_stopping(self, wait: bool, timeout: float | None = None) -> UncancellableTask[bool]:
        return self._ending.begin(lambda: self._stop(wait, timeout), hurry=not wait)

    def abandon(self) -> None:
        """Stop the encodes under way and leave what is pending in staging. `stop` then returns soon."""
        self._owner.check("AsyncEpisodeSaver.abandon()")
        self._accepting = False
        for job in self._pending.by_turn():
            if not job.committing and not job.is_done:
                kept = (
                    "It is safe in staging: `aiorecord recover` finishes it."
                    if job.is_durable
                    else "Its last frames are not in staging yet; `aiorecord recover` finishes what is."
                )
                error = SaveError(
                    f"The recorder was stopped before this episode was committed. {kept}",
                    episode_id=job.episode_id,
                    staging=job.folder.path if job.folder else None,
                )
                self._pending.fail(job, error, asked=True)

    def _tasks_ended(self) -> None:
        """Fail the pending saves if a task of the saver failed (a bug), so that no caller waits for ever."""
        if self._owner.is_forked:
            return
        self.abandon()
        self._pending.tell_news()

    @property
    def takes_episodes(self) -> bool:
        """Whether it runs: started, not stopped, and its tasks were not cancelled by others."""
        return self._accepting and self._tasks.alive

    def _check_accepting(self) -> None:
        if not self.takes_episodes:
            raise StateError("The saver does not run: start it first, and submit before it is stopped.")

    def _accept(self, save: EpisodeSave) -> None:
        self._pending.add(save)
        self._begin_job(save)

    def _begin_job(self, save: EpisodeSave) -> None:
        job = save.job
        job.attach(
            held=self._pending.changed.set,
            reprioritized=lambda: self._reprioritized(job),
            resubmit=lambda: self._resubmit(save),
        )
        self._encoder.begin_job(job)

    def _reprioritized(self, job: SaveJob) -> None:
        self._pending.changed.set()
        self._encoder.note_priority(job)

    def _resubmit(self, save: EpisodeSave) -> None:
        self._check_accepting()
        if save.job.encoding is not None:
            raise StateError(f"Episode {save.episode_id} is still being encoded.")
        save.job.begin_again()
        self._pending.add_again(save)
        self._begin_job(save)
        self._tasks.create(self._encoder.encode(save.job), f"aiorecord-save-again-{save.episode_id}")

    async def _work(self) -> None:
        while True:
            await self._encoder.encode(await self._queue.get())
            self._queue.task_done()

    def _end_executor(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)

    async def _until_done(self) -> None:
        while self._pending.order and self._tasks.alive:
            await self._pending.wait_for_news()

    async def _stop(self, wait: bool, timeout: float | None) -> bool:
        try:
            if wait:
                for save in self.pending:
                    save.release()
                done = asyncio.create_task(self._until_done(), name="aiorecord-saver-drain")
                await asyncio.wait((done,), timeout=timeout)
                done.cancel()
                await asyncio.wait((done,))
            self._accepting = False
            complete = not self._pending.order
            self.abandon()
            while (self._pending.order or self._pending.noting) and self._tasks.alive:
                await self._pending.wait_for_news()
        finally:
            self._accepting = False
            try:
                await self._tasks.aclose()
            finally:
                await self._threads.aclose(*([self._end_executor] if self._own_executor else []))
        return complete
