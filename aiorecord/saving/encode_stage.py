"""The work for one save before its commit: make the episode durable, store its priority, encode it."""

from __future__ import annotations

import contextlib
from concurrent.futures import Executor

from ..encoding.encoded import EncodedCamera
from ..encoding.episode_encoding import EpisodeEncoding
from ..errors import AiorecordError, StateError
from ..printable import get_logger
from ..system.machine_time import monotonic_s
from ..system.tasks import TaskOwner
from ..system.threads import Threads
from .job import SaveJob
from .pending import PendingSaves
from .stages import Stage

logger = get_logger(__name__)


class SaveEncoder:
    """Makes episodes durable and encodes them, any number at a time.

    Args:
        executor: runs the encodes.
        pending: the saves.
        tasks: owns the tasks that write in the background.
        threads: one of them is used by each call under way.
        stall_timeout_s: seconds without progress after which an encode fails; None never fails it.
        fallback_vcodec: codec for cameras that the configured one fails on, None for no such.
    """

    def __init__(
        self,
        executor: Executor,
        pending: PendingSaves,
        tasks: TaskOwner,
        threads: Threads,
        *,
        stall_timeout_s: float | None,
        fallback_vcodec: str | None,
    ) -> None:
        self._executor, self._pending, self._tasks, self._threads = executor, pending, tasks, threads
        self._timeout_s = stall_timeout_s
        self._fallback_vcodec = fallback_vcodec

    def begin_job(self, job: SaveJob) -> None:
        """Make the episode durable in the background, unless it is on disk already."""
        if job.folder is None:
            self._tasks.finish(self._make_durable(job), f"aiorecord-durable-{job.episode_id}")
        elif not job.is_done:
            job.mark(Stage.DURABLE)
            self.note_priority(job)

    async def _make_durable(self, job: SaveJob) -> None:
        """Write what is left of a capture to disk; if that cannot be, the save fails."""
        capture = job.capture
        assert capture is not None
        try:
            job.folder = await self._threads.run(capture.keep)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this save's outcome; others go on
            self._pending.fail(job, error)
            return
        for problem in capture.problems:
            job.note_problem(problem)
        if job.folder.manifest.length != job.length:
            job.cut_to(job.folder.manifest.length or 0, capture.failure)
        if not job.is_done:
            job.mark(Stage.DURABLE)
        self._pending.tell_news()  # what it takes on disk is known now
        self.note_priority(job)

    def note_priority(self, job: SaveJob) -> None:
        """Have a priority that was set since the manifest was written noted there, for a later session."""
        if job.folder is None or job in self._pending.noting:
            return  # written when the episode becomes durable, or by the write under way
        if job.folder.manifest.priority != job.priority:
            with contextlib.suppress(StateError):  # it ends: what is left keeps the priority that is on disk
                self._tasks.finish(self._write_priority(job), f"aiorecord-priority-{job.episode_id}")
                self._pending.noting.add(job)

    async def _write_priority(self, job: SaveJob) -> None:
        """Write the priority to the manifest; if that fails, it counts for this session, with a warning."""
        assert job.folder is not None
        manifest = job.folder.manifest
        try:
            while manifest.priority != job.priority and job.stage is not Stage.DISCARDED:
                before, manifest.priority = manifest.priority, job.priority
                try:
                    await self._threads.run(job.folder.save)
                except AiorecordError as error:
                    manifest.priority = before
                    logger.warning(
                        "Episode %s: priority %d is not on disk, a later session takes %d: %s",
                        job.episode_id,
                        job.priority,
                        before,
                        error,
                    )
                    return
        finally:
            self._pending.noting.discard(job)
            self._pending.changed.set()
            self._pending.tell_news()

    async def encode(self, job: SaveJob) -> None:
        """Encode a save that is durable, or wait until it is; what goes wrong is the save's outcome."""
        await job.wait_durable()
        if job.is_done or job.folder is None:
            return
        job.mark(Stage.ENCODING)
        encoding = EpisodeEncoding(
            job.folder,
            self._executor,
            stall_timeout_s=self._timeout_s,
            fallback_vcodec=self._fallback_vcodec,
            on_retry=job.note_encode_retry,
        )
        job.encoding = encoding
        self._pending.speed.began(monotonic_s())
        try:
            encoded = await self._threads.run(encoding.run)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this save's outcome; others go on
            if not job.is_done:
                self._pending.fail(job, error)
        else:
            if not job.is_done:
                job.encoded = encoded
                for camera in encoded.cameras.values():
                    if camera.corrupt:
                        job.note_problem(_corrupt(camera))
                self._pending.encoded(job, sum(camera.bytes for camera in encoded.cameras.values()))
                job.mark(Stage.ENCODED)
                self._pending.changed.set()
        finally:
            done = 0.0 if encoding.was_encoded else job.frames_to_encode * encoding.progress()
            self._pending.speed.ended(monotonic_s(), done)
            job.encoding = None
            self._pending.tell_news()


def _corrupt(camera: EncodedCamera) -> str:
    images = "image" if camera.corrupt == 1 else "images"
    return f"{camera.key}: {camera.corrupt} {images} could not be decoded; the frame before stands in."
