"""Watches the free disk space: a recording never fills the disk, and saves resume after it was full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from ..errors import DatasetLockedError, DiskFullError, StateError
from ..printable import get_logger
from ..system.disk import DiskMeter, DiskStatus, disk_refused
from ..system.machine_time import monotonic_s
from ..system.threads import Threads
from .failed import FailedSaves
from .saver import AsyncEpisodeSaver

logger = get_logger(__name__)

PERIOD_S = 1.0
"""How often the disk is looked at."""

RETRY_AFTER_S = 5.0
"""How long a save that the disk refused waits before it is tried again by itself; doubled each time."""

MAX_RETRIES = 8


class DiskGuard:
    """Looks at the disk once a second, off the loop.

    While less than the reserve is free it ends the running episode, which is kept, and lets none begin. Saves
    that failed because of the disk are submitted again when there is room.

    Args:
        root: the dataset's folder.
        reserve: bytes that are to stay free; 0 ends nothing.
        fps: of the dataset.
        saver: its saver.
        failed: the saves that failed.
        threads: where it looks at the disk.
        running: the folder of the running episode, None between episodes.
        waiting: bytes of frames in memory, which the disk will have to take too.
        end_episode: asks the running episode to end.
    """

    def __init__(
        self,
        root: Path,
        reserve: int,
        fps: int,
        *,
        saver: AsyncEpisodeSaver,
        failed: FailedSaves,
        threads: Threads,
        running: Callable[[], Path | None],
        waiting: Callable[[], int],
        end_episode: Callable[[str], None],
    ) -> None:
        self._meter = DiskMeter(root, reserve)
        self._fps = fps
        self._saver = saver
        self._failed = failed
        self._threads = threads
        self._running = running
        self._waiting = waiting
        self._end_episode = end_episode
        self._warned = False

    @property
    def status(self) -> DiskStatus:
        """The newest measurement."""
        return self._meter.status

    def follow(self, saver: AsyncEpisodeSaver) -> None:
        """Watch another saver from now on."""
        self._saver = saver

    async def measure(self) -> DiskStatus:
        """Look at the disk now."""
        per_frame = self._saver.final_bytes_per_frame()
        owed = round(per_frame * self._saver.frames_not_encoded()) + self._waiting()
        status = await self._threads.run(self._meter.look, self._running(), per_frame * self._fps, owed)
        self._warn(status)
        return status

    async def run(self) -> None:
        """Watch for ever; cancel it to stop."""
        while True:
            await asyncio.sleep(PERIOD_S)
            status = await self.measure()
            if status.is_full:
                self._end_episode(f"{status.describe()}. Free some space, or use another disk.")
            else:
                self._try_again()

    async def admit(self) -> None:
        """Return when there is room for an episode; where pending saves may make room, wait for them.

        Raises:
            DiskFullError: there is none.
        """
        if self.status.is_full:
            await self.measure()
        while self.status.is_full:
            if not self._saver.pending:
                raise DiskFullError(
                    f"{self.status.describe()}: no episode can begin. Free some space or use another disk, "
                    "and continue the dataset with resume=True (--resume=true).",
                    path=self._meter.root,
                    free_bytes=self.status.free,
                )
            for save in self._saver.pending:
                save.release()
            await self._saver.wait_for_next()
            await self.measure()

    def _try_again(self) -> None:
        for failed in self._failed:
            error, wait_s = failed.job.error, RETRY_AFTER_S * 2**failed.retries
            if not disk_refused(error) or isinstance(error, DatasetLockedError):
                continue
            if failed.retries < MAX_RETRIES and monotonic_s() >= failed.at_s + wait_s:
                failed.retries += 1
                try:
                    failed.job.retry()
                except StateError:  # the saver has been stopped
                    continue
                logger.warning("Episode %s is saved again: the disk has room.", failed.job.episode_id)

    def _warn(self, status: DiskStatus) -> None:
        if status.is_low and not self._warned:
            logger.warning("The disk runs full: %s.", status.describe())
        self._warned = status.is_low
