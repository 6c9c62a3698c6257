"""`EpisodeSave`, the handle of one save."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

from ..capture.episode import EpisodeCapture
from ..errors import SaveError, StateError
from ..options import check_priority
from ..staging.folder import EpisodeFolder
from .job import SaveJob
from .stages import EpisodeSaveResult, Stage, StageTimes


class EpisodeSave(Awaitable[EpisodeSaveResult]):
    """An ended episode on its way into the dataset. Await it to have it committed.

    Awaiting returns the `EpisodeSaveResult`, or raises `SaveError`. Cancelling the await cancels only the
    waiting; the save goes on.

    Args:
        source: the live capture that has just ended, or an episode that is on disk already.
        task: what the episode was recorded for.
        length: frames.
        now_ns: reads the clock.
        hold: encode, but do not commit before `release`.
        bytes_on_disk: size of an episode that is on disk already.

    Attributes:
        job: what the saver works on; for aiorecord's own use.
    """

    def __init__(
        self,
        source: EpisodeCapture | EpisodeFolder,
        *,
        task: str,
        length: int,
        now_ns: Callable[[], int],
        hold: bool = False,
        bytes_on_disk: int = 0,
    ) -> None:
        self.job = SaveJob(
            source, task=task, length=length, now_ns=now_ns, hold=hold, bytes_on_disk=bytes_on_disk
        )
        self._owner = self.job.owner

    def __await__(self) -> Generator[Any, None, EpisodeSaveResult]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        return f"<EpisodeSave {self.episode_id} {self.stage.words} {self.progress:.0%}>"

    @property
    def episode_id(self) -> str:
        """The episode's id in staging."""
        return self.job.episode_id

    @property
    def task(self) -> str:
        """What the episode was recorded for."""
        return self.job.task

    @property
    def length(self) -> int:
        """Frames."""
        return self.job.length

    @property
    def stage(self) -> Stage:
        """How far it is."""
        return self.job.stage

    @property
    def times(self) -> StageTimes:
        """When it reached each stage."""
        return self.job.times

    @property
    def progress(self) -> float:
        """Share of the frames encoded, 0 to 1."""
        return self.job.progress

    @property
    def attempts(self) -> int:
        """How often it was tried: submitted, and encodes begun again."""
        return self.job.attempts

    @property
    def problems(self) -> list[str]:
        """What went wrong on the way, a sentence each; also of a save that succeeded."""
        return self.job.problems

    @property
    def flags(self) -> list[str]:
        """What exceeds the episode's limits, as far as it is known."""
        return self.job.flags

    @property
    def error(self) -> BaseException | None:
        """What it failed with, None if it did not."""
        return self.job.error

    @property
    def priority(self) -> int:
        """Decides which of the waiting saves is encoded next, and which is committed next: higher first.

        It can be set, up and down, while the save waits, and is written to the episode's manifest behind the
        caller. Once the commit has begun, or the save was discarded, setting it changes nothing. A save of
        lower priority waits for as long as higher ones come faster than they are encoded.

        Raises:
            ConfigError: it is set to anything else than a whole number.
        """
        return self.job.priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._owner.check("Setting EpisodeSave.priority")
        self.job.set_priority(check_priority(priority))

    @property
    def held(self) -> bool:
        """Whether the commit waits for `release`."""
        return self.job.held

    @property
    def is_durable(self) -> bool:
        """Whether the episode is on disk, where `kill -9` and power loss cannot reach it."""
        return self.job.is_durable

    def done(self) -> bool:
        """Whether the save has ended: committed, failed or discarded."""
        return self.job.is_done

    def result(self) -> EpisodeSaveResult:
        """The outcome, also of a failed or discarded save.

        Raises:
            StateError: it is not done.
        """
        if self.job.result is None:
            raise StateError(f"Episode {self.episode_id} is not saved yet ({self.stage.words}); await it.")
        self.job.observed = True
        return self.job.result

    @property
    def outcome(self) -> EpisodeSaveResult | None:
        """As `result`, for those who only show it: None while there is none; a failure stays unobserved."""
        return self.job.result

    async def durable(self) -> None:
        """Wait until the episode is on disk, where `kill -9` and power loss cannot reach it.

        Raises:
            SaveError: it could not be written.
        """
        self._owner.check_awaited("EpisodeSave.durable()")
        await self.job.wait_durable()
        if self.stage is Stage.FAILED:
            await self._wait()

    def hold(self) -> None:
        """Do not commit before `release`. Too late once the commit has begun."""
        self._owner.check("EpisodeSave.hold()")
        self.job.set_held(True)

    def release(self) -> None:
        """Let a held save be committed. Idempotent."""
        self._owner.check("EpisodeSave.release()")
        self.job.set_held(False)

    def retry(self) -> None:
        """Submit a failed save again, as the last of its priority in the order of commits.

        Also one whose episode could not be written in the first place: what is still in memory is written.

        Raises:
            StateError: it has not failed, or its saver is stopped.
        """
        self._owner.check("EpisodeSave.retry()")
        self.job.retry()

    async def _wait(self) -> EpisodeSaveResult:
        self._owner.check_awaited("Awaiting an EpisodeSave")
        await self.job.wait_finished()
        result = self.result()
        if result.success:
            return result
        if isinstance(self.error, SaveError):
            raise self.error
        if self.stage is Stage.DISCARDED:
            raise SaveError(f"Episode {self.episode_id} was discarded.", episode_id=self.episode_id)
        job = self.job
        root = job.source.path.parents[2]  # above .aiorecord/episodes/<id>
        raise SaveError(
            f"Episode {self.episode_id} was not saved: {str(self.error).rstrip('.')}. It stays in staging; "
            f"call retry() on the save, or run `aiorecord recover {root}`.",
            episode_id=self.episode_id,
            staging=job.folder.path if job.folder else None,
        ) from self.error
