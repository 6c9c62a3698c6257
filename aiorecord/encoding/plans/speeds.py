"""Caches measured encoder speeds of this machine for later sessions.

The cache is one JSON file in the user's cache folder, ``$XDG_CACHE_HOME/aiorecord/live_speeds.json``
(``~/.cache`` without that variable). It may be deleted at any time; an unreadable file counts as missing.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ...encoders import VideoEncoderConfig
from ...system.processor import processor_name, usable_processors
from ...system.storage import storage_errors, write_json
from .choice import LiveSpeed

FILE_VERSION = 1


@dataclass(frozen=True)
class SpeedQuestion:
    """The inputs on which a measured speed depends.

    Attributes:
        encoder: settings of the final videos, `vcodec` resolved.
        sizes: (height, width) in pixels of each camera that is encoded at the same time.
        fps: frames per second.
        threads: threads per encoder, None leaves it to the codec.
    """

    encoder: VideoEncoderConfig
    sizes: Sequence[tuple[int, int]]
    fps: int
    threads: int | None

    def key(self) -> str:
        """One line that is equal for inputs with the same result."""
        options = self.encoder.codec_options(self.threads)
        return json.dumps(
            {
                "machine": described_machine(),
                "codec": self.encoder.vcodec,
                "pix_fmt": self.encoder.pix_fmt,
                "options": dict(sorted(options.items())),
                "cameras": sorted([width, height] for height, width in self.sizes),
                "fps": self.fps,
            }
        )


def speeds_path() -> Path:
    """The path of the cache file."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "aiorecord" / "live_speeds.json"


def load_speed(question: SpeedQuestion, path: Path) -> LiveSpeed | None:
    """The cached speed for these inputs, None if there is none or the file is not valid."""
    entry = _read(path).get(question.key())
    if not isinstance(entry, dict):
        return None
    try:
        speed = LiveSpeed(float(entry["frames_per_s"]), int(entry["held_frames"]), float(entry["open_s"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return speed if math.isfinite(speed.frames_per_s) and math.isfinite(speed.open_s) else None


def store_speed(question: SpeedQuestion, speed: LiveSpeed, path: Path) -> None:
    """Add a measured speed to the cache.

    Raises:
        StorageError: the file cannot be written.
    """
    speeds = {**_read(path), question.key(): asdict(speed)}
    with storage_errors(path, "write"):
        write_json(path, {"version": FILE_VERSION, "speeds": speeds})


@cache
def described_machine() -> str:
    """This machine, as far as encoding speed goes: host, processor, cores, and the codecs' version."""
    from importlib.metadata import version  # imported here: it takes 30 ms, and only measurements need it

    return f"{platform.node()}, {processor_name()}, {usable_processors()} cores, av {version('av')}"


def _read(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict) or data.get("version") != FILE_VERSION:
        return {}
    speeds = data.get("speeds")
    return speeds if isinstance(speeds, dict) else {}
