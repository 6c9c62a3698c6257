"""`SaveJob`, one save as the saver works on it; `EpisodeSave` is what others see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..capture.episode import EpisodeCapture
from ..clock import NS_PER_S
from ..errors import StateError
from ..printable import get_logger
from ..staging.folder import EpisodeFolder
from ..staging.kinds import KINDS
from ..system.loop_owner import LoopOwner
from .stages import FINAL_STAGES, EpisodeSaveResult, Stage, StageTimes

if TYPE_CHECKING:
    from ..encoding.encoded import EncodedEpisode
    from ..encoding.episode_encoding import EpisodeEncoding

logger = get_logger(__name__)

FLAG_LOGGER = "aiorecord.flags"
"""Logger of flagged episodes; a logger of its own, so that programs that display flags can silence it."""

flag_logger = get_logger(FLAG_LOGGER)


class SaveJob:
    """An ended episode, and what has been done to save it. Made by `EpisodeSave`, whose arguments it takes.

    Attributes:
        source: the capture, or the folder of an episode that is on disk already.
        folder: the episode's folder, None while its last frames are not on disk.
        stage: how far it is.
        times: when it reached each stage.
        attempts: how often it was tried: submitted, and encodes begun again.
        problems: what went wrong on the way.
        flags: what exceeds the episode's limits.
        encoding: the encode under way.
        encoded: its outcome, not committed yet.
        committing: the commit has begun.
        priority: higher ones go first.
        held: the commit waits.
        error: what it failed with.
        result: the outcome, None before there is one.
        observed: somebody has been told of the outcome.
        owner: the event loop that it belongs to once it is submitted.
        on_stage: called when it reaches a stage.
    """

    def __init__(
        self,
        source: EpisodeCapture | EpisodeFolder,
        *,
        task: str,
        length: int,
        now_ns: Callable[[], int],
        hold: bool,
        bytes_on_disk: int,
    ) -> None:
        self.source = source
        self.folder: EpisodeFolder | None = source if isinstance(source, EpisodeFolder) else None
        self.task = task
        self.length = length
        self.stage = Stage.RECORDING
        self.times = StageTimes(now_ns())
        self.attempts = 1
        self.problems: list[str] = []
        self.flags: list[str] = []
        self.encoding: EpisodeEncoding | None = None
        self.encoded: EncodedEpisode | None = None
        self.committing = False
        self.priority = source.manifest.priority
        self.held = hold
        self.error: BaseException | None = None
        self.result: EpisodeSaveResult | None = None
        self.observed = False
        self.owner = LoopOwner("save")
        self.on_stage: Callable[[Stage], None] = lambda stage: None
        self._bytes_on_disk = bytes_on_disk
        self._now_ns = now_ns
        self._durable = asyncio.Event()
        self._finished = asyncio.Event()
        self._held: Callable[[], None] = lambda: None
        self._reprioritized: Callable[[], None] = lambda: None
        self._resubmit: Callable[[], None] | None = None

    @property
    def episode_id(self) -> str:
        """The episode's id in staging."""
        return self.source.id

    @property
    def capture(self) -> EpisodeCapture | None:
        """The capture that has ended, None for an episode of an earlier session."""
        return self.source if isinstance(self.source, EpisodeCapture) else None

    @property
    def is_durable(self) -> bool:
        """Whether the episode is on disk, where `kill -9` and power loss cannot reach it."""
        return self.folder is not None or (self.capture is not None and self.capture.is_durable)

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.stage in FINAL_STAGES

    def is_final(self) -> bool:
        """Whether it is too late to take the episode back: the commit has begun, or it was discarded."""
        return self.committing or self.stage in (Stage.COMMITTED, Stage.DISCARDED)

    @property
    def progress(self) -> float:
        """Share of the frames encoded, 0 to 1."""
        if self.encoded is not None:
            return 1.0
        return self.encoding.progress() if self.encoding is not None else 0.0

    @property
    def frames_to_encode(self) -> int:
        """Frames over all cameras that an encoder has to work on: none of those captured live."""
        cameras = (self.folder or self.source).manifest.cameras.values()
        return sum(c.spilled if KINDS[c.capture].is_final else self.length for c in cameras)

    @property
    def staged_bytes(self) -> int:
        """What the captured frames take in staging; those that still wait in memory count in full."""
        if self.capture is None:
            return self._bytes_on_disk
        return sum(c.bytes_written + c.queued_bytes for c in self.capture.status().cameras.values())

    def attach(
        self,
        held: Callable[[], None],
        reprioritized: Callable[[], None],
        resubmit: Callable[[], None],
    ) -> None:
        """Connect it to its saver.

        Args:
            held: called when it was held or released.
            reprioritized: called when its priority was set.
            resubmit: has the saver take it again after it failed.

        Raises:
            StateError: there is no event loop.
        """
        self.owner.bind()
        self._held, self._reprioritized, self._resubmit = held, reprioritized, resubmit

    def set_held(self, held: bool) -> None:
        """Have the commit wait, or not."""
        self.held = held
        self._held()

    def set_priority(self, priority: int) -> None:
        """Change the priority, unless it is too late."""
        if not self.is_final():
            self.priority = priority
            self._reprioritized()

    def retry(self) -> None:
        """Submit it again; see `EpisodeSave.retry`. If the saver does not take it, it stays failed."""
        if self.stage is not Stage.FAILED or self._resubmit is None:
            raise StateError(f"Only a failed save can be retried; {self.episode_id} is {self.stage.words}.")
        self._resubmit()

    def begin_again(self) -> None:
        """Forget how it failed: the saver has taken it again."""
        self.attempts += 1
        self.error = self.result = self.encoded = None
        self.observed = False
        self._finished = asyncio.Event()
        self.stage = Stage.DURABLE
        if self.folder is None:
            self._durable = asyncio.Event()
            self.stage = Stage.RECORDING

    def note_encode_retry(self, problem: str) -> None:
        """Count an encode that is begun again. Called from the thread of the encode."""
        self.attempts += 1
        self.problems.append(problem)

    def note_problem(self, problem: str) -> None:
        """Note what went wrong and cost nothing, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def flag(self, flags: Sequence[str]) -> None:
        """Note what exceeds the episode's limits. News is logged."""
        if news := [flag for flag in flags if flag not in self.flags]:
            flag_logger.warning("Episode %s is flagged: %s.", self.episode_id, "; ".join(news))
        self.flags = list(flags)

    def cut_to(self, length: int, failure: BaseException | None) -> None:
        """Note that the episode could only be kept in part."""
        problem = f"{self.length - length} of {self.length} frames are lost: {failure}"
        logger.error("Episode %s: %s", self.episode_id, problem)
        self.problems.append(problem)
        self.length = length

    def mark(self, stage: Stage) -> None:
        """Enter a stage."""
        self.stage = stage
        if stage in (Stage.DURABLE, Stage.ENCODING, Stage.ENCODED, Stage.COMMITTED):
            setattr(self.times, f"{stage}_ns", self._now_ns())
        if stage is not Stage.RECORDING:
            self._durable.set()
        self.on_stage(stage)

    def finish(
        self,
        stage: Stage,
        *,
        episode_index: int | None = None,
        size: int = 0,
        error: BaseException | None = None,
    ) -> EpisodeSaveResult:
        """End in one of the final stages. An encode that is under way is stopped.

        Args:
            stage: the final stage.
            episode_index: in the dataset, if it is committed.
            size: bytes that the commit added to the dataset.
            error: what it failed with.
        """
        self.error = error
        self.mark(stage)
        times = self.times
        self.result = EpisodeSaveResult(
            episode_id=self.episode_id,
            success=stage is Stage.COMMITTED,
            episode_index=episode_index,
            length=self.length,
            task=self.task,
            error=None if error is None else f"{type(error).__name__}: {error}",
            duration_s=(self._now_ns() - times.ended_ns) / NS_PER_S,
            durable_s=times.seconds_to("durable"),
            encoded_s=times.seconds_to("encoded"),
            committed_s=times.seconds_to("committed"),
            bytes=size,
            flags=list(self.flags),
            priority=self.priority,
        )
        self._finished.set()
        if self.encoding is not None:
            self.encoding.abort()
        return self.result

    async def wait_durable(self) -> None:
        """Wait until it is on disk or has ended without."""
        await self._durable.wait()

    async def wait_finished(self) -> None:
        """Wait until it has ended."""
        await self._finished.wait()

    def delete_episode(self) -> None:
        """Delete what is in staging. Blocking."""
        if self.folder is not None:
            self.folder.remove()
        elif self.capture is not None:
            self.capture.discard()
