"""Data classes for one cell of a benchmark: what to record, and the measured figures. Exchanged as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import ConfigError
from ..options import EncodeChoice, check_number

type System = Literal["aiorecord", "bare", "lerobot-streaming", "lerobot-png"]

SYSTEMS: dict[System, str] = {
    "aiorecord": "aiorecord.bench.bench_child",
    "bare": "aiorecord.bench.bench_child",
    "lerobot-streaming": "aiorecord.lerobot.lerobot_bench_child",
    "lerobot-png": "aiorecord.lerobot.lerobot_bench_child",
}
"""The systems that record, and their modules. ``bare`` only encodes: the least cost of any recording."""


@dataclass(frozen=True)
class Cell:
    """The settings of one cell.

    Attributes:
        cameras: how many.
        width: of each, in pixels, even.
        height: likewise.
        codec: of the final videos, lerobot's names.
        fps: frames per second.
        episodes: recorded without a pause in between.
        seconds: of each episode.
        source: ``sim`` or ``video:FILE``.
        encode: aiorecord's plan: ``auto``, ``live`` or ``deferred``.
    """

    cameras: int = 2
    width: int = 640
    height: int = 480
    codec: str = "libsvtav1"
    fps: int = 30
    episodes: int = 3
    seconds: float = 5.0
    source: str = "sim"
    encode: EncodeChoice = "auto"

    def __post_init__(self) -> None:
        """Raise ConfigError for settings that cannot be recorded."""
        for name in ("cameras", "fps", "episodes"):
            check_number(name, getattr(self, name), least=1)
        check_number("seconds", self.seconds, above=0)
        if self.source != "sim" and not self.source.startswith("video:"):
            raise ConfigError(f"The source is 'sim' or 'video:FILE', not {self.source!r}.", option="source")
        for name in ("width", "height"):
            size = getattr(self, name)
            if size < 16 or size % 2:
                raise ConfigError(f"The {name} of a picture must be even and 16 or more, not {size}.")

    @property
    def camera_names(self) -> list[str]:
        """The cameras' names; those that the simulated robot has viewpoints for come first."""
        known = ["front", "wrist", "side", "top"]
        return [known[n] if n < len(known) else f"camera{n}" for n in range(self.cameras)]

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """The dataset's features."""
        joints = {"dtype": "float32", "shape": (6,), "names": [f"joint{n}" for n in range(6)]}
        image = {
            "dtype": "video",
            "shape": (self.height, self.width, 3),
            "names": ["height", "width", "channels"],
        }
        cameras = {f"observation.images.{name}": dict(image) for name in self.camera_names}
        return {"observation.state": dict(joints), "action": dict(joints), **cameras}

    @property
    def frames_per_episode(self) -> int:
        """Ticks of one episode."""
        return round(self.seconds * self.fps)

    def label(self) -> str:
        """Such as ``2x640x480@30 libsvtav1``."""
        return f"{self.cameras}x{self.width}x{self.height}@{self.fps} {self.codec}"


@dataclass
class Measurement:
    """The figures of recording one cell.

    Attributes:
        system: the system that recorded.
        cell: the cell.
        frames: requested frames: the ticks of that time, times cameras.
        rows: rows in the dataset, times cameras.
        video_frames: frames in its videos.
        recording_s: from the first frame to the last, all episodes.
        backlog_frames: still to be encoded at the last frame, over all cameras.
        drain_s: from the last frame until everything is in the dataset and packed.
        dead_s: between the last frame of one episode and the first of the next, for each but the first.
        tick_s: when each tick came, after the first of all.
        late_ms: how late each tick was, in order.
        missed: ticks that were skipped.
        add_frame_ms: how long each `add_frame` took.
        cpu_s: processor time of all processes, without making the pictures.
        peak_rss_bytes: peak memory of all processes together, without the pictures.
        plan: how each camera was encoded, in words.
        versions: of the software used.
        error: why there are no figures.
    """

    system: str
    cell: Cell
    frames: int = 0
    rows: int = 0
    video_frames: int = 0
    recording_s: float = 0.0
    backlog_frames: int = 0
    drain_s: float = 0.0
    dead_s: list[float] = field(default_factory=list)
    tick_s: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    missed: int = 0
    add_frame_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    plan: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def lost(self) -> int:
        """Rows without a frame in a video."""
        return self.rows - self.video_frames

    @property
    def sustained_fps(self) -> float:
        """Actual ticks per second of recording."""
        ticks = self.rows / max(1, self.cell.cameras)
        return ticks / self.recording_s if self.recording_s > 0 else 0.0

    @property
    def cpu_ms_per_frame(self) -> float:
        """Processor milliseconds per frame of one camera."""
        return self.cpu_s * 1000 / self.rows if self.rows else 0.0

    @property
    def backlog_min_per_min(self) -> float:
        """Minutes of encoding left after each minute of recording."""
        return self.drain_s / self.recording_s if self.recording_s > 0 else 0.0

    def late(self, percentile: float) -> float:
        """A percentile of the ticks' lateness in milliseconds; 100 is the worst."""
        return float(np.percentile(self.late_ms, percentile)) if self.late_ms else 0.0

    def add_frame(self, percentile: float) -> float:
        """A percentile of the duration of `add_frame` in milliseconds."""
        return float(np.percentile(self.add_frame_ms, percentile)) if self.add_frame_ms else 0.0

    def figures(self) -> dict[str, float]:
        """The figures, rounded, without the long lists."""
        return {
            "frames": self.frames,
            "rows": self.rows,
            "lost": self.lost,
            "sustained_fps": round(self.sustained_fps, 2),
            "late_p50_ms": round(self.late(50), 3),
            "late_p99_ms": round(self.late(99), 3),
            "late_max_ms": round(self.late(100), 3),
            "missed": self.missed,
            "dead_max_ms": round(max(self.dead_s, default=0.0) * 1000, 2),
            "add_frame_p50_ms": round(self.add_frame(50), 3),
            "add_frame_p99_ms": round(self.add_frame(99), 3),
            "recording_s": round(self.recording_s, 3),
            "backlog_frames": self.backlog_frames,
            "drain_s": round(self.drain_s, 3),
            "backlog_min_per_min": round(self.backlog_min_per_min, 3),
            "cpu_ms_per_frame": round(self.cpu_ms_per_frame, 3),
            "peak_rss_mb": round(self.peak_rss_bytes / 2**20, 1),
        }

    def summary(self) -> dict[str, Any]:
        """What was measured, JSON-ready, without the long lists."""
        about = {"system": self.system, "cell": dataclasses.asdict(self.cell), "error": self.error}
        return {**about, **self.figures(), "plan": self.plan, "versions": self.versions}

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Measurement:
        """Read what `write` wrote."""
        data = json.loads(path.read_bytes())
        return cls(**{**data, "cell": Cell(**data["cell"])})


@dataclass(frozen=True)
class Order:
    """The task of a child process.

    Attributes:
        system: the system that records.
        cell: the cell.
        folder: an empty folder to work in.
    """

    system: System
    cell: Cell
    folder: Path

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        data = {"system": self.system, "cell": dataclasses.asdict(self.cell), "folder": str(self.folder)}
        path.write_text(json.dumps(data))

    @classmethod
    def read(cls, path: Path) -> Order:
        """Read what `write` wrote."""
        data = json.loads(path.read_bytes())
        return cls(data["system"], Cell(**data["cell"]), Path(data["folder"]))
