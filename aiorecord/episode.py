"""An episode being recorded, as the application sees it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from .capture.episode import EpisodeCapture
from .errors import StateError
from .saves import EpisodeSave

if TYPE_CHECKING:
    from .recorder import Recorder


class Episode:
    """One episode being recorded; an async context manager made by `Recorder.episode`.

    Leaving the block ends the episode and saves it behind the robot; `save` is its handle. An exception (or
    cancellation) inside keeps the partial episode in staging, where ``aiorecord recover`` finds it.

    Attributes:
        task: what is being done.
        save: the handle, set when the block was left well; None before, and after `discard`.
    """

    def __init__(self, recorder: Recorder, task: str, hold: bool) -> None:
        self.task = task
        self.save: EpisodeSave | None = None
        self._recorder = recorder
        self._hold = hold
        self._capture: EpisodeCapture | None = None
        self._state: Literal["new", "open", "ended"] = "new"
        self._discarded = False

    @property
    def frames(self) -> int:
        """Frames recorded so far."""
        return self._capture.length if self._capture is not None else 0

    @property
    def id(self) -> str | None:
        """The episode's id in staging, None before it began."""
        return self._capture.id if self._capture is not None else None

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise StateError("An episode is recorded once; call recorder.episode() for each.")
        self._capture = await self._recorder._begin(self)
        self._state = "open"
        return self

    def add_frame(self, frame: Mapping[str, Any]) -> int:
        """Record one frame. A plain call that never waits for the disk or an encoder.

        What the caller may reuse is copied. Numeric values have the dtype and shape of their feature;
        cameras are (H, W, C) or (C, H, W), uint8 or floats in [0, 1]; see `Schema.check`. A ``"task"`` in
        the frame replaces the episode's task for this frame.

        Args:
            frame: a value for every feature.

        Returns:
            The frame's index in the episode.

        Raises:
            FrameError: the frame does not fit the features, or holds NaN where they are refused. Nothing of
                it was recorded; the episode goes on.
            StateError: the episode is not open.
            StorageError: the disk took no more; what was recorded before stays in staging.
            EncodeError: a capture encoder failed; likewise.
        """
        if self._state != "open" or self._capture is None:
            raise StateError("The episode is not open: add frames inside `async with recorder.episode(...)`.")
        if self._discarded:
            raise StateError("The episode was discarded.")
        checked = self._recorder._check(frame)
        task = checked.task if checked.task is not None else self.task
        return self._capture.add_frame(checked, task, self._recorder.clock.now_ns())

    def discard(self) -> None:
        """Drop the episode: nothing of it is kept when the block is left. Idempotent.

        Raises:
            StateError: the episode has ended.
        """
        if self._state != "open":
            raise StateError("Only an open episode can be discarded; take an ended one back with its save.")
        self._discarded = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._recorder._end(self, error)
