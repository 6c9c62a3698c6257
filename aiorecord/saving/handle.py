"""`EpisodeSave`, the handle of one save, and its stages, times and result."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..capture.episode import EpisodeCapture
from ..clock import NS_PER_S
from ..errors import SaveError, StateError
from ..options import check_priority
from ..printable import get_logger
from ..staging.folder import EpisodeFolder
from ..staging.kinds import KINDS
from ..system.loop_owner import LoopOwner

logger = get_logger(__name__)

FLAG_LOGGER = "aiorecord.flags"
"""Logger of flagged episodes; a logger of its own, so that programs that display flags can silence it."""

flag_logger = get_logger(FLAG_LOGGER)

if TYPE_CHECKING:
    from ..encoding.encoded import EncodedEpisode
    from ..encoding.episode_encoding import EpisodeEncoding


class Stage(enum.StrEnum):
    """How far a save is.

    ``recording`` until the end of the episode is on disk, ``durable`` while it waits for an encoder,
    ``encoding`` until every video is encoded and verified, ``encoded`` while it waits for its commit (its
    turn, or `EpisodeSave.release`), then ``committed``. Otherwise ``failed`` (the episode stays in staging)
    or ``discarded`` (taken back on request).
    """

    RECORDING = "recording"
    DURABLE = "durable"
    ENCODING = "encoding"
    ENCODED = "encoded"
    COMMITTED = "committed"
    FAILED = "failed"
    DISCARDED = "discarded"

    @property
    def words(self) -> str:
        """Words for a display. ``recording`` reads "not on disk yet": the episode itself has ended."""
        said = {Stage.RECORDING: "not on disk yet", Stage.ENCODED: "encoded, waiting for the commit"}
        return said.get(self, self.value)


FINAL_STAGES = frozenset({Stage.COMMITTED, Stage.FAILED, Stage.DISCARDED})


@dataclass
class StageTimes:
    """When a save reached its stages, in ns of the recorder's clock; None if it has not."""

    ended_ns: int
    durable_ns: int | None = None
    encoding_ns: int | None = None
    encoded_ns: int | None = None
    committed_ns: int | None = None

    def seconds_to(self, stage: str) -> float | None:
        """Seconds from the episode's end to ``durable``, ``encoding``, ``encoded`` or ``committed``."""
        reached_ns: int | None = getattr(self, f"{stage}_ns")
        return None if reached_ns is None else (reached_ns - self.ended_ns) / NS_PER_S


@dataclass(frozen=True)
class EpisodeSaveResult:
    """The outcome of a save.

    Attributes:
        episode_id: id of the episode in staging.
        success: committed or not.
        episode_index: its index in the dataset, None unless committed.
        length: frames.
        task: what the episode was recorded for.
        error: what went wrong, None if nothing.
        duration_s: seconds from the episode's end to the outcome.
        durable_s: seconds from the episode's end until it was on disk, None if it never was.
        encoded_s: likewise, until every video was encoded and verified.
        committed_s: likewise, until a reader sees it.
        bytes: size of what the commit added to the dataset.
        flags: what exceeds the episode's limits (`QualityLimits`), a sentence each: it was recorded too
            slowly, with gaps, or with repeated frames. As in the quality record.
        priority: of the save in the end.
    """

    episode_id: str
    success: bool
    episode_index: int | None
    length: int
    task: str
    error: str | None
    duration_s: float
    durable_s: float | None
    encoded_s: float | None
    committed_s: float | None
    bytes: int = 0
    flags: list[str] = field(default_factory=list)
    priority: int = 0

    @property
    def error_message(self) -> str | None:
        """`error`, by the name that it has in LeRobot's proposal."""
        return self.error

    @property
    def save_time(self) -> float:
        """`duration_s`, by the name that it has in LeRobot's proposal."""
        return self.duration_s

    def as_dict(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return dataclasses.asdict(self)


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
        stage: how far it is.
        times: when it reached each stage.
        attempts: how often it was tried: submitted, and encodes begun again.
        problems: what went wrong on the way, a sentence each; also of a save that succeeded.
        flags: what exceeds the episode's limits, as far as it is known.
        on_failure: called when it fails.
        on_stage: called when it reaches a stage, with the stage.
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
        self._bytes_on_disk = bytes_on_disk
        self.source = source
        self.task = task
        self.length = length
        self.stage = Stage.RECORDING
        self.times = StageTimes(now_ns())
        self.attempts = 1
        self.problems: list[str] = []
        self.flags: list[str] = []
        self.folder: EpisodeFolder | None = source if isinstance(source, EpisodeFolder) else None
        self.encoding: EpisodeEncoding | None = None
        self.encoded: EncodedEpisode | None = None
        self.committing = False
        self.observed = False
        self.error: BaseException | None = None
        self.on_failure: Callable[[EpisodeSave], None] = lambda save: None
        self.on_stage: Callable[[EpisodeSave, Stage], None] = lambda save, stage: None
        self._now_ns = now_ns
        self._held = hold
        self._priority = source.manifest.priority
        self._owner = LoopOwner("save")
        self._durable = asyncio.Event()
        self._finished = asyncio.Event()
        self._changed: Callable[[], None] = lambda: None
        self._resubmit: Callable[[EpisodeSave], None] | None = None
        self._reprioritized: Callable[[EpisodeSave], None] = lambda save: None
        self._result: EpisodeSaveResult | None = None

    def __await__(self) -> Generator[Any, None, EpisodeSaveResult]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        return f"<EpisodeSave {self.episode_id} {self.stage.words} {self.progress:.0%}>"

    @property
    def episode_id(self) -> str:
        """The episode's id in staging."""
        return self.source.id

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
        if isinstance(self.source, EpisodeFolder):
            return self._bytes_on_disk
        return sum(c.bytes_written + c.queued_bytes for c in self.source.status().cameras.values())

    @property
    def priority(self) -> int:
        """Decides which of the waiting saves is encoded next, and which is committed next: higher first.

        It can be set, up and down, while the save waits, and is written to the episode's manifest behind the
        caller. Once the commit has begun, or the save was discarded, setting it changes nothing. A save of
        lower priority waits for as long as higher ones come faster than they are encoded.

        Raises:
            ConfigError: it is set to anything else than a whole number.
        """
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._owner.check("Setting EpisodeSave.priority")
        check_priority(priority)
        if self.committing or self.stage in (Stage.COMMITTED, Stage.DISCARDED):
            return
        self._priority = priority
        self._changed()
        self._reprioritized(self)

    @property
    def held(self) -> bool:
        """Whether the commit waits for `release`."""
        return self._held

    @property
    def is_durable(self) -> bool:
        """Whether the episode is on disk, where `kill -9` and power loss cannot reach it."""
        return self.folder is not None or (isinstance(self.source, EpisodeCapture) and self.source.is_durable)

    def done(self) -> bool:
        """Whether the save has ended: committed, failed or discarded."""
        return self.stage in FINAL_STAGES

    def result(self) -> EpisodeSaveResult:
        """The outcome, also of a failed or discarded save.

        Raises:
            StateError: it is not done.
        """
        if self._result is None:
            raise StateError(f"Episode {self.episode_id} is not saved yet ({self.stage.words}); await it.")
        self.observed = True
        return self._result

    @property
    def outcome(self) -> EpisodeSaveResult | None:
        """As `result`, for those who only show it: None while there is none; a failure stays unobserved."""
        return self._result

    async def durable(self) -> None:
        """Wait until the episode is on disk, where `kill -9` and power loss cannot reach it.

        Raises:
            SaveError: it could not be written.
        """
        self._owner.check_awaited("EpisodeSave.durable()")
        await self._durable.wait()
        if self.stage is Stage.FAILED:
            await self._wait()

    def hold(self) -> None:
        """Do not commit before `release`. Too late once the commit has begun."""
        self._owner.check("EpisodeSave.hold()")
        self._held = True

    def release(self) -> None:
        """Let a held save be committed. Idempotent."""
        self._owner.check("EpisodeSave.release()")
        self._held = False
        self._changed()

    def retry(self) -> None:
        """Submit a failed save again, as the last of its priority in the order of commits.

        Also one whose episode could not be written in the first place: what is still in memory is written.

        Raises:
            StateError: it has not failed, or its saver is stopped.
        """
        self._owner.check("EpisodeSave.retry()")
        if self.stage is not Stage.FAILED or self._resubmit is None:
            raise StateError(f"Only a failed save can be retried; {self.episode_id} is {self.stage.words}.")
        resubmit = self._resubmit
        self.attempts += 1
        self.error = self._result = self.encoding = self.encoded = None
        self.observed = False
        self._finished = asyncio.Event()
        self.stage = Stage.DURABLE
        if self.folder is None:
            self._durable = asyncio.Event()
            self.stage = Stage.RECORDING
        resubmit(self)

    def note_retry(self, problem: str) -> None:
        """Count an encode that is begun again (for the saver; from the save's thread)."""
        self.attempts += 1
        self.problems.append(problem)

    def note(self, problem: str) -> None:
        """Add to `problems` what went wrong and cost nothing (for the saver)."""
        if problem not in self.problems:
            self.problems.append(problem)

    def flag(self, flags: Sequence[str]) -> None:
        """Note what exceeds the episode's limits (for the recorder and the saver). News is logged."""
        if news := [flag for flag in flags if flag not in self.flags]:
            flag_logger.warning("Episode %s is flagged: %s.", self.episode_id, "; ".join(news))
        self.flags = list(flags)

    def cut_to(self, length: int, failure: BaseException | None) -> None:
        """Note that the episode could only be kept in part (for the saver)."""
        problem = f"{self.length - length} of {self.length} frames are lost: {failure}"
        logger.error("Episode %s: %s", self.episode_id, problem)
        self.problems.append(problem)
        self.length = length

    def mark(self, stage: Stage) -> None:
        """Enter a stage (for the saver)."""
        self.stage = stage
        if stage in (Stage.DURABLE, Stage.ENCODING, Stage.ENCODED, Stage.COMMITTED):
            setattr(self.times, f"{stage}_ns", self._now_ns())
        if stage is not Stage.RECORDING:
            self._durable.set()
        self.on_stage(self, stage)

    def finish(
        self,
        stage: Stage,
        *,
        episode_index: int | None = None,
        size: int = 0,
        error: BaseException | None = None,
    ) -> EpisodeSaveResult:
        """Come to an end (for the saver)."""
        self.error = error
        self.mark(stage)
        times = self.times
        self._result = EpisodeSaveResult(
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
            priority=self._priority,
        )
        self._finished.set()
        return self._result

    def attach(
        self,
        changed: Callable[[], None],
        resubmit: Callable[[EpisodeSave], None],
        reprioritized: Callable[[EpisodeSave], None],
    ) -> None:
        """Connect to the saver that owns it (for the saver)."""
        self._owner.bind()
        self._changed = changed
        self._resubmit = resubmit
        self._reprioritized = reprioritized

    async def wait_durable(self) -> None:
        """Wait until it is on disk or has ended without (for the saver)."""
        await self._durable.wait()

    async def _wait(self) -> EpisodeSaveResult:
        self._owner.check_awaited("Awaiting an EpisodeSave")
        await self._finished.wait()
        result = self.result()
        if result.success:
            return result
        if isinstance(self.error, SaveError):
            raise self.error
        if self.stage is Stage.DISCARDED:
            raise SaveError(f"Episode {self.episode_id} was discarded.", episode_id=self.episode_id)
        root = self.source.path.parents[2]  # above .aiorecord/episodes/<id>
        raise SaveError(
            f"Episode {self.episode_id} was not saved: {str(self.error).rstrip('.')}. It stays in staging; "
            f"call retry() on the save, or run `aiorecord recover {root}`.",
            episode_id=self.episode_id,
            staging=self.folder.path if self.folder else None,
        ) from self.error


@dataclass
class SaveCounts:
    """What a saver has done so far."""

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    discarded: int = 0
    last_error: str | None = field(default=None)
    final_bytes: int = 0
    final_frames: int = 0
