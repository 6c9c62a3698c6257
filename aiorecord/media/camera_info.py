"""The ``info`` of a camera feature: which settings it states, and which settings readers use.

lerobot's reader turns depth codes back into depth with the settings in ``info.json``, or with its own
defaults where one is missing (`DepthEncoderConfig.from_video_info` in lerobot 0.6.1). So those settings must
be the ones that the videos were made with: those of the first episode, for every episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..encoders import DepthEncoderConfig
from ..errors import ConfigError, DatasetError
from ..features import VISUAL_DTYPES, Schema
from ..printable import get_logger

logger = get_logger(__name__)

DEPTH_SETTINGS = ("depth_min", "depth_max", "shift", "use_log")
"""The settings of the depth quantiser, which readers need to undo it."""

_OF_THE_FILES = ("video.", "audio.", "has_audio", "depth_unit")


def undescribed(feature: Mapping[str, Any]) -> dict[str, Any]:
    """A feature without the parts of its ``info`` that describe video files; the camera's own data stay.

    Args:
        feature: as in ``info.json``, for example from another dataset, which has other videos.
    """
    info = feature.get("info")
    if feature.get("dtype") not in VISUAL_DTYPES or not info:
        return dict(feature)
    kept = {name: value for name, value in info.items() if not name.startswith(_OF_THE_FILES)}
    if info.get("video.is_depth_map"):
        kept["is_depth_map"] = True
    rest = {name: value for name, value in feature.items() if name != "info"}
    return rest | ({"info": kept} if kept else {})


def depth_settings(info: Mapping[str, Any] | None) -> dict[str, Any]:
    """The quantiser's settings that readers take from a feature's ``info``.

    Raises:
        ConfigError: settings with which no depth can be read.
    """
    said = {name: (info or {}).get(f"video.{name}") for name in DEPTH_SETTINGS}
    encoder = DepthEncoderConfig(**{name: value for name, value in said.items() if value is not None})
    return {name: getattr(encoder, name) for name in DEPTH_SETTINGS}


def depth_differences(key: str, info: Mapping[str, Any] | None, encoder: DepthEncoderConfig) -> list[str]:
    """The encoder settings with which a dataset's readers would decode a wrong depth, a phrase each.

    Args:
        key: the camera.
        info: of its feature in the dataset.
        encoder: the settings.
    """
    try:
        settings = depth_settings(info)
    except ConfigError as error:
        return [f"{key}: the dataset's depth settings cannot be used: {error}"]
    return [
        f"{key}: {name} is {value} in the dataset, {getattr(encoder, name)} in these settings"
        for name, value in settings.items()
        if getattr(encoder, name) != value
    ]


def continued_depth(
    root: Path, features: Mapping[str, Mapping[str, Any]], schema: Schema, encoder: DepthEncoderConfig
) -> DepthEncoderConfig:
    """The settings to continue a dataset's depth videos with: those of its first episode.

    A setting that has its default value counts as not given. (Callers hand over whole settings, lerobot's
    too, so that one cannot be told from the other.)

    Args:
        root: the dataset's folder.
        features: of a dataset that has episodes.
        schema: what is about to be recorded.
        encoder: the settings that were given.

    Raises:
        DatasetError: a setting was given that is not the dataset's, or the dataset's cannot be used.
    """
    default, given, found = DepthEncoderConfig(), encoder, list[str]()
    for key in (key for key, feature in schema.videos.items() if feature.is_depth):
        info = features[key].get("info")
        try:
            own = depth_settings(info)
            if encoder is given:  # all cameras share the settings of the first
                taken = {n: v for n, v in own.items() if getattr(given, n) == getattr(default, n)}
                encoder = replace(given, **taken)
        except ConfigError as error:
            raise DatasetError(
                f"The depth videos {key!r} of the dataset in {root} cannot be continued: {error}", path=root
            ) from error
        if encoder != given:
            logger.info("%s: depth is recorded with the dataset's settings: %s.", key, own)
        found += depth_differences(key, info, encoder)
    if found:
        lines = "".join(f"\n  - {line}" for line in found)
        raise DatasetError(
            f"The dataset in {root} cannot be continued with this depth_encoder:{lines}\n"
            "Leave these settings out to use the dataset's.",
            path=root,
        )
    return encoder
