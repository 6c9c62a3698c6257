"""From either style of features to a dataset's feature dict, and of values to a frame. Pure.

LeRobot's drivers describe themselves flat: ``{"shoulder_pan.pos": float, "front": (480, 640, 3)}``. In a
dataset the numbers of one side are gathered in one vector with names, and cameras get a prefix; the rules
follow lerobot 0.6.1 (`lerobot/utils/feature_utils.py`), so that datasets recorded by either are alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import FeatureError, FrameError
from ..features import DEFAULT_FEATURES, VISUAL_DTYPES

STATE = "observation.state"
IMAGES = "observation.images."
ACTION = "action"


def dataset_features(
    observation_features: Mapping[str, Any], action_features: Mapping[str, Any], use_videos: bool = True
) -> dict[str, dict[str, Any]]:
    """The feature dict of a dataset that records these observations and actions.

    Args:
        observation_features: dataset style, or flat: a number type (``float``) for each value, gathered
            as float32 in ``observation.state``; a tuple (height, width, 3 or 1) for each camera, one
            channel being depth.
        action_features: dataset style; flat; or LeRobot's bare form of one action vector,
            ``{"dtype": ..., "shape": ..., "names": ...}``.
        use_videos: False stores cameras as images. Dataset-style cameras keep their dtype when True.

    Raises:
        FeatureError: a feature is neither a number nor a camera, or both sides claim one key.
    """
    observation = _one_side(observation_features, STATE, IMAGES, use_videos)
    if set(action_features) >= {"dtype", "shape"}:
        names = action_features.get("names")
        names = sorted(names, key=names.__getitem__) if isinstance(names, Mapping) else names
        action_features = {ACTION: {**action_features, "names": names}}
    action = _one_side(action_features, ACTION, "action.images.", use_videos)
    if both := sorted(observation.keys() & action.keys()):
        raise FeatureError(f"The robot and the teleoperator both supply {', '.join(both)}.", key=both[0])
    return {**observation, **action}


def build_frame(
    features: Mapping[str, Mapping[str, Any]], observation: Mapping[str, Any], action: Mapping[str, Any]
) -> dict[str, Any]:
    """One frame for `Episode.add_frame`, from an observation and an action of either style.

    Values that are keyed as the features are taken as they are. Flat values are gathered by the feature's
    names, those of ``action`` from the action, all others from the observation; so state and action may
    share names. What no feature asks for is left out. Nothing is copied but gathered numbers.

    Args:
        features: the feature dict of the dataset; default columns in it are skipped.
        observation: what the robot saw.
        action: what was asked of it.

    Raises:
        FrameError: a feature has no value in either style, or a gathered value is not a number.
    """
    frame: dict[str, Any] = {}
    for key, feature in features.items():
        if key in DEFAULT_FEATURES:
            continue
        is_action = key == ACTION or key.startswith("action.")
        first, second = (action, observation) if is_action else (observation, action)
        if key in first:
            frame[key] = first[key]
        elif key in second:
            frame[key] = second[key]
        elif feature["dtype"] in VISUAL_DTYPES:
            name = key.removeprefix("action.images." if is_action else IMAGES)
            if name not in first:
                raise FrameError(
                    f"There is no image for {key!r}: neither it nor {name!r} was given.", key=key
                )
            frame[key] = first[name]
        else:
            frame[key] = _gather(key, feature, first, "action" if is_action else "observation")
    return frame


def _one_side(features: Mapping[str, Any], vector: str, images: str, use_videos: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    numbers: list[str] = []
    cameras: dict[str, Any] = {}
    for key, spec in features.items():
        if isinstance(spec, Mapping):
            as_image = spec.get("dtype") == "video" and not use_videos
            out[key] = {**spec, "dtype": "image"} if as_image else dict(spec)
        elif isinstance(spec, type) and issubclass(spec, bool | int | float | np.number | np.bool_):
            numbers.append(key)
        elif isinstance(spec, tuple) and len(spec) == 3 and spec[2] in (1, 3):
            cameras[images + key] = {
                "dtype": "video" if use_videos else "image",
                "shape": spec,
                "names": ["height", "width", "channels"],
                "info": {"is_depth_map": spec[2] == 1},
            }
        else:
            raise FeatureError(
                f"Feature {key!r} is {spec!r}; use float for a number, (height, width, 3) for a camera, "
                "(height, width, 1) for depth, or a dict with 'dtype' and 'shape'.",
                key=key,
            )
    if numbers:
        if vector in out:
            raise FeatureError(
                f"{vector!r} is given, and so are single values ({', '.join(numbers)}) that would be "
                "gathered into it. Use one style.",
                key=vector,
            )
        out = {vector: {"dtype": "float32", "shape": (len(numbers),), "names": numbers}, **out}
    if twice := sorted(out.keys() & cameras.keys()):
        raise FeatureError(f"Camera {twice[0]!r} is given twice.", key=twice[0])
    return {**out, **cameras}


def _gather(key: str, feature: Mapping[str, Any], values: Mapping[str, Any], side: str) -> Any:
    names = feature.get("names")
    if not isinstance(names, list | tuple):
        raise FrameError(f"The {side} has no {key!r}.", key=key)
    if missing := [name for name in names if name not in values]:
        raise FrameError(
            f"The {side} has neither {key!r} nor all of its elements; "
            f"missing: {', '.join(map(str, missing))}.",
            key=key,
        )
    try:
        return np.array([values[name] for name in names], dtype=feature["dtype"])
    except (TypeError, ValueError) as error:
        raise FrameError(
            f"The elements of {key!r} in the {side} are not numbers: {error}", key=key
        ) from error
