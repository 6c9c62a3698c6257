"""What a view shows: one plain picture of a session, taken from its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ..clock import NS_PER_S
from ..saves import EpisodeSave, Stage
from ..session import Phase, Session
from ..storage import free_bytes


@dataclass(frozen=True)
class CameraRow:
    """One camera of the running episode."""

    name: str
    captured: int
    queued: int
    queued_bytes: int
    spilled: int
    error: str | None


@dataclass(frozen=True)
class SaveRow:
    """One save under way."""

    label: str
    frames: int
    stage: str
    progress: float
    held: bool
    error: str | None


@dataclass(frozen=True)
class Snapshot:
    """A session at one moment. Times in seconds, sizes in bytes.

    Attributes:
        seconds_left: of the running phase, None if it has no end of its own.
        rate: effective ticks per second of the running phase.
        late_ms: the worst lateness among the newest ticks.
        backlog_frames: frames of ended episodes that are not encoded yet, over all cameras.
        backlog_s: how long encoding them will take at the rate measured so far, None before it is known.
        minutes_left: recording time for which the disk has room, None before it is known.
    """

    phase: Phase
    number: int
    total: int
    task: str
    seconds_left: float | None
    fps: int
    rate: float | None
    late_ms: float
    late_ticks: int
    frames: int
    episodes: int
    cameras: list[CameraRow]
    saves: list[SaveRow]
    backlog_frames: int
    backlog_s: float | None
    free: int
    minutes_left: float | None
    messages: list[str] = field(default_factory=list)


class Observer:
    """Takes snapshots of a session, and remembers what is needed for rates.

    Args:
        session: the session; its recorder is open.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.messages: list[str] = []
        self._free = free_bytes(session.recorder.root)
        self._bytes_per_s: float | None = None
        self._encoded: tuple[float, int] | None = None
        self._encode_rate: float | None = None

    def say(self, message: str) -> None:
        """Keep a message for the view; the newest few are shown."""
        self.messages.append(message)
        del self.messages[:-5]

    def refresh_disk(self) -> None:
        """Read the free space of the disk. Blocking; call it from a thread."""
        self._free = free_bytes(self.session.recorder.root)

    def take(self) -> Snapshot:
        """A snapshot of now. Cheap: no I/O."""
        session = self.session
        recorder, plan, ticker = session.recorder, session.plan, session.ticker
        status = recorder.get_status()
        cameras = self._cameras(status.episode)
        rate, late_ms, late_ticks = None, 0.0, 0
        if ticker is not None and len(ticker.lateness):
            elapsed_ns = recorder.clock.now_ns() - ticker.start_ns
            rate = len(ticker.lateness) * NS_PER_S / max(elapsed_ns, NS_PER_S // recorder.fps)
            late_ms, late_ticks = ticker.lateness.recent()
        self._measure_disk_use(status.episode, ticker)
        backlog, backlog_s = self._backlog(status.pending, len(recorder.schema.cameras))
        minutes = self._free / self._bytes_per_s / 60 if self._bytes_per_s else None
        return Snapshot(
            phase=session.phase,
            number=session.machine.number,
            total=plan.num_episodes,
            task=plan.task,
            seconds_left=None if ticker is None else ticker.seconds_left,
            fps=recorder.fps,
            rate=rate,
            late_ms=late_ms,
            late_ticks=late_ticks,
            frames=status.episode.frames if status.episode else 0,
            episodes=status.episodes,
            cameras=cameras,
            saves=[_save_row(save, self._label(save)) for save in status.pending],
            backlog_frames=backlog,
            backlog_s=backlog_s,
            free=self._free,
            minutes_left=minutes,
            messages=list(self.messages),
        )

    def _label(self, save: EpisodeSave) -> str:
        for record in reversed(self.session.records):
            if record.save is save:
                return f"episode {record.number}"
        return save.episode_id

    def _cameras(self, capture: Any) -> list[CameraRow]:
        if capture is None:
            return [CameraRow(_short(key), 0, 0, 0, 0, None) for key in self.session.recorder.schema.cameras]
        return [
            CameraRow(_short(key), c.captured, c.queued_frames, c.queued_bytes, c.spilled, _text(c.error))
            for key, c in capture.cameras.items()
        ]

    def _measure_disk_use(self, capture: Any, ticker: Any) -> None:
        """Bytes per second that recording writes, from the running episode once it has lasted a second."""
        if capture is None or ticker is None or capture.frames < self.session.recorder.fps:
            return
        written = sum(camera.bytes_written for camera in capture.cameras.values())
        self._bytes_per_s = max(1.0, written * self.session.recorder.fps / capture.frames)

    def _backlog(self, pending: list[EpisodeSave], cameras: int) -> tuple[int, float | None]:
        left = sum(round(s.length * cameras * (1 - s.progress)) for s in pending if not s.done())
        done = self._frames_encoded(pending, cameras)
        now_s = time.monotonic()
        if self._encoded is not None and done > self._encoded[1] and now_s > self._encoded[0]:
            rate = (done - self._encoded[1]) / (now_s - self._encoded[0])
            # A slow average: encoders report in bursts.
            self._encode_rate = rate if self._encode_rate is None else 0.9 * self._encode_rate + 0.1 * rate
        if self._encoded is None or done != self._encoded[1]:
            self._encoded = (now_s, done)
        return left, (left / self._encode_rate if self._encode_rate else None)

    def _frames_encoded(self, pending: list[EpisodeSave], cameras: int) -> int:
        finished = sum(r.frames for r in self.session.records if r.save.stage is Stage.COMMITTED)
        under_way = sum(s.length * s.progress for s in pending)
        return round((finished + under_way) * cameras)


def _short(key: str) -> str:
    return key.removeprefix("observation.images.").removeprefix("observation.")


def _text(error: object) -> str | None:
    return None if error is None else str(error)


def _save_row(save: EpisodeSave, label: str) -> SaveRow:
    return SaveRow(label, save.length, save.stage.value, save.progress, save.held, _text(save.error))
