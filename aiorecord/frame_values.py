"""Turns the values of a frame into arrays of their features' dtypes and shapes, or says what does not fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .encoded_image import EncodedImage
from .errors import FrameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_UINT8 = "B"
"""numpy's character of the dtype. A character, so that importing this module does not import numpy."""

_UINT64 = "LQ"
"""numpy's characters of 64-bit unsigned numbers, one of them on each platform."""

_INT64_MAX = 2**63 - 1
"""lerobot's readers turn every value into a PyTorch tensor, which has no arithmetic for larger numbers."""

_MANY_VALUES = 64
"""Fewer values are checked faster one by one than with numpy."""


def check_numbers(key: str, value: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The numbers of a feature as an array of its dtype and shape, not copied if they are one.

    Raises:
        FrameError: they do not fit.
    """
    array = _as_array(key, value)
    if array.dtype != dtype:
        array = converted(key, array, dtype)
    if dtype.char in _UINT64 and array.size and array.max() > _INT64_MAX:
        raise FrameError(
            f"{key!r} holds {array.max()}; lerobot reads whole numbers up to {_INT64_MAX} (2**63 - 1).",
            key=key,
        )
    if array.shape != shape:
        if array.shape == () and shape == (1,):
            return array.reshape(1)
        raise FrameError(f"{key!r} has shape {array.shape}, expected {shape}.", key=key)
    return array


def converted(key: str, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert numbers to the dtype of their feature, if at most the last digits of floats are lost.

    Floats become floats, rounded as usual, if none becomes infinite; whole numbers and booleans become any
    dtype that holds their values exactly. Floats do not become whole numbers, numbers not booleans.

    Args:
        key: the feature, for messages.
        values: the numbers.
        dtype: the feature's.

    Raises:
        FrameError: something would be lost; the message says what to do.
    """
    import numpy as np

    kind, wanted = values.dtype.kind, dtype.kind
    if kind not in "biuf" or (kind, wanted) in (("f", "i"), ("f", "u")) or wanted == "b":
        advice = ""
        if kind == "f" and wanted in "iu":
            advice = f" Round them yourself: np.rint(values).astype({dtype.name!r})."
        elif kind in "iuf":
            advice = " Say what counts as true, such as values != 0."
        raise FrameError(f"{key!r} has dtype {values.dtype}, expected {dtype}.{advice}", key=key)
    if kind == "f":
        with np.errstate(over="ignore"):
            narrowed = values.astype(dtype)
        if not all_finite(narrowed) and (np.isfinite(values) & ~np.isfinite(narrowed)).any():
            raise FrameError(
                f"{key!r} holds values that {dtype} cannot hold: at most {np.finfo(dtype).max:.3g}. Scale "
                "them, or declare the feature as float64.",
                key=key,
            )
        return narrowed
    if kind != "b" and values.size:
        low, high = int(values.min()), int(values.max())
        if wanted == "f":
            most = 2 ** (np.finfo(dtype).nmant + 1)
            fits, reach = -most <= low and high <= most, f"-{most} to {most} without gaps"
        else:
            least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
            fits, reach = least <= low and high <= most, f"{least} to {most}"
        if not fits:
            raise FrameError(
                f"{key!r} holds whole numbers from {low} to {high}; {dtype} holds {reach}. Declare the "
                "feature as a wider dtype, or convert the values yourself.",
                key=key,
            )
    return values.astype(dtype)


def check_image(
    key: str, value: Any, size_hwc: tuple[int, int, int], *, is_depth: bool
) -> NDArray[Any] | EncodedImage:
    """The image of a camera: (H, W, C) uint8 or an encoded one for colour, (H, W) for depth; not copied.

    Raises:
        FrameError: it does not fit.
    """
    import numpy as np

    height, width, channels = size_hwc
    if isinstance(value, EncodedImage):
        if is_depth:
            raise FrameError(f"{key!r} is a JPEG image; depth is an array.", key=key)
        value.check(key, height, width)
        return value
    array = _as_array(key, value)
    if array.dtype.char == _UINT8 and array.shape == size_hwc and not is_depth:
        return array
    if array.shape == (channels, height, width) and array.shape != (height, width, channels):
        array = array.transpose(1, 2, 0)
    elif channels == 1 and array.shape == (height, width):
        array = array[..., None]
    elif array.shape != (height, width, channels):
        raise FrameError(
            f"{key!r} has shape {array.shape}, expected {(height, width, channels)} or "
            f"{(channels, height, width)}.",
            key=key,
        )
    if is_depth:
        if array.dtype not in (np.uint16, np.float32):
            raise FrameError(
                f"{key!r} has dtype {array.dtype}; depth is uint16 millimetres or float32 metres. A grey "
                "image is stored as three equal channels.",
                key=key,
            )
        return array[..., 0]
    if array.dtype.char == _UINT8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise FrameError(f"{key!r} has dtype {array.dtype}; pixels are uint8, or floats in [0, 1].", key=key)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):
        raise FrameError(f"{key!r} holds floats from {low:g} to {high:g}; pixels must be in [0, 1].", key=key)
    return np.asarray(np.rint(array * 255), dtype=np.uint8)


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no value is NaN or infinite."""
    import numpy as np

    if array.size > _MANY_VALUES:
        return bool(np.isfinite(array).all())
    return all(map(math.isfinite, array.ravel().tolist()))


def _as_array(key: str, value: Any) -> NDArray[Any]:
    import numpy as np

    if type(value) is np.ndarray and value.dtype.kind != "O":
        return value
    if value is None:
        raise FrameError(f"{key!r} is None; every feature needs a value in every frame.", key=key)
    try:
        array = np.asarray(value)
    except Exception as error:  # a foreign __array__ may raise anything
        raise FrameError(f"{key!r} cannot be read as an array: {error}", key=key) from error
    if array.dtype == object:
        raise FrameError(f"{key!r} is not a regular array ({type(value).__name__}).", key=key)
    return array
