"""Compares what info.json says about a camera's videos with a video file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from av.video.stream import VideoStream

from ...errors import ConfigError
from ...features import Feature
from ...media.camera_info import DEPTH_SETTINGS, depth_settings
from ...media.depth import DEPTH_PIX_FMT
from ...values import is_number


def info_findings(feature: Feature, stream: VideoStream, fps: int) -> Iterator[tuple[str, str]]:
    """Differences between a feature's ``info`` and a file of it; missing entries are no differences.

    A file does not store the settings with which depth was quantised: wrong ones show in the statistics,
    which `check` recomputes. This finds settings that are missing or invalid.

    Args:
        feature: the camera's.
        stream: the file's video.
        fps: the dataset's rate. `video-grid` finds files with another rate; the average rate of a file with a
            gap is meaningless.

    Yields:
        The finding's code and message.
    """
    actual: dict[str, Any] = {
        "video.codec": stream.codec.canonical_name,
        "video.height": stream.height,
        "video.width": stream.width,
        "video.pix_fmt": stream.pix_fmt,
        "video.fps": float(fps),
    }
    found = []
    for name, value in actual.items():
        said = feature.info.get(name)
        if said is not None and value is not None and not _same(said, value):
            found.append(f"{name.removeprefix('video.')} {value} instead of {said!r:.40}")
    if found:
        yield "video-info", f"It differs from the camera's description in meta/info.json: {', '.join(found)}."
    if not feature.is_depth:
        return
    missing = [name for name in DEPTH_SETTINGS if feature.info.get(f"video.{name}") is None]
    try:
        settings = depth_settings(feature.info)
    except ConfigError as error:
        yield "depth-settings", f"The depth settings in meta/info.json cannot be used: {error}"
        return
    if missing:
        taken = ", ".join(f"{name} {settings[name]}" for name in missing)
        yield "depth-settings", f"meta/info.json lacks {', '.join(missing)}; readers use {taken}."
    if stream.pix_fmt != DEPTH_PIX_FMT:
        yield "depth-settings", f"Depth is in {stream.pix_fmt}, which readers convert to other codes."


def _same(said: object, value: object) -> bool:
    if isinstance(value, float):  # the rate; info.json rounds it down
        return is_number(said) and abs(said - value) < 1
    return said == value
