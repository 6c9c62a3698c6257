"""Checks the feature values that a device returns, and keeps the last good value of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...encoded_image import EncodedImage
from ...errors import FrameError
from ...features import Feature, Schema
from ..protocols import Features, Values
from ..schema import build_frame, flat_camera, is_action_key


class DeviceValues:
    """Checks the recorded features of one device and keeps a copy of the newest good value of each.

    Keeping it takes one copy of every picture, into reused memory; none if each returned picture is new.

    Args:
        schema: of the dataset.
        declared: the device's own features, in either style; None if it declares none.
        is_action: actions rather than observations.
        finite: numbers must be finite.
        new_images: returned pictures are never changed afterwards.
    """

    def __init__(
        self,
        schema: Schema,
        declared: Features | None,
        *,
        is_action: bool,
        finite: bool = False,
        new_images: bool = False,
    ) -> None:
        self._schema = schema
        self._is_action = is_action
        self._finite = finite
        self._new_images = new_images
        self.features = _features_of(schema, declared, is_action)
        self._specs = {key: {key: feature.as_dict()} for key, feature in self.features.items()}
        self._good: dict[str, Values] = {}

    def check(self, values: Values) -> dict[str, str]:
        """Check the values that a device returned, and keep the good ones.

        Returns:
            The problems, by feature.
        """
        problems: dict[str, str] = {}
        for key, feature in self.features.items():
            raw = _raw_values(feature, values, self._is_action)
            problem = self._problem(key, feature, raw)
            if problem is None:
                self._keep(key, raw)
            else:
                problems[key] = problem
        return problems

    def has(self, key: str) -> bool:
        """Whether there is a value for a feature."""
        return key in self._good

    def held(self, key: str) -> Values:
        """The last good value of a feature, under the device's names, copied."""
        return {name: _copy(value) for name, value in self._good[key].items()}

    def _problem(self, key: str, feature: Feature, raw: Values) -> str | None:
        if not raw:
            return "is missing"
        if missing := [name for name, value in raw.items() if value is None]:
            # numpy would turn None into NaN.
            return "is None" if len(raw) == 1 else f"{', '.join(map(str, missing))} is None"
        observation, action = ({}, raw) if self._is_action else (raw, {})
        try:
            value = self._schema.check_one(key, build_frame(self._specs[key], observation, action)[key])
        except FrameError as error:
            return str(error)
        if self._finite and feature.dtype.startswith("float"):
            import numpy as np

            if not np.isfinite(value).all():
                return "holds NaN or infinity"
        return None

    def _keep(self, key: str, raw: Values) -> None:
        import numpy as np

        good = self._good.setdefault(key, {})
        for name in good.keys() - raw.keys():
            del good[name]
        if self._new_images and self.features[key].is_visual:
            good.update(raw)
            return
        for name, value in raw.items():
            before = good.get(name)
            if (
                isinstance(value, np.ndarray)
                and isinstance(before, np.ndarray)
                and (before.shape, before.dtype) == (value.shape, value.dtype)
            ):
                np.copyto(before, value)
            else:
                good[name] = _copy(value)


def _copy(value: Any) -> Any:
    """A copy that the driver cannot change: drivers may reuse their buffers."""
    import numpy as np

    unchanging = str | bytes | int | float | np.generic | EncodedImage
    return value if isinstance(value, unchanging) else np.array(value)


def _raw_values(feature: Feature, values: Mapping[str, Any], is_action: bool) -> Values:
    """The values that make up a feature, as `build_frame` finds them; empty if there are none."""
    key = feature.key
    if key in values:
        return {key: values[key]}
    if feature.is_visual:
        name = flat_camera(key, is_action)
        return {name: values[name]} if name in values else {}
    names = feature.names
    if isinstance(names, list | tuple):
        return {name: values[name] for name in names if name in values}
    return {}


def _features_of(schema: Schema, declared: Features | None, is_action: bool) -> dict[str, Feature]:
    """The features of a device: those it declares, or else those with its kind of name."""
    found: dict[str, Feature] = {}
    if declared is not None and not {"dtype", "shape"} <= declared.keys():
        found = {
            key: feature
            for key, feature in schema.items()
            if is_action_key(key) == is_action and _raw_values(feature, declared, is_action)
        }
    return found or {
        key: feature
        for key, feature in schema.items()
        if (is_action_key(key) if is_action else key.startswith("observation"))
    }
