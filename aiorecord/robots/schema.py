"""Converts feature descriptions into a dataset's feature dict, and device values into frames. Pure.

LeRobot's drivers use a flat style: ``{"shoulder_pan.pos": float, "front": (480, 640, 3)}``. In a dataset the
numbers of one side are gathered in one vector with names, and cameras get a prefix. The rules follow lerobot
0.6.1 (`lerobot/utils/feature_utils.py`), so that datasets recorded by either program are alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import FeatureError, FrameError
from ..features import DEFAULT_FEATURES, NUMERIC_DTYPES, VISUAL_DTYPES
from ..frame_values import converted

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

    Values that are keyed as the features are used unchanged. Flat values are gathered by the feature's names,
    those of ``action`` from the action, all others from the observation; so state and action may share
    names. Values without a feature are left out. Only gathered numbers are copied.

    Args:
        features: the feature dict of the dataset; default columns in it are skipped.
        observation: what the robot saw.
        action: the requested action.

    Raises:
        FrameError: one of the two is not a dict, a feature has no value in either style, or a gathered value
            is not a number or does not fit the feature's dtype.
    """
    for side, values in (("observation", observation), ("action", action)):
        if not isinstance(values, Mapping):
            raise FrameError(f"The {side} must be a dict of values, not {type(values).__name__}.")
    frame: dict[str, Any] = {}
    for key, feature in features.items():
        if key in DEFAULT_FEATURES:
            continue
        is_action = is_action_key(key)
        first, second = (action, observation) if is_action else (observation, action)
        if key in first:
            frame[key] = first[key]
        elif key in second:
            frame[key] = second[key]
        elif feature["dtype"] in VISUAL_DTYPES:
            name = flat_camera(key, is_action)
            if name not in first:
                raise FrameError(
                    f"There is no image for {key!r}: neither it nor {name!r} was given.", key=key
                )
            frame[key] = first[name]
        else:
            frame[key] = _gather(key, feature, first, "action" if is_action else "observation")
    return frame


def from_flat(features: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Build a frame from one dict of flat values that holds both observation and action.

    Args:
        features: the feature dict of the dataset, without default columns.
        values: every feature by its key, or flat, as `build_frame` gathers it.

    Returns:
        The frame, including values without a feature; `values` itself if nothing flat was found.

    Raises:
        FrameError: the robot and the teleoperator both have a value of this name, and one dict can hold only
            one; or a gathered value does not fit.
    """
    used: dict[str, str] = {}
    flat: dict[str, Any] = {}
    for key, feature in features.items():
        if key in values:
            continue
        is_action = is_action_key(key)
        visual = feature["dtype"] in VISUAL_DTYPES
        names = [flat_camera(key, is_action)] if visual else feature.get("names")
        if not isinstance(names, list | tuple) or not all(name in values for name in names):
            continue
        for name in names:
            other = used.setdefault(name, key)
            if other != key and is_action_key(other) != is_action:
                raise FrameError(
                    f"{name!r} is a value of {other!r} and of {key!r}, and one dict can hold only one of the "
                    "two. Pass them separately: episode.add_frame(observation, action).",
                    key=key,
                )
        side = "action" if is_action else "observation"
        flat[key] = values[names[0]] if visual else _gather(key, feature, values, side)
    if not flat:
        return values
    return {key: value for key, value in values.items() if key not in used} | flat


def is_action_key(key: str) -> bool:
    """Whether a feature of this name is part of an action."""
    return key == ACTION or key.startswith("action.")


def flat_camera(key: str, is_action: bool) -> str:
    """What a driver in the flat style calls a camera's feature."""
    return key.removeprefix("action.images." if is_action else IMAGES)


def _one_side(features: Mapping[str, Any], vector: str, images: str, use_videos: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    numbers: list[str] = []
    cameras: dict[str, Any] = {}
    for key, spec in features.items():
        if isinstance(spec, Mapping):
            as_image = spec.get("dtype") == "video" and not use_videos
            out[key] = {**spec, "dtype": "image"} if as_image else dict(spec)
        elif isinstance(spec, type) and _is_number(spec):
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


def _is_number(kind: type) -> bool:
    if issubclass(kind, bool | int | float):
        return True
    import numpy as np  # not on the event loop, where a robot's features are looked at before anything else

    return issubclass(kind, np.number | np.bool_)


def _gather(key: str, feature: Mapping[str, Any], values: Mapping[str, Any], side: str) -> Any:
    import numpy as np

    names = feature.get("names")
    if not isinstance(names, list | tuple) or feature["dtype"] not in NUMERIC_DTYPES:
        raise FrameError(f"The {side} has no {key!r}.", key=key)
    if missing := [name for name in names if name not in values]:
        raise FrameError(
            f"The {side} has neither {key!r} nor all of its elements; "
            f"missing: {', '.join(map(str, missing))}.",
            key=key,
        )
    try:
        gathered = np.array([values[name] for name in names])
    except Exception as error:  # a foreign number type may raise anything
        raise FrameError(
            f"The elements of {key!r} in the {side} are not numbers: {error}", key=key
        ) from error
    if gathered.dtype.kind not in "biuf":
        wrong = next(name for name in names if np.asarray(values[name]).dtype.kind not in "biuf")
        raise FrameError(
            f"The elements of {key!r} in the {side} are not numbers: {wrong!r} is {values[wrong]!r:.40}.",
            key=key,
        )
    dtype = np.dtype(feature["dtype"])
    return gathered if gathered.dtype == dtype else converted(key, gathered, dtype)
