"""Encoding one staged episode: a job per camera on an executor, watched until all are done.

This is the blocking body of a save; it runs in a thread, which only waits while worker processes encode.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from concurrent.futures import Executor, Future

from ..capture.staging import EpisodeFolder
from ..errors import EncodeError, SaveTimeoutError
from .encode import EncodedCamera, EncodedEpisode, EncodeJob, encode_camera, read_progress
from .workers import WorkerDiedError, WorkerPool

ATTEMPTS = 2
"""A camera whose worker died is encoded once more: an out-of-memory kill or a crash may not repeat."""


class EpisodeEncoding:
    """The encodes of one episode.

    Args:
        folder: the episode, complete.
        executor: runs `encode_camera`; any `concurrent.futures.Executor`.
        stall_timeout_s: give up when no camera made progress for this long while one was being encoded;
            None never gives up.
        poll_s: how often progress is looked at.
    """

    def __init__(
        self,
        folder: EpisodeFolder,
        executor: Executor,
        *,
        stall_timeout_s: float | None = None,
        poll_s: float = 0.25,
    ) -> None:
        self._folder = folder
        self._executor = executor
        self._stall_timeout_s = stall_timeout_s
        self._poll_s = poll_s
        self._keys = tuple(folder.manifest.cameras)
        self._done: dict[str, EncodedCamera] = {}
        self._running: dict[Future[EncodedCamera], str] = {}
        self._lock = threading.Lock()
        self._aborted = False

    def progress(self) -> float:
        """Share of the frames that are encoded, 0 to 1. Cheap; callable from any thread."""
        if not self._keys:
            return 1.0
        return self._frames_done() / max(1, len(self._keys) * (self._folder.manifest.length or 1))

    def run(self) -> EncodedEpisode:
        """Encode every camera that is not encoded yet and write ``encoded.json``. Blocking.

        Raises:
            EncodeError: a camera failed, also when tried again, or `abort` was called.
            SaveTimeoutError: nothing moved for the time limit.
        """
        already = EncodedEpisode.load(self._folder)
        if already is not None:
            return already
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._encode_missing()
                break
            except WorkerDiedError:
                if attempt == ATTEMPTS or self._aborted:
                    raise
        encoded = EncodedEpisode({key: self._done[key] for key in self._keys})
        encoded.save(self._folder)
        return encoded

    def abort(self) -> None:
        """Stop the encodes under way: `run` raises EncodeError soon. Callable from any thread; idempotent."""
        with self._lock:
            self._aborted = True
            running = list(self._running)
        for future in running:
            self._stop(future)

    def _encode_missing(self) -> None:
        with self._lock:
            if self._aborted:
                raise EncodeError("The encoding was stopped.")
            for key in self._keys:
                if key not in self._done:
                    job = EncodeJob(self._folder.path, key)
                    self._running[self._executor.submit(encode_camera, job)] = key
        try:
            self._watch()
        finally:
            with self._lock:
                left, self._running = list(self._running), {}
            for future in left:
                self._stop(future)
            concurrent.futures.wait(left)

    def _watch(self) -> None:
        moved_s, frames = time.monotonic(), self._frames_done()
        while self._running:
            finished, _ = concurrent.futures.wait(
                list(self._running), self._poll_s, concurrent.futures.FIRST_COMPLETED
            )
            for future in finished:
                with self._lock:
                    key = self._running.pop(future)
                if self._aborted or future.cancelled():
                    raise EncodeError("The encoding was stopped.", camera=key)
                self._done[key] = future.result()
            now_s, now_frames = time.monotonic(), self._frames_done()
            started = any(future.running() for future in self._running)
            if finished or now_frames != frames or not started:
                moved_s, frames = now_s, now_frames
            elif self._stall_timeout_s is not None and now_s - moved_s > self._stall_timeout_s:
                raise SaveTimeoutError(
                    f"The encoding made no progress for {self._stall_timeout_s:g} s. "
                    "The episode stays in staging; `aiorecord recover` encodes it again.",
                    episode_id=self._folder.id,
                    staging=self._folder.path,
                )

    def _frames_done(self) -> int:
        length = self._folder.manifest.length or 0
        return sum(
            length if key in self._done else min(length, read_progress(self._folder, key)[0])
            for key in self._keys
        )

    def _stop(self, future: Future[EncodedCamera]) -> None:
        if not future.cancel() and isinstance(self._executor, WorkerPool):
            self._executor.abort(future)
