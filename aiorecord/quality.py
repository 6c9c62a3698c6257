"""How well an episode was recorded: the facts that are kept about it, as plain data, JSON in and out."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .errors import ConfigError

RECORD_VERSION = 1

MAX_FACTS_BYTES = 1 << 16
"""Of facts added at once: the manifest that holds them is written again and again."""

MEASURED = frozenset({"calls", "cameras", "lateness", "limits", "started_unix_ns", "timed", "versions"})
"""Names in `Manifest.quality` that hold what aiorecord measured; an application cannot use them."""


@dataclass(frozen=True)
class CameraQuality:
    """One camera of an episode. None where it could not be known.

    Attributes:
        captured: frames taken.
        spilled: of those, frames that went raw to disk because the capture encoder was behind.
        late: frames recorded at a late tick.
        repeated: frames with the very pixels of the frame before.
        stale: frames not newer than the frame before, by the camera's own time.
        lost: frames taken that are not in the dataset.
        longest_freeze_s: the longest run of repeated frames, in seconds.
    """

    captured: int
    spilled: int = 0
    late: int | None = None
    repeated: int | None = None
    stale: int | None = None
    lost: int = 0
    longest_freeze_s: float | None = None

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Read what JSON holds; names that are not known are left out.

        Raises:
            ValueError: it is something else.
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
class QualityLimits:
    """From when on an episode is flagged for being recorded again. None sets no limit.

    Attributes:
        max_late_ms: milliseconds that a deadline may wait, those that were skipped included.
        max_repeats: repeated frames per camera.

    Raises:
        ConfigError: a limit below 0.
    """

    max_late_ms: float | None = None
    max_repeats: int | None = None

    def __post_init__(self) -> None:
        for option, limit in dataclasses.asdict(self).items():
            if limit is not None and not limit >= 0:
                raise ConfigError(f"{option} must be 0 or more, not {limit}.", option=option)

    def flags(self, lateness: Mapping[str, Any], cameras: Mapping[str, Any]) -> list[str]:
        """What exceeds the limits, in words, one sentence each.

        Args:
            lateness: `Lateness.summary`.
            cameras: by feature key, anything with ``repeated``: `CameraQuality` or `CameraStatus`.
        """
        found = []
        late_ms = lateness.get("worst_ms", 0)
        if self.max_late_ms is not None and late_ms > self.max_late_ms:
            found.append(f"a tick was {late_ms:.1f} ms late, the limit is {self.max_late_ms:g} ms")
        for key, camera in cameras.items():
            if self.max_repeats is not None and (camera.repeated or 0) > self.max_repeats:
                name = key.removeprefix("observation.images.")
                found.append(f"{name} repeated {camera.repeated} frames, the limit is {self.max_repeats}")
        return found


@dataclass(frozen=True)
class EpisodeQuality:
    """One line of the quality record.

    Attributes:
        episode_index: in the dataset, when it was committed.
        episode_id: its id in staging.
        length: frames.
        tasks: what was done.
        fps: frames per second of the dataset.
        effective_fps: of the recording, from the times of its first and last frame; None when not known.
        recorded_at: wall clock at the first frame, UTC, ISO 8601; None when not known.
        interrupted: it did not end by anyone's decision.
        lateness: `Lateness.summary` of the episode's ticks, with ``source: "ticks"``; with ``source: "rows"``
            how much longer than a period the time between two frames was, where there were no ticks; empty
            when not known.
        cameras: by feature key.
        calls: driver calls by ``robot.<method>`` and ``teleop.<method>``: count, p50_ms, p99_ms, max_ms.
        flags: what exceeded the limits that were set, in words.
        encode: by feature key: plan, capture, codec, settings, and seconds of work of the encoder process.
        save: seconds from the episode's end until it was durable, encoded and about to be committed.
        versions: of the software that recorded it.
        facts: what the application noted, see `Episode.annotate`.
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
        return text.encode(errors="backslashreplace") + b"\n"  # half a surrogate pair becomes its JSON escape

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read a line; names that are not known are left out.

        Raises:
            ValueError: it is no such line.
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
    """A copy of facts that JSON can hold, so that what the caller changes later does not change them.

    Raises:
        ConfigError: a value is not JSON-ready (NaN, infinity and half surrogate pairs are not), or all are
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
    """Facts as they come back from disk; none where they are not what `json_facts` lets through."""
    if not isinstance(value, dict):
        return {}
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return {}
    return value


def versions() -> dict[str, str]:
    """Of the software that records: aiorecord, Python, PyAV, FFmpeg, and lerobot where it is used."""
    return dict(_versions("lerobot" in sys.modules))


@functools.cache
def _versions(with_lerobot: bool) -> dict[str, str]:
    # Here: what only reads records needs no codecs, and encoder processes need neither.
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
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is not a count: {value!r:.40}")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is not a number: {value!r:.40}")
    if not math.isfinite(value):
        raise ValueError(f"{name} is not a number: {value!r:.40}")
    return float(value)
