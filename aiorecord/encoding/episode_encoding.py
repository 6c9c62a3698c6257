"""Encodes one staged episode: one job per camera on an executor, watched until all are done.

This is the blocking part of a save. It runs in a thread, which waits while worker processes encode.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

from ..errors import DatasetError, EncodeError, SaveTimeoutError, StateError, StorageError
from ..media.video_file import verify_video
from ..printable import get_logger
from ..staging.folder import EpisodeFolder
from ..system.storage import TEMPORARY_SUFFIX, is_there
from ..workers.pool import WorkerPool, give_up
from ..workers.progress import progress_path, read_progress
from ..workers.watched import STARVED_FACTOR, Verdict, Watch
from .camera_encoding import EncodeJob, encode_camera
from .camera_frames import known_stats
from .encoded import EncodedCamera, EncodedEpisode, file_crc
from .stats import FeatureStats

logger = get_logger(__name__)

ATTEMPTS = 2
"""A camera whose encode failed is encoded once more: a kill, a crash or a hang may not repeat."""

NOT_RETRIED = (StorageError, StateError, DatasetError)
"""Errors that an immediate second encode would meet again."""


@dataclass
class _Attempt:
    """The encode of one camera that runs or waits.

    Attributes:
        number: from 1, over all attempts with this codec.
        fallback: the codec instead of the configured one, or None.
        watch: detects a stall; None if encodes are never aborted.
    """

    key: str
    number: int
    fallback: str | None
    watch: Watch | None

    @property
    def given_up(self) -> Verdict | None:
        """Why it was killed, None if it was not."""
        return None if self.watch is None else self.watch.given_up


class EpisodeEncoding:
    """The encodes of one episode.

    A camera whose encode fails (a process that was killed, crashed, ran out of memory or hung, a codec that
    does not open, an encoder's error) is tried again, `ATTEMPTS` times in all; then equally often with the
    fallback codec, if there is one. Only colour video has a fallback.

    Args:
        folder: the episode, complete.
        executor: runs `encode_camera`; any `concurrent.futures.Executor`.
        stall_timeout_s: abort an encode that made no progress in this much of its own processor time, or of
            sleep; None never does. Only the processes of a `WorkerPool` can be watched, killed and tried
            again (see `watched`); for others it is wall time. An encode without processor time does not have
            a broken codec: it gets `watched.STARVED_FACTOR` times as long, and never the fallback codec.
        poll_s: seconds between two checks of the progress.
        fallback_vcodec: codec for cameras on which the configured one fails; None for none.
        on_retry: called with a sentence for each encode that is begun again.

    Attributes:
        was_encoded: an earlier session had encoded it, so there was nothing to do.
    """

    def __init__(
        self,
        folder: EpisodeFolder,
        executor: Executor,
        *,
        stall_timeout_s: float | None = None,
        poll_s: float = 0.25,
        fallback_vcodec: str | None = None,
        on_retry: Callable[[str], None] = lambda problem: None,
    ) -> None:
        self._folder = folder
        self._executor = executor
        self._stall_timeout_s = stall_timeout_s
        self._poll_s = poll_s
        self._fallback_vcodec = fallback_vcodec
        self._on_retry = on_retry
        self._keys = tuple(folder.manifest.cameras)
        self._stats: dict[str, FeatureStats | None] = {}
        self._done: dict[str, EncodedCamera] = {}
        self._running: dict[Future[EncodedCamera], _Attempt] = {}
        self._lock = threading.Lock()
        self._aborted = False
        self.was_encoded = False

    def progress(self) -> float:
        """Share of the frames that are encoded, 0 to 1. Cheap; callable from any thread."""
        if not self._keys:
            return 1.0
        done = sum(self._frames_done(key) for key in self._keys)
        return done / max(1, len(self._keys) * (self._folder.manifest.length or 1))

    def run(self) -> EncodedEpisode:
        """Encode every camera and write ``encoded.json``. Blocking.

        Raises:
            EncodeError: a camera failed as often as it was tried, or `abort` was called.
            StateError: the executor was shut down, its jobs were cancelled by others, or it is broken.
            SaveTimeoutError: a camera failed as often as it was tried, and the last attempt hung.
            StorageError: the disk refused.
        """
        already = EncodedEpisode.load(self._folder)
        if already is not None and self._is_whole(already):
            self.was_encoded = True
            return already
        try:
            for key in self._keys:
                self._stats[key] = known_stats(self._folder, key)
                self._begin(key, 1, None)
            self._watch()
        finally:
            self._stop_all()
        encoded = EncodedEpisode({key: self._done[key] for key in self._keys})
        encoded.save(self._folder)
        return encoded

    def _is_whole(self, encoded: EncodedEpisode) -> bool:
        """Whether the files that an earlier session encoded match its record; else they are encoded again.

        Raises:
            StorageError: that cannot be determined.
        """
        manifest = self._folder.manifest
        length = manifest.length or 0
        for key, camera in encoded.cameras.items():
            path = self._folder.path / camera.file
            video = manifest.features[key]["dtype"] == "video"
            if camera.file != f"{key}.{'mp4' if video else 'png.arrow'}" or camera.frames != length:
                return False
            try:
                if not is_there(path) or path.lstat().st_size != camera.bytes:
                    return False
                camera.check(path, file_crc(path))
                if video:
                    verify_video(path, length, manifest.fps)
            except (DatasetError, EncodeError):
                return False
        return True

    def abort(self) -> None:
        """Stop the encodes under way: `run` raises EncodeError soon. Callable from any thread; idempotent."""
        with self._lock:
            self._aborted = True
            running = list(self._running)
        for future in running:
            self._stop(future)

    def _begin(self, key: str, number: int, fallback: str | None) -> None:
        job = EncodeJob(self._folder.path, key, fallback, with_stats=self._stats[key] is None)
        watch = None if self._stall_timeout_s is None else Watch(self._stall_timeout_s)
        attempt = _Attempt(key, number, fallback, watch)
        with self._lock:
            if self._aborted:
                raise EncodeError("The encoding was stopped.", camera=key)
            try:
                self._running[self._executor.submit(encode_camera, job)] = attempt
            except StateError:
                raise
            except RuntimeError as error:  # every executor raises this when it is shut down or broken
                raise self._executor_error(str(error)) from error

    def _watch(self) -> None:
        while self._running:
            concurrent.futures.wait(list(self._running), self._poll_s, concurrent.futures.FIRST_COMPLETED)
            # Checked one by one: `wait` does not see futures that an executor's shutdown cancelled.
            for future in [future for future in self._running if future.done()]:
                with self._lock:
                    attempt = self._running.pop(future)
                if self._aborted:
                    raise EncodeError("The encoding was stopped.", camera=attempt.key)
                if future.cancelled():
                    raise self._executor_error("the job was cancelled")
                error = future.exception()
                if error is None:
                    known = self._stats[attempt.key]
                    camera = future.result()
                    self._done[attempt.key] = replace(camera, stats=known) if known else camera
                else:
                    self._try_again(attempt, self._stall_error(attempt) if attempt.given_up else error)
            for future, attempt in self._running.items():
                self._check_stall(future, attempt)

    def _try_again(self, attempt: _Attempt, error: BaseException) -> None:
        """Begin the next attempt, or raise the error when there is none left."""
        if isinstance(error, NOT_RETRIED):
            raise error
        if not isinstance(error, Exception) or isinstance(error, concurrent.futures.CancelledError):
            # Raised unchanged, it would end the caller that waits for this thread.
            raise self._executor_error(f"the job ended with {type(error).__name__}") from error
        key = attempt.key
        what = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        if attempt.number < ATTEMPTS:
            problem = f"{key}: {what}; it is encoded again."
            number, fallback = attempt.number + 1, attempt.fallback
        elif attempt.given_up is Verdict.STARVED:
            raise error  # the codec is not known to be at fault
        elif attempt.fallback is None and self._fallback_vcodec is not None and self._has_fallback(key):
            problem = f"{key}: {what}; it is encoded with {self._fallback_vcodec} instead."
            number, fallback = 1, self._fallback_vcodec
        else:
            raise error
        logger.warning("Episode %s: %s", self._folder.id, problem)
        self._on_retry(problem)
        self._begin(key, number, fallback)

    def _has_fallback(self, key: str) -> bool:
        feature = self._folder.manifest.schema()[key]
        return (
            feature.is_video
            and not feature.is_depth
            and self._folder.manifest.rgb_encoder.vcodec != self._fallback_vcodec
        )

    def _check_stall(self, future: Future[EncodedCamera], attempt: _Attempt) -> None:
        """Kill an encode that has made no progress for too long.

        Raises:
            SaveTimeoutError: it has made none, and cannot be killed.
        """
        if attempt.watch is None:
            return
        attempt.watch.judge(self._executor, future, self._frames_done(attempt.key))
        if not isinstance(self._executor, WorkerPool) and attempt.watch.unseen_s > attempt.watch.limit_s:
            raise self._stall_error(attempt)

    def _executor_error(self, problem: str) -> StateError:
        return StateError(
            f"The executor does not encode any more ({problem.rstrip('.')}): the program shut it down or "
            "cancelled its jobs, or it broke."
        )

    def _stall_error(self, attempt: _Attempt) -> SaveTimeoutError:
        why = " because it did not get the processor" if attempt.given_up is Verdict.STARVED else ""
        limit_s = (self._stall_timeout_s or 0.0) * (STARVED_FACTOR if why else 1)
        return SaveTimeoutError(
            f"The encoding made no progress for {limit_s:g} s{why}. "
            "The episode stays in staging; `aiorecord recover` encodes it again.",
            episode_id=self._folder.id,
            staging=self._folder.path,
        )

    def _frames_done(self, key: str) -> int:
        length = self._folder.manifest.length or 0
        if key in self._done:
            return length
        return min(length, read_progress(progress_path(self._folder, key))[0])

    def _stop_all(self) -> None:
        """Stop running encodes, and wait until none writes into the folder any more."""
        with self._lock:
            left, self._running = self._running, {}
        for future in left:
            self._stop(future)
        # A hanging job in an executor that cannot kill jobs would never end.
        limit_s = None if isinstance(self._executor, WorkerPool) else self._stall_timeout_s
        # Jobs that never began are done already; `wait` would not see that.
        concurrent.futures.wait([future for future in left if not future.done()], limit_s)
        if all(future.done() for future in left):
            self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """Delete what processes that were killed have left; what this process writes it deletes itself."""
        own = f".{os.getpid()}{TEMPORARY_SUFFIX}"
        with contextlib.suppress(OSError):  # the next encode deletes it, and says what is wrong
            for entry in self._folder.path.iterdir():
                is_video = any(entry.name.startswith(f".{key}.") for key in self._keys)
                if is_video and entry.name.endswith(TEMPORARY_SUFFIX) and not entry.name.endswith(own):
                    entry.unlink(missing_ok=True)

    def _stop(self, future: Future[EncodedCamera]) -> None:
        give_up(self._executor, future)
