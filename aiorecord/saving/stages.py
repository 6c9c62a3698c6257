"""The stages of a save, the times at which it reached them, and its result."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any

from ..clock import NS_PER_S


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
