"""LeRobot feature dicts and the check that a frame fits them. Pure: no I/O, no state.

A feature dict maps a key to ``{"dtype": ..., "shape": ..., "names": ...}`` (and ``"info"`` for cameras), as
in lerobot's ``meta/info.json``. Keys of cameras have dtype ``video`` (an MP4) or ``image`` (PNG in Parquet).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .encoded_image import EncodedImage
from .errors import FeatureError, FrameError
from .frame_values import all_finite, check_image, check_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_FEATURES: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": (1,), "names": None},
    "frame_index": {"dtype": "int64", "shape": (1,), "names": None},
    "episode_index": {"dtype": "int64", "shape": (1,), "names": None},
    "index": {"dtype": "int64", "shape": (1,), "names": None},
    "task_index": {"dtype": "int64", "shape": (1,), "names": None},
}
"""Columns that every dataset has and that no caller supplies (lerobot's `DEFAULT_FEATURES`)."""

NUMERIC_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
VISUAL_DTYPES = ("image", "video")
MAX_DIMENSIONS = 5
"""Parquet columns hold arrays of up to five dimensions (the `datasets` library's Array2D to Array5D)."""

MAX_ELEMENTS = 2**31 - 1
"""Arrow counts the values of a row in 32 bits."""

RESERVED_KEYS = frozenset({"task", "size"})


@dataclass(frozen=True)
class Feature:
    """One feature, checked.

    Attributes:
        key: its name, such as ``observation.images.front``.
        dtype: a numpy dtype name, ``string``, ``image`` or ``video``.
        shape: as given by the user; for cameras (H, W, C) or (C, H, W).
        names: names of the elements or axes, or None.
        info: lerobot's per-feature info (``is_depth_map``, ``depth_unit``, ``video.*``).
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: Any = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def is_video(self) -> bool:
        """Stored as a video."""
        return self.dtype == "video"

    @property
    def is_image(self) -> bool:
        """Stored as images inside Parquet."""
        return self.dtype == "image"

    @property
    def is_visual(self) -> bool:
        """A camera, whether stored as video or as images."""
        return self.dtype in VISUAL_DTYPES

    @cached_property
    def is_depth(self) -> bool:
        """A depth camera: one channel of uint16 millimetres or float32 metres."""
        return self.is_visual and bool(self.info.get("is_depth_map") or self.info.get("video.is_depth_map"))

    @cached_property
    def size_hwc(self) -> tuple[int, int, int]:
        """Height, width and channels of a camera, whichever way round `shape` is."""
        if _channels_first(self.shape, self.names):
            c, h, w = self.shape
        else:
            h, w, c = self.shape
        return h, w, c

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of a value that is neither a camera's nor a string."""
        import numpy as np  # imported when the first frame is checked, so that importing the package is fast

        return np.dtype(self.dtype)

    def check(self, value: Any) -> Any:
        """Check a value by the rules of `Schema.check`. Nothing is copied.

        Returns:
            What `CheckedFrame` holds of it.

        Raises:
            FrameError: it has another shape or dtype.
        """
        if self.is_visual:
            return check_image(self.key, value, self.size_hwc, is_depth=self.is_depth)
        if self.dtype != "string":
            return check_numbers(self.key, value, self.numpy_dtype, self.shape)
        if not isinstance(value, str):
            raise FrameError(f"{self.key!r} must be a string, not {type(value).__name__}.", key=self.key)
        return value

    def as_dict(self) -> dict[str, Any]:
        """The feature as lerobot writes it (shape as a list, for JSON)."""
        value: dict[str, Any] = {"dtype": self.dtype, "shape": list(self.shape), "names": self.names}
        if self.info:
            value["info"] = dict(self.info)
        return value


@dataclass
class CheckedFrame:
    """A frame that fits the schema.

    Attributes:
        values: for each non-camera feature an array of its dtype and shape (not yet copied), or a str.
        images: for each camera the pixels, not yet copied: colour as (H, W, C) uint8, or as an
            `EncodedImage`; depth as (H, W) uint16 or float32.
        task: the task given with this frame, or None.
        nonfinite: keys of values that hold NaN or infinity.
    """

    values: dict[str, Any]
    images: dict[str, NDArray[Any] | EncodedImage]
    task: str | None
    nonfinite: tuple[str, ...]


MAX_PIXELS = 1 << 27
"""Most values per image: a feature dict from a file must not cause a huge allocation."""

MAX_VALUES = 1 << 22
"""Most values per frame of a feature that is not a camera."""


class Schema(Mapping[str, Feature]):
    """The checked features of a dataset, without the default columns.

    Args:
        features: LeRobot's feature dict; default columns in it are ignored.

    Raises:
        FeatureError: a name, dtype or shape that no dataset can hold, or no feature at all.
    """

    def __init__(self, features: Mapping[str, Mapping[str, Any]]) -> None:
        self._features = {
            key: _check_feature(key, spec) for key, spec in features.items() if key not in DEFAULT_FEATURES
        }
        if not self._features:
            raise FeatureError(
                "A dataset needs at least one feature, such as 'observation.state' or 'action'."
            )
        for key, feature in self._features.items():
            most = 3 * MAX_PIXELS if feature.is_visual else MAX_VALUES
            if math.prod(feature.shape) > most:
                raise FeatureError(
                    f"Feature {key!r} has {math.prod(feature.shape)} values per frame; {most} can be stored.",
                    key=key,
                )
        self.cameras: dict[str, Feature] = {k: f for k, f in self._features.items() if f.is_visual}
        self.columns: dict[str, Feature] = {k: f for k, f in self._features.items() if not f.is_visual}

    def __getitem__(self, key: str) -> Feature:
        return self._features[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    @property
    def videos(self) -> dict[str, Feature]:
        """Cameras stored as video."""
        return {key: feature for key, feature in self.cameras.items() if feature.is_video}

    @property
    def images(self) -> dict[str, Feature]:
        """Cameras stored as images in Parquet."""
        return {key: feature for key, feature in self.cameras.items() if feature.is_image}

    def as_dict(self, *, defaults: bool = True) -> dict[str, dict[str, Any]]:
        """LeRobot's feature dict, JSON-ready; with the default columns last, as lerobot orders them."""
        out = {key: feature.as_dict() for key, feature in self._features.items()}
        if defaults:
            out |= {key: {**spec, "shape": list(spec["shape"])} for key, spec in DEFAULT_FEATURES.items()}
        return out

    def check(self, frame: Mapping[str, Any]) -> CheckedFrame:
        """Check one frame against the features. Nothing is copied.

        Args:
            frame: a value for every feature; optionally ``"task"``. Numeric values are arrays, lists or
                numbers of the feature's shape; other dtypes are converted, see `converted`. Cameras are
                (H, W, C) or (C, H, W), uint8 or floats in [0, 1] (numpy, PIL or torch), or an
                `EncodedImage`, whose header is checked and which is not decoded; depth is (H, W),
                (H, W, 1) or (1, H, W), uint16 millimetres or float32 metres.

        Raises:
            FrameError: it is not a dict, a key is missing or unknown, or a value has another shape, or a
                dtype that cannot be converted without loss.
        """
        if not isinstance(frame, Mapping):
            raise FrameError(f"A frame is a dict with a value for every feature, not {type(frame).__name__}.")
        if frame.keys() - {"task"} != self._features.keys():
            raise self._key_error(frame)
        task = frame.get("task")
        if task is not None and not isinstance(task, str):
            raise FrameError(f"The task must be a string, not {type(task).__name__}.", key="task")
        values: dict[str, Any] = {}
        nonfinite: list[str] = []
        for key, feature in self.columns.items():
            values[key] = value = feature.check(frame[key])
            if feature.dtype.startswith("float") and not all_finite(value):
                nonfinite.append(key)
        images = {key: feature.check(frame[key]) for key, feature in self.cameras.items()}
        return CheckedFrame(values, images, task, tuple(nonfinite))

    def check_one(self, key: str, value: Any) -> Any:
        """Check the value of one feature by the rules of `check`. Nothing is copied.

        Returns:
            The value as `check` returns it.

        Raises:
            FrameError: it has another shape or dtype.
        """
        return self._features[key].check(value)

    def _key_error(self, frame: Mapping[str, Any]) -> FrameError:
        missing = sorted(self._features.keys() - frame.keys())
        unknown = sorted(frame.keys() - self._features.keys() - {"task"})
        parts = []
        if missing:
            parts.append(f"missing: {', '.join(missing)}")
        if given := sorted(set(unknown) & DEFAULT_FEATURES.keys()):
            parts.append(f"filled in by aiorecord, do not pass: {', '.join(given)}")
        if extra := sorted(set(unknown) - DEFAULT_FEATURES.keys()):
            parts.append(f"unknown: {', '.join(extra)}")
        return FrameError(f"The frame does not match the features ({'; '.join(parts)}).")


def _check_feature(key: str, spec: Mapping[str, Any]) -> Feature:
    check_key(key)
    if not isinstance(spec, Mapping) or "dtype" not in spec or "shape" not in spec:
        raise FeatureError(f"Feature {key!r} needs a dict with 'dtype' and 'shape', got {spec!r}.", key=key)
    dtype, names, given = spec["dtype"], spec.get("names"), spec.get("info") or {}
    if not isinstance(given, Mapping):
        raise FeatureError(f"Feature {key!r}: info must be a dict, not {given!r:.40}.", key=key)
    info = dict(given)
    try:
        shape = tuple(int(n) for n in spec["shape"])
    except (TypeError, ValueError, OverflowError):
        raise FeatureError(f"Feature {key!r}: shape must be a list of integers.", key=key) from None
    if any(n < 1 for n in shape):
        raise FeatureError(f"Feature {key!r}: shape {shape} has an empty dimension.", key=key)
    if math.prod(shape) > MAX_ELEMENTS:
        raise FeatureError(f"Feature {key!r}: shape {shape} has more than {MAX_ELEMENTS} values.", key=key)
    if dtype in VISUAL_DTYPES:
        return _check_camera(Feature(key, dtype, shape, names, info))
    if dtype == "string":
        if shape != (1,):
            raise FeatureError(f"Feature {key!r}: a string has shape (1,), not {shape}.", key=key)
    elif dtype not in NUMERIC_DTYPES:
        raise FeatureError(
            f"Feature {key!r}: dtype {dtype!r} cannot be stored. "
            f"Use one of: {', '.join((*NUMERIC_DTYPES, 'string', *VISUAL_DTYPES))}.",
            key=key,
        )
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise FeatureError(
            f"Feature {key!r}: shape {shape} must have 1 to {MAX_DIMENSIONS} dimensions; a scalar is (1,).",
            key=key,
        )
    return Feature(key, dtype, shape, names, info)


def _check_camera(feature: Feature) -> Feature:
    if len(feature.shape) != 3 or feature.size_hwc[2] not in (1, 3):
        raise FeatureError(
            f"Camera {feature.key!r}: shape must be (height, width, 3) for colour or (height, width, 1) "
            f"for depth (or channels first), not {feature.shape}.",
            key=feature.key,
        )
    height, width, channels = feature.size_hwc
    if channels == 3 and feature.is_depth:
        raise FeatureError(
            f"Camera {feature.key!r}: a depth map has one channel, not three.", key=feature.key
        )
    if channels == 1 and False in (feature.info.get("is_depth_map"), feature.info.get("video.is_depth_map")):
        raise FeatureError(
            f"Camera {feature.key!r}: one channel is stored as depth only. Give a grey image as three equal "
            "channels (height, width, 3), or say that it is depth: info={'is_depth_map': True}.",
            key=feature.key,
        )
    if channels == 1 and not feature.is_depth:
        # lerobot flags every single-channel camera as depth when it derives features from a robot.
        info = {**feature.info, "is_depth_map": True}
        feature = Feature(feature.key, feature.dtype, feature.shape, feature.names, info)
    if feature.is_video and (height % 2 or width % 2) and not feature.is_depth:
        raise FeatureError(
            f"Camera {feature.key!r}: video needs an even width and height, not {width}x{height}. "
            "Crop a pixel, or store it as dtype 'image'.",
            key=feature.key,
        )
    return feature


def check_key(key: object) -> None:
    """Check a feature name: it becomes a folder name and a column name.

    Raises:
        FeatureError: it is empty, too long, reserved, or holds a separator or control character.
    """
    if not isinstance(key, str) or not key:
        raise FeatureError(f"A feature name must be a non-empty string, not {key!r}.")
    if key in RESERVED_KEYS:
        raise FeatureError(f"{key!r} is reserved; a feature cannot have that name.", key=key)
    bad = sorted({c for c in key if c in '/\\:*?"<>|' or not c.isprintable()})
    if bad or key.startswith((".", " ")) or key.endswith((".", " ")) or len(key.encode()) > 200:
        why = f"contains {', '.join(map(repr, bad))}" if bad else "cannot be a folder name"
        raise FeatureError(f"Feature name {key!r} {why}; use letters, digits, '.', '_' and '-'.", key=key)


def _channels_first(shape: tuple[int, ...], names: Any) -> bool:
    if isinstance(names, list | tuple) and len(names) == 3:
        if str(names[0]).lower().startswith("channel"):
            return True
        if str(names[2]).lower().startswith("channel"):
            return False
    return shape[-1] not in (1, 3) and shape[0] in (1, 3)
