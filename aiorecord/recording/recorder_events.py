"""The events of a recorder, which `Recorder.events` yields.

::

    async for event in recorder.events():
        match event:
            case aiorecord.SaveChanged(save=save, stage=aiorecord.Stage.COMMITTED):
                print(f"episode {save.result().episode_index} is in the dataset")
            case aiorecord.PhaseChanged(phase=phase):
                print(phase)
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..saving.handle import EpisodeSave
    from ..saving.stages import Stage

type EpisodeOutcome = Literal["saved", "discarded", "interrupted", "empty"]
"""The outcome of an episode when its block was left. ``interrupted``: an exception ended it, and its frames
are in staging. ``empty``: it had no frames."""


@dataclass(frozen=True)
class RecorderEvent:
    """Base class of a recorder's events."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: ``event``, the name of its class, and its fields."""
        return {"event": type(self).__name__}


@dataclass(frozen=True)
class EpisodeBegan(RecorderEvent):
    """An episode is ready for its first frame.

    Attributes:
        episode_id: its id in staging, which its save has too.
        task: the task, in words.
    """

    episode_id: str
    task: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return super().as_dict() | {"episode_id": self.episode_id, "task": self.task}


@dataclass(frozen=True)
class EpisodeEnded(RecorderEvent):
    """The block of an episode was left; the next one may begin.

    Attributes:
        episode_id: as in `EpisodeBegan`.
        task: likewise.
        frames: recorded.
        outcome: whether it is saved, dropped or left in staging.
        end_reason: why it was requested to end, None if it was not; see `Episode.request_end`.
        flags: the limits exceeded so far, in words.
    """

    episode_id: str
    task: str
    frames: int
    outcome: EpisodeOutcome
    end_reason: str | None
    flags: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return super().as_dict() | {
            "episode_id": self.episode_id,
            "task": self.task,
            "frames": self.frames,
            "outcome": self.outcome,
            "end_reason": self.end_reason,
            "flags": list(self.flags),
        }


@dataclass(frozen=True)
class SaveChanged(RecorderEvent):
    """A save reached a stage: ``durable``, ``encoding``, ``encoded``, then one of the three ends.

    It is ``committed``, ``failed`` or ``discarded`` in the end.

    A retried save goes through the stages again. `EpisodeSave.progress` has the progress of an encode.

    Attributes:
        save: the save; it may be further by now.
        stage: the stage that it reached at this event.
    """

    save: EpisodeSave
    stage: Stage

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; with the outcome once there is one."""
        save = self.save
        known: dict[str, Any] = {"episode_id": save.episode_id, "task": save.task, "stage": self.stage.value}
        if save.outcome is not None and save.stage is self.stage:
            known |= {"episode_index": save.outcome.episode_index, "error": save.outcome.error}
        return super().as_dict() | known | {"frames": save.length}


@dataclass(frozen=True)
class PackingBegan(RecorderEvent):
    """The files of single episodes are being merged; commits wait meanwhile. `PackingEnded` or
    `PackingFailed` follows, even if the task that waits for it is cancelled."""


@dataclass(frozen=True)
class PackingEnded(RecorderEvent):
    """The files were merged, or there were none to merge.

    Attributes:
        merged_files: number of merged files.
        written_files: number of data and video files written.
        written_bytes: their size.
    """

    merged_files: int
    written_files: int
    written_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return super().as_dict() | {
            "merged_files": self.merged_files,
            "written_files": self.written_files,
            "written_bytes": self.written_bytes,
        }


@dataclass(frozen=True)
class PackingFailed(RecorderEvent):
    """The files could not be merged. Every episode is still in the dataset, which is valid.

    Attributes:
        error: why, in words.
    """

    error: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return super().as_dict() | {"error": self.error}


class EventStream:
    """An async iterator over the events from now on; made by `Recorder.events`.

    It ends when the recorder is closed. A slow reader delays nothing: when more than `limit` events wait, the
    oldest are dropped and counted. Cancelling the wait for an event loses none. For one task.

    Attributes:
        missed: events that were dropped.
    """

    def __init__(self, limit: int, closed: bool) -> None:
        if limit < 1:
            raise ConfigError(f"A stream of events holds 1 or more, not {limit}.", option="limit")
        self.missed = 0
        self._waiting: deque[RecorderEvent] = deque()
        self._limit = limit
        self._closed = closed
        self._news = asyncio.Event()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> RecorderEvent:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def close(self) -> None:
        """Accept no further events; waiting ones are still delivered. Idempotent."""
        self._closed = True
        self._news.set()

    def push(self, event: RecorderEvent) -> None:
        """Add an event for the reader. Never blocks; after `close` it does nothing."""
        if self._closed:
            return
        if len(self._waiting) == self._limit:
            self._waiting.popleft()
            self.missed += 1
        self._waiting.append(event)
        self._news.set()


class Events:
    """Passes events to every stream that is still referenced. On one event loop."""

    def __init__(self) -> None:
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._closed = False

    def stream(self, limit: int) -> EventStream:
        """Make a new stream; after `close` it has already ended."""
        stream = EventStream(limit, self._closed)
        self._streams.add(stream)
        return stream

    def publish(self, event: RecorderEvent) -> None:
        """Pass an event to every stream. Never blocks."""
        for stream in list(self._streams):
            stream.push(event)

    def close(self) -> None:
        """End the streams. Idempotent."""
        self._closed = True
        for stream in list(self._streams):
            stream.close()
