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
    """Differences between a feature's ``info`` and a file of it; what is not said is no difference.

    A file does not say with which settings depth was quantised: whether these are right shows in the
    statistics, which `check` recomputes. Here settings are found that are missing or cannot be.

    Args:
        feature: the camera's.
        stream: the file's video.
        fps: the dataset's rate. `video-grid` finds files of another one; the average rate of a file with a
            hole says nothing.

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
        yield "video-info", f"It is not as meta/info.json describes the camera's videos: {', '.join(found)}."
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
        yield "depth-settings", f"meta/info.json does not say {', '.join(missing)}; readers take {taken}."
    if stream.pix_fmt != DEPTH_PIX_FMT:
        yield "depth-settings", f"Depth is in {stream.pix_fmt}, of which readers make other codes."


def _same(said: object, value: object) -> bool:
    if isinstance(value, float):  # the rate; info.json rounds it down
        return is_number(said) and abs(said - value) < 1
    return said == value
