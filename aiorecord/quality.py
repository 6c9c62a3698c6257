"""Data about how well an episode was recorded, as plain data that is read from and written to JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .errors import ConfigError
from .values import is_number, is_whole

RECORD_VERSION = 1

MAX_FACTS_BYTES = 1 << 16
"""Most bytes of facts per call: the manifest that holds them is rewritten often."""

MEASURED = frozenset({"calls", "cameras", "lateness", "limits", "started_unix_ns", "timed", "versions"})
"""Names in `Manifest.quality` that hold aiorecord's measurements; an application cannot use them."""


@dataclass(frozen=True)
class CameraQuality:
    """One camera of an episode. Unknown values are None.

    Attributes:
        captured: frames taken.
        spilled: of those, frames that were written raw because the capture encoder was behind.
        late: frames recorded at a late tick.
        repeated: frames with the same pixels as the frame before.
        stale: frames not newer than the frame before, by the camera's own time.
        lost: frames taken that are not in the dataset.
        longest_freeze_s: the longest run of repeated frames, in seconds.
        corrupt: images that the camera sent encoded and that could not be decoded; the frame before each
            stands in.
    """

    captured: int
    spilled: int = 0
    late: int | None = None
    repeated: int | None = None
    stale: int | None = None
    lost: int = 0
    longest_freeze_s: float | None = None
    corrupt: int = 0

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Read parsed JSON; unknown names are ignored.

        Raises:
            ValueError: it is not of this form.
        """
        values = {name: data[name] for name in cls.__dataclass_fields__ if name in _object(data)}
        optional = {"late", "repeated", "stale"}
        for name, value in values.items():
            if name == "longest_freeze_s":
                values[name] = None if value is None else _number(value, name)
            elif not (name in optional and value is None):
                values[name] = _count(value, name)
        if "captured" not in values:
            raise ValueError("a camera without 'captured'")
        return cls(**values)


@dataclass(frozen=True)
class Pace:
    """How fast the frames of an episode came, by the clock at which each was added.

    Attributes:
        frames: how many.
        span_s: seconds from the first to the last.
        longest_gap_s: the longest time between two of them.
        missed: missing frames: where two came further apart than the period of the dataset's rate.
    """

    frames: int
    span_s: float
    longest_gap_s: float
    missed: int

    @property
    def fps(self) -> float | None:
        """Frames per second, ``(frames - 1) / span_s``; None for less than two, or equal times."""
        return (self.frames - 1) / self.span_s if self.frames > 1 and self.span_s > 0 else None


class PaceCounter:
    """Measures the pace of frames as they come; a few integer additions per frame.

    Args:
        fps: of the dataset's grid.
    """

    def __init__(self, fps: float) -> None:
        self._period_ns = 1e9 / fps
        self._frames = self._first_ns = self._last_ns = self._gap_ns = self._missed = 0

    def add(self, time_ns: int) -> None:
        """Count a frame that was added at this time."""
        if not self._frames:
            self._first_ns = time_ns
        else:
            gap_ns = time_ns - self._last_ns
            self._gap_ns = max(self._gap_ns, gap_ns)
            self._missed += max(0, round(gap_ns / self._period_ns) - 1)
        self._last_ns = time_ns
        self._frames += 1

    def pace(self) -> Pace:
        """The pace of all frames so far. Cheap."""
        span_ns = self._last_ns - self._first_ns
        return Pace(self._frames, span_ns / 1e9, self._gap_ns / 1e9, self._missed)


UNPACED = 3.0
"""If the frames of an episode without ticks come more than this many times as fast as the dataset's rate, it
is not recorded in real time: existing frames are being converted."""

MIN_FAST_S = 1.0
"""A shorter episode without ticks is never flagged as too fast: its few frames may have been waiting."""


@dataclass(frozen=True)
class QualityLimits:
    """Limits beyond which an episode is flagged for recording it again. None sets no limit.

    The four limits of the pace have defaults. `OFFLINE` sets none, for frames not recorded in real time.

    Attributes:
        max_late_ms: milliseconds that a deadline may be late, including skipped ones.
        max_repeats: repeated frames per camera.
        min_rate: least frames per second, as a share of the dataset's. A single missing frame is not flagged.
        max_missed: share of the deadlines that may be missed; without ticks, share of the frames that the
            dataset's rate has in that time. A single one is not flagged.
        max_gap_s: seconds between two frames.
        max_rate: most frames per second, as a share of the dataset's. Without ticks, frames that come
            `UNPACED` times as fast count as a conversion, and their pace is not judged.

    Raises:
        ConfigError: a limit below 0.
    """

    max_late_ms: float | None = None
    max_repeats: int | None = None
    min_rate: float | None = 0.95
    max_missed: float | None = 0.01
    max_gap_s: float | None = 0.25
    max_rate: float | None = 1.05

    def __post_init__(self) -> None:
        for option, limit in dataclasses.asdict(self).items():
            if limit is not None and not limit >= 0:
                raise ConfigError(f"{option} must be 0 or more, not {limit}.", option=option)

    def flags(
        self,
        lateness: Mapping[str, Any],
        cameras: Mapping[str, Any],
        *,
        pace: Pace | None = None,
        fps: float = 0,
    ) -> list[str]:
        """The exceeded limits, in words, one sentence each.

        Args:
            lateness: `Lateness.summary`, or `Lateness.counts`; with ``source: "rows"``, or empty, without
                ticks.
            cameras: by feature key, anything with ``repeated``: `CameraQuality` or `CameraStatus`.
            pace: of the frames; None if their times are not known.
            fps: of the dataset.
        """
        found = []
        late_ms = lateness.get("worst_ms", 0)
        if self.max_late_ms is not None and late_ms > self.max_late_ms:
            found.append(f"a tick was {late_ms:.1f} ms late, the limit is {self.max_late_ms:g} ms")
        if pace is not None and pace.fps is not None and fps > 0:
            ticked = bool(lateness.get("ticks")) and lateness.get("source") != "rows"
            found += self._pace_flags(pace, pace.fps, fps, lateness if ticked else None)
        for key, camera in cameras.items():
            if self.max_repeats is not None and (camera.repeated or 0) > self.max_repeats:
                name = key.removeprefix("observation.images.")
                found.append(f"{name} repeated {camera.repeated} frames, the limit is {self.max_repeats}")
        return found

    def _pace_flags(self, pace: Pace, rate: float, fps: float, ticks: Mapping[str, Any] | None) -> list[str]:
        if ticks is None and rate > UNPACED * fps:
            return []
        found = []
        late_s = pace.span_s - (pace.frames - 1) / fps
        if self.min_rate is not None and rate < self.min_rate * fps and late_s * fps >= 1:
            found.append(
                f"it was recorded at {rate:.2f} fps, less than {self.min_rate:g} x {fps:g} fps: "
                f"{pace.frames} frames in {pace.span_s:.2f} s"
            )
        missed, taken = pace.missed, pace.frames
        if ticks is not None:
            missed, taken = int(ticks.get("missed", 0)), int(ticks["ticks"])
        if self.max_missed is not None and missed > 1 and missed > self.max_missed * (missed + taken):
            found.append(
                f"{missed} of {missed + taken} deadlines were missed, "
                f"the limit is {100 * self.max_missed:.3g} %"
            )
        if self.max_gap_s is not None and pace.longest_gap_s > max(self.max_gap_s, 1.5 / fps):
            found.append(f"no frame came for {pace.longest_gap_s:.2f} s, the limit is {self.max_gap_s:g} s")
        fast = self.max_rate is not None and rate > self.max_rate * fps and late_s * fps <= -1
        if fast and (ticks is not None or pace.span_s >= MIN_FAST_S):
            found.append(
                f"it was recorded at {rate:.2f} fps, more than {self.max_rate:g} x {fps:g} fps: "
                f"{pace.frames} frames in {pace.span_s:.2f} s"
            )
        return found


OFFLINE = QualityLimits(min_rate=None, max_missed=None, max_gap_s=None, max_rate=None)
"""No limits: for frames that are not recorded in real time, such as those of another dataset."""


@dataclass(frozen=True)
class EpisodeQuality:
    """One line of the quality record.

    Attributes:
        episode_index: in the dataset, when it was committed.
        episode_id: its id in staging.
        length: frames.
        tasks: the tasks of its frames.
        fps: frames per second of the dataset.
        effective_fps: of the recording, from the times of its first and last frame; None when not known.
        recorded_at: wall clock at the first frame, UTC, ISO 8601; None when not known.
        interrupted: an error or a signal ended it.
        lateness: `Lateness.summary` of the episode's ticks, with ``source: "ticks"``; with ``source: "rows"``
            how much longer than a period the time between two frames was, where there were no ticks; empty
            when not known.
        cameras: by feature key.
        calls: driver calls by ``robot.<method>`` and ``teleop.<method>``: count, p50_ms, p99_ms, max_ms.
        flags: the exceeded limits, in words.
        encode: by feature key: plan, capture, codec, settings, and seconds of work of the encoder process.
        save: seconds from the episode's end until it was durable, encoded and about to be committed.
        versions: of the software that recorded it.
        facts: the application's notes, see `Episode.annotate`.
        version: of this format.
    """

    episode_index: int
    episode_id: str
    length: int
    tasks: list[str]
    fps: int
    effective_fps: float | None = None
    recorded_at: str | None = None
    interrupted: bool = False
    lateness: dict[str, Any] = field(default_factory=dict)
    cameras: dict[str, CameraQuality] = field(default_factory=dict)
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    encode: dict[str, dict[str, Any]] = field(default_factory=dict)
    save: dict[str, float | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    version: int = RECORD_VERSION

    def as_dict(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return dataclasses.asdict(self)

    def to_line(self) -> bytes:
        """One line of JSON with its newline."""
        text = json.dumps(self.as_dict(), ensure_ascii=False, allow_nan=False)
        return text.encode(errors="backslashreplace") + b"\n"  # a lone surrogate becomes its JSON escape

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read a line; unknown names are ignored.

        Raises:
            ValueError: it is not a line of the quality record.
        """
        try:
            data = _object(json.loads(line))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        values = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        if values.get("version") != RECORD_VERSION:
            raise ValueError(f"version {values.get('version')!r}, this aiorecord reads {RECORD_VERSION}")
        for name in ("episode_index", "length", "fps"):
            values[name] = _count(values.get(name), name)
        for name in ("lateness", "calls", "encode", "save", "versions", "facts", "cameras"):
            _object(values.get(name, {}))
        for name in ("calls", "encode"):
            for value in values.get(name, {}).values():
                _object(value)
        for name in ("tasks", "flags"):
            if not isinstance(values.setdefault(name, []), list):
                raise ValueError(f"{name} is not a list")
            values[name] = [str(text) for text in values[name]]
        if values.get("effective_fps") is not None:
            values["effective_fps"] = _number(values["effective_fps"], "effective_fps")
        values["episode_id"] = str(values.get("episode_id", ""))
        values["interrupted"] = values.get("interrupted") is True
        cameras = values.get("cameras", {})
        values["cameras"] = {key: CameraQuality.parse(camera) for key, camera in cameras.items()}
        return cls(**values)


def json_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Copy facts that JSON can hold, so that later changes by the caller do not affect them.

    Raises:
        ConfigError: a value is not JSON-ready (NaN, infinity and lone surrogates are not), or all are
            larger than `MAX_FACTS_BYTES`.
    """
    try:
        text = json.dumps(dict(facts), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"A fact about an episode must be JSON-ready: {error}") from error
    if len(text) > MAX_FACTS_BYTES:
        raise ConfigError(f"Facts about an episode take {len(text)} bytes, more than {MAX_FACTS_BYTES}.")
    copy: dict[str, Any] = json.loads(text)
    return copy


def stored_facts(value: Any) -> dict[str, Any]:
    """Facts that were read from disk; empty if `json_facts` would not accept them."""
    if not isinstance(value, dict):
        return {}
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return {}
    return value


def versions() -> dict[str, str]:
    """Versions of the recording software: aiorecord, Python, PyAV, FFmpeg, and lerobot if it is used."""
    return dict(_versions("lerobot" in sys.modules))


@functools.cache
def _versions(with_lerobot: bool) -> dict[str, str]:
    # Imported here: code that only reads records needs no codecs, and encoder processes need neither.
    from importlib.metadata import version

    import av

    found = {
        "aiorecord": version("aiorecord"),
        "python": platform.python_version(),
        "av": version("av"),
        "ffmpeg": str(getattr(av, "ffmpeg_version_info", "unknown")),
    }
    return found | ({"lerobot": version("lerobot")} if with_lerobot else {})


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, not {type(value).__name__}")
    return value


def _count(value: Any, name: str) -> int:
    if not is_whole(value, 0):
        raise ValueError(f"{name} is not a count: {value!r:.40}")
    return value


def _number(value: Any, name: str) -> float:
    if not is_number(value):
        raise ValueError(f"{name} is not a number: {value!r:.40}")
    return float(value)
