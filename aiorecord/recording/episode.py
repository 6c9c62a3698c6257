"""An episode that is being recorded: the object an application adds frames to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Literal, Self

from ..capture.episode import EpisodeCapture
from ..capture.frames import CameraStatus
from ..capture.unsaved import drop, keep, keep_partial
from ..clock import Lateness, Ticker
from ..errors import ConfigError, EncodeError, StateError, StorageError
from ..options import check_priority, check_task
from ..quality import MEASURED, Pace, QualityLimits
from ..saving.handle import EpisodeSave
from .core import RecorderCore, Recording
from .recorder_events import EpisodeBegan, EpisodeEnded, EpisodeOutcome


class Episode:
    """One episode being recorded; an async context manager made by `Recorder.episode`.

    Leaving the block ends the episode and saves it in the background; `save` is its handle. An exception (or
    cancellation) inside keeps the partial episode in staging, where ``aiorecord recover`` finds it.

    Attributes:
        task: what is being done.
        limits: limits beyond which the episode is flagged in the quality record.
        priority: of its save; it can still be changed on the save.
    """

    def __init__(
        self,
        core: RecorderCore,
        task: str,
        hold: bool,
        limits: QualityLimits | None = None,
        priority: int = 0,
    ) -> None:
        self.task = check_task(task)
        self.limits = limits or core.options.limits
        self.priority = check_priority(priority)
        self._save: EpisodeSave | None = None
        self._core = core
        self._owner = core.owner
        self._recording = Recording(
            folder=lambda: None if self._capture is None else self._capture.path,
            request_end=self._request_end_once_open,
            interrupt=self._leave,
            count_ticks_of=self._count_ticks_of,
            status=self._status,
        )
        self._hold = hold
        self._capture: EpisodeCapture | None = None
        self._state: Literal["new", "open", "ended"] = "new"
        self._discarded = False
        self._end_reason: str | None = None
        self._tickers: list[Ticker] = []

    @property
    def save(self) -> EpisodeSave:
        """The handle of its save; it exists once the block was left and the episode is kept.

        Raises:
            StateError: it does not exist: the episode has not ended, was discarded, or was interrupted by an
                exception.
        """
        if self._save is None:
            if self._state != "ended":
                why = "the episode has not ended. Read it after its `async with` block"
            elif self._discarded:
                why = "the episode was discarded"
            else:
                why = "an exception ended its block. `aiorecord recover` finds what was recorded"
            raise StateError(f"There is no save: {why}.")
        return self._save

    @property
    def has_save(self) -> bool:
        """Whether `save` exists: the block was left, and the episode is kept."""
        return self._save is not None

    @property
    def frames(self) -> int:
        """Frames recorded so far."""
        return self._capture.length if self._capture is not None else 0

    @property
    def id(self) -> str | None:
        """The episode's id in staging, None before it began."""
        return self._capture.id if self._capture is not None else None

    async def __aenter__(self) -> Self:
        self._owner.check_awaited("Entering an episode")
        if self._state != "new":
            raise StateError("An episode is recorded once; call recorder.episode() for each.")
        self._capture = await self._begin()
        self._state = "open"
        # Stored at once, because they also apply to an episode that is recovered after a kill.
        self._capture.manifest.priority = self.priority
        self._capture.annotate({"limits": asdict(self.limits)})
        return self

    @property
    def end_reason(self) -> str | None:
        """Why the episode was requested to end, None if it was not; see `request_end`."""
        return self._end_reason

    @property
    def cameras(self) -> dict[str, CameraStatus]:
        """The status of its cameras, by feature key; empty before it began."""
        return self._capture.status().cameras if self._capture is not None else {}

    @property
    def lateness(self) -> Lateness:
        """The lateness of its ticks, from every ticker that `Recorder.ticks` made while it was open."""
        return Lateness.merged(ticker.lateness for ticker in self._tickers)

    @property
    def lateness_so_far(self) -> dict[str, float | int]:
        """``ticks, worst_ms, missed`` of `lateness`, ``late`` ticks, ``recent_ms``, the worst of the newest.

        Costs the same however long the episode is.
        """
        counts = [ticker.lateness.counts() for ticker in self._tickers]
        recent = [ticker.lateness.recent() for ticker in self._tickers]
        return {
            "ticks": sum(c["ticks"] for c in counts),
            "worst_ms": max((c["worst_ms"] for c in counts), default=0.0),
            "missed": sum(c["missed"] for c in counts),
            "late": sum(late for _, late in recent),
            "recent_ms": round(recent[-1][0], 3) if recent else 0.0,
        }

    @property
    def flags(self) -> list[str]:
        """The limits exceeded so far, in words; the quality record stores the final ones. Cheap."""
        if self._capture is None:
            return []
        pace, fps = self._capture.pace, self._core.fps
        return self.limits.flags(self.lateness.counts(), self.cameras, pace=pace, fps=fps)

    @property
    def pace(self) -> Pace | None:
        """How fast its frames came; None before it began. Cheap."""
        return self._capture.pace if self._capture is not None else None

    def add_frame(
        self,
        frame: Mapping[str, Any],
        action: Mapping[str, Any] | None = None,
        *,
        frame_times_ns: Mapping[str, int] | None = None,
        copy: bool = True,
    ) -> int:
        """Record one frame. A plain call that never waits for the disk or an encoder.

        ``add_frame(observation, action)`` takes both as a robot and a teleoperator return them, keyed as the
        features or in LeRobot's flat style, and ignores values without a feature. ``add_frame(frame)``
        takes a value for every feature, and nothing else.

        Values are copied, so the caller may reuse its arrays. Numeric values have the shape of their feature
        and any dtype that becomes the feature's without loss, see `aiorecord.features.converted`; cameras are
        (H, W, C) or (C, H, W), uint8 or floats in [0, 1]; see `Schema.check`. A ``"task"`` in the frame
        replaces the episode's task for this frame.

        Args:
            frame: the whole frame, or the observation.
            action: what the teleoperator asked for; None when it is in `frame`.
            frame_times_ns: when each camera took its image, by feature key, on any scale of the camera's own;
                a camera whose time does not advance is counted as stale. Leave out times that are not known.
            copy: False records the images without copying them: they must never be changed again. Numbers are
                always copied.

        Returns:
            The frame's index in the episode.

        Raises:
            FrameError: the frame does not fit the features, or holds NaN or infinity and these are refused.
                The frame was not recorded; the episode goes on.
            StateError: the episode is not open; or the call comes from another thread than the event loop's,
                or from a forked child. Nothing of the frame was recorded.
            StorageError: the disk accepted no more data, and `end_reason` is set: leave the block; the frames
                recorded before are kept. Where this can be foreseen, tickers end before it happens.
            EncodeError: a capture encoder failed; likewise.
        """
        self._owner.check("Episode.add_frame()")
        if self._state != "open" or self._capture is None:
            raise StateError("The episode is not open: add frames inside `async with recorder.episode(...)`.")
        if self._discarded:
            raise StateError("The episode was discarded.")
        checked = self._core.checked_frames.check(frame, action)
        task = checked.task if checked.task is not None else self.task
        late = self._tickers[-1].lateness.newest_is_late() if self._tickers else None
        try:
            index = self._capture.add_frame(
                checked,
                task,
                self._core.clock.now_ns(),
                frame_times_ns=frame_times_ns,
                late=late,
                copy=copy,
            )
        except (StorageError, EncodeError) as error:
            self.request_end(str(error))
            raise
        self._core.newest_images = checked.images
        if self._end_reason is None and self._core.budget.is_overfull:
            waiting = self._core.budget.used >> 20
            self.request_end(
                f"The capture encoders and the disk are too slow: {waiting} MiB of frames wait. "
                "Record fewer or smaller images, or use a faster disk."
            )
        return index

    def request_end(self, reason: str) -> None:
        """Request that the episode ends now and is kept, for example because the disk fills up.

        Tickers that `Recorder.ticks` made while it was open end, and so do those made afterwards. Programs
        without these tickers check `end_reason`. Nothing is dropped: `add_frame` still accepts frames, and
        leaving the block saves the episode as usual. The first reason is kept, also in the quality record.
        Call it from the event loop's thread; it never blocks, and after the episode it does nothing.

        Args:
            reason: for the operator, a sentence.

        Raises:
            StateError: the episode has not begun.
        """
        self._owner.check("Episode.request_end()")
        if self._state == "new":
            raise StateError("The episode has not begun; enter its block first.")
        if self._state == "ended" or self._end_reason is not None:
            return
        self._end_reason = reason
        if self._capture is not None:
            self._capture.annotate({"end_reason": reason})
        for ticker in self._tickers:
            ticker.end()

    def _count_ticks_of(self, ticker: Ticker) -> None:
        """Take a ticker that was made while the episode is open."""
        self._tickers.append(ticker)
        if self._end_reason is not None:
            ticker.end()

    def annotate(self, **facts: Any) -> None:
        """Add facts about the episode to its quality record, such as ``lights="dim"``. Never blocks.

        Args:
            facts: JSON-ready values; a later one replaces an earlier one of the same name.

        Raises:
            ConfigError: a value is not JSON-ready, or the name is one of aiorecord's own (`MEASURED`).
            StateError: the episode is not open.
        """
        self._owner.check("Episode.annotate()")
        if taken := sorted(MEASURED & facts.keys()):
            raise ConfigError(f"{taken[0]!r} in the quality record is aiorecord's own; take another name.")
        if self._state != "open" or self._capture is None:
            raise StateError("The episode is not open: note facts inside `async with recorder.episode(...)`.")
        self._capture.annotate(facts)

    def note_calls(self, calls: Mapping[str, Mapping[str, float | int]]) -> None:
        """Add the durations of driver calls, from `new_call_times`, to the quality record.

        Raises:
            StateError: the episode is not open.
        """
        self._owner.check("Episode.note_calls()")
        if self._state != "open" or self._capture is None:
            raise StateError("The episode is not open.")
        self._capture.annotate({"calls": calls})

    def discard(self) -> None:
        """Drop the episode: it is deleted when the block is left. Idempotent.

        Raises:
            StateError: the episode has ended.
        """
        self._owner.check("Episode.discard()")
        if self._state != "open":
            raise StateError("Only an open episode can be discarded; discard an ended one through its save.")
        self._discarded = True

    def _measured(self) -> dict[str, Any]:
        """The facts that are noted about the episode when it ends."""
        facts: dict[str, Any] = {}
        lateness = self.lateness
        if len(lateness):
            facts["lateness"] = {**lateness.summary(), "source": "ticks"}
        return facts

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (
            error is None or not self._owner.is_forked
        ):  # in a forked child the error that ended the block says more
            self._owner.check_awaited("Leaving an episode")
            await self._leave(error)

    async def _begin(self) -> EpisodeCapture:
        core = self._core
        if core.recording is not None:
            raise StateError("An episode is being recorded already; end it before the next begins.")
        core.recording = self._recording
        try:
            capture = await core.take_capture()
        except BaseException:
            core.recording = None
            raise
        if core.last_save is not None:
            core.last_save.release()
        core.events.publish(EpisodeBegan(capture.id, self.task))
        return capture

    async def _leave(self, error: BaseException | None) -> None:
        """End the episode. The work for it runs to its end, also if the caller is cancelled meanwhile."""
        core, capture = self._core, self._capture
        if self._state == "ended":  # the recorder was closed before
            if error is None:
                raise StateError(self._closed_words("while it recorded"))
            return
        core.recording = None
        core.last_pace = self._pace()
        self._state = "ended"
        if capture is None:
            return
        name = f"aiorecord-end-{capture.id}"
        if capture.length and not self._discarded:
            capture.annotate(self._measured())
        kept: EpisodeOutcome = "saved" if error is None else "interrupted"
        outcome: EpisodeOutcome = "discarded" if self._discarded else kept if capture.length else "empty"
        core.events.publish(
            EpisodeEnded(capture.id, self.task, capture.length, outcome, self.end_reason, tuple(self.flags))
        )
        if self._discarded:
            # In the background: deleting a long episode takes a while, and the next one may start now.
            core.tasks.finish(drop(capture, core.threads), f"aiorecord-discard-{capture.id}")
        elif error is not None:
            await core.finish(keep_partial(capture, error, core.threads), name)
        elif capture.length == 0:
            await core.finish(core.threads.run(capture.discard), name)
            raise StateError("The episode has no frames: nothing was saved. Call add_frame, or discard().")
        else:
            save = core.save_of(capture, self.task, capture.length, hold=self._hold, flags=self.flags)
            if core.is_closing or not core.saver.takes_episodes:
                # Others closed it meanwhile, or cancelled its tasks: the episode ended well all the same.
                await core.finish(keep(capture, core.threads), name)
                raise StateError(self._closed_words("when the episode ended"))
            self._save = core.last_save = save
            await core.submit(save)

    def _closed_words(self, when: str) -> str:
        return (
            f"The recorder was closed {when}. The episode is in staging: "
            f"`aiorecord recover {self._core.root}` brings it into the dataset."
        )

    def _request_end_once_open(self, reason: str) -> None:
        if self._capture is not None:
            self.request_end(reason)

    def _pace(self) -> dict[str, Any]:
        return {"fps": self.pace.fps if self.pace else None, "lateness": self.lateness_so_far}

    def _status(self) -> dict[str, Any]:
        status = None if self._capture is None else self._capture.status()
        return {"episode": status, "flags": self.flags, **self._pace()}
