"""Splits a frame into the named values that a viewer shows, under lerobot's names. Pure.

lerobot shows what the driver returned, before it becomes a frame: ``observation.shoulder_pan.pos`` and
``observation.front``, ``action.shoulder_pan.pos`` (`log_rerun_data` in lerobot 0.6.1's
`lerobot/utils/rerun_visualization.py`). A frame holds the same numbers in vectors, and cameras under
``observation.images.``; here both get the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..encoded_image import EncodedImage
from ..errors import FrameError
from ..features import VISUAL_DTYPES
from ..media.jpeg import decode_image
from ..robots.schema import is_action_key

OBSERVATION = "observation"
ACTION = "action"
_STATE = "observation.state"
_CAMERAS = "observation.images."
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Entity:
    """One value to show.

    Attributes:
        path: its name, beginning with ``observation`` or ``action``.
        value: numbers as float64, shape (n,); or an image as the driver returned it, shape (height, width, 1,
            3 or 4).
        kind: ``numbers``, ``image`` or ``depth``.
    """

    path: str
    value: np.ndarray[Any, Any]
    kind: str


def split_frame(frame: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The observation and the action in a frame."""
    action = {key: value for key, value in frame.items() if is_action_key(key)}
    return {key: value for key, value in frame.items() if key not in action}, action


def entities(
    side: str, values: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]]
) -> Iterator[Entity]:
    """The entities of an observation or an action.

    The vectors ``observation.state`` and ``action`` become one entity per name, other vectors one entity with
    all their numbers. Text and other values that are neither numbers nor images are left out.

    Args:
        side: ``observation`` or ``action``.
        values: of a frame, or flat as a driver returns them.
        features: LeRobot's feature dict; the kind of a value without a feature follows from its shape, as in
            lerobot.
    """
    whole = {_path(side, key) for key in values}
    used: set[str] = set()
    for key, value in values.items():
        feature = features.get(key, {})
        parts = _parts(key, value, feature)
        paths = {_path(side, name): part for name, part in parts.items()}
        if used & paths.keys() or (whole - {_path(side, key)}) & paths.keys():
            paths = {_path(side, key): value}  # another entity has that name
        used |= paths.keys()
        for path, part in paths.items():
            entity = _entity(path, part, feature)
            if entity is not None:
                yield entity


def _path(side: str, name: str) -> str:
    return name if name == side or name.startswith(f"{side}.") else f"{side}.{name}"


def _parts(key: str, value: Any, feature: Mapping[str, Any]) -> dict[str, Any]:
    names = feature.get("names")
    if key in (_STATE, ACTION) and isinstance(names, list | tuple) and np.shape(value) == (len(names),):
        return dict(zip(map(str, names), value, strict=True))
    return {key.removeprefix(_CAMERAS): value}


def _entity(path: str, value: Any, feature: Mapping[str, Any]) -> Entity | None:
    if value is None or isinstance(value, str | bytes):
        return None
    if isinstance(value, EncodedImage):
        try:
            value = decode_image(value)
        except FrameError:  # the next one will do; the recording counts it
            return None
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return None
    if feature.get("dtype") in VISUAL_DTYPES if feature else array.ndim in (2, 3):
        return _image(path, array)
    return Entity(path, array.reshape(-1).astype(float), "numbers")


def _image(path: str, array: np.ndarray[Any, Any]) -> Entity | None:
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    elif array.ndim == 3 and array.shape[0] in _CHANNELS and array.shape[-1] not in _CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[-1] not in _CHANNELS or 0 in array.shape:
        return None
    return Entity(path, array, "depth" if array.shape[-1] == 1 else "image")
