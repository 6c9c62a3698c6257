"""The work for one save before its commit: make the episode durable, store its priority, encode it."""

from __future__ import annotations

from concurrent.futures import Executor

from ..capture.episode import EpisodeCapture
from ..encoding.episode_encoding import EpisodeEncoding
from ..errors import AiorecordError
from ..printable import get_logger
from ..system.machine_time import monotonic_s
from ..system.threads import Threads
from .handle import EpisodeSave, Stage
from .pending import PendingSaves

logger = get_logger(__name__)


class SaveEncoder:
    """Makes episodes durable and encodes them, any number at a time.

    Args:
        executor: runs the encodes.
        pending: the saves.
        threads: one of them is used by each call under way.
        stall_timeout_s: seconds without progress after which an encode fails; None never fails it.
        fallback_vcodec: codec for cameras that the configured one fails on, None for no such.
    """

    def __init__(
        self,
        executor: Executor,
        pending: PendingSaves,
        threads: Threads,
        *,
        stall_timeout_s: float | None,
        fallback_vcodec: str | None,
    ) -> None:
        self._executor, self._pending, self._threads = executor, pending, threads
        self._timeout_s = stall_timeout_s
        self._fallback_vcodec = fallback_vcodec

    async def make_durable(self, save: EpisodeSave) -> None:
        """Write what is left of a capture to disk; if that cannot be, the save fails."""
        assert isinstance(save.source, EpisodeCapture)
        try:
            save.folder = await self._threads.run(save.source.keep)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this save's outcome; others go on
            self._pending.fail(save, error)
            return
        for problem in save.source.problems:
            save.note(problem)
        if save.folder.manifest.length != save.length:
            save.cut_to(save.folder.manifest.length or 0, save.source.failure)
        if not save.done():
            save.mark(Stage.DURABLE)
        self._pending.tell_news()  # what it takes on disk is known now

    async def note_priority(self, save: EpisodeSave) -> None:
        """Write the priority of a durable save to its manifest, where a later session finds it.

        If the write fails, the save keeps its priority for this session, and a warning is logged.
        """
        assert save.folder is not None
        manifest = save.folder.manifest
        try:
            while manifest.priority != save.priority and save.stage is not Stage.DISCARDED:
                before, manifest.priority = manifest.priority, save.priority
                try:
                    await self._threads.run(save.folder.save)
                except AiorecordError as error:
                    manifest.priority = before
                    logger.warning(
                        "Episode %s: priority %d is not on disk, a later session takes %d: %s",
                        save.episode_id,
                        save.priority,
                        before,
                        error,
                    )
                    return
        finally:
            self._pending.noting.discard(save)
            self._pending.changed.set()
            self._pending.tell_news()

    async def encode(self, save: EpisodeSave) -> None:
        """Encode a save that is durable, or wait until it is; what goes wrong is the save's outcome."""
        await save.wait_durable()
        if save.done() or save.folder is None:
            return
        save.mark(Stage.ENCODING)
        encoding = EpisodeEncoding(
            save.folder,
            self._executor,
            stall_timeout_s=self._timeout_s,
            fallback_vcodec=self._fallback_vcodec,
            on_retry=save.note_retry,
        )
        save.encoding = encoding
        self._pending.speed.began(monotonic_s())
        try:
            encoded = await self._threads.run(encoding.run)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this save's outcome; others go on
            if not save.done():
                self._pending.fail(save, error)
        else:
            if not save.done():
                save.encoded = encoded
                self._pending.encoded(save, sum(camera.bytes for camera in encoded.cameras.values()))
                save.mark(Stage.ENCODED)
                self._pending.changed.set()
        finally:
            done = 0.0 if encoding.was_encoded else save.frames_to_encode * encoding.progress()
            self._pending.speed.ended(monotonic_s(), done)
            save.encoding = None
            self._pending.tell_news()
