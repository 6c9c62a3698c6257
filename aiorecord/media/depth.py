"""Quantises depth to 12-bit codes, with the same result as lerobot, bit for bit.

The formula follows lerobot 0.6.1 (`quantize_depth` in `lerobot/datasets/depth_utils.py`): all of it in
float32 and in the unit of the sensor, logarithms of the limits in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from ..encoders import DEPTH_QUANTA, DepthEncoderConfig
from ..errors import EncodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH_PIX_FMT = "gray12le"
"""The only pixel format from which lerobot reads depth codes back unchanged."""

_MILLIMETRES = 1000.0


def check_depth(depth: NDArray[Any]) -> None:
    """Check that a depth map is (H, W) uint16 or float32; raises EncodeError if not."""
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32):
        raise EncodeError(f"A depth map is (H, W) uint16 or float32, not {depth.shape} {depth.dtype}.")


class DepthQuantizer:
    """Turns depth maps into 12-bit codes.

    Pixels nearer than `depth_min` become 0, farther than `depth_max` 4095. Values without a depth raise no
    error: NaN, minus infinity and values without a logarithm become 0, infinity becomes 4095.

    Args:
        encoder: the quantiser's parameters, in metres.
    """

    def __init__(self, encoder: DepthEncoderConfig) -> None:
        self._encoder = encoder
        self._table: NDArray[np.uint16] | None = None

    def codes(self, depth: NDArray[Any]) -> NDArray[np.uint16]:
        """Quantise one depth map.

        Args:
            depth: (H, W) uint16 in millimetres or float32 in metres.

        Returns:
            (H, W) uint16 codes from 0 to 4095.

        Raises:
            EncodeError: another dtype or number of dimensions.
        """
        check_depth(depth)
        if depth.dtype == np.float32:
            return self._quantize(depth, 1.0)
        if self._table is None:
            every = np.arange(1 << 16, dtype=np.uint16)
            self._table = self._quantize(every.astype(np.float32), _MILLIMETRES)
        codes: NDArray[np.uint16] = self._table[depth]
        return codes

    def frame(self, depth: NDArray[Any]) -> av.VideoFrame:
        """Quantise one depth map into a ``gray12le`` frame.

        Raises:
            EncodeError: as `codes`.
        """
        codes = self.codes(depth)
        height, width = codes.shape
        frame = av.VideoFrame(width, height, DEPTH_PIX_FMT)
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint16).reshape(height, plane.line_size // 2)
        rows[:, :width] = codes
        rows[:, width:] = 0
        return frame

    def _quantize(self, depth: NDArray[np.float32], per_metre: float) -> NDArray[np.uint16]:
        encoder = self._encoder
        low = np.float32(encoder.depth_min * per_metre)
        high = np.float32(encoder.depth_max * per_metre)
        # Infinity and NaN are replaced below; numpy need not warn about them.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if encoder.use_log:
                shift = np.float32(encoder.shift * per_metre)
                log_low, log_high = math.log(float(low + shift)), math.log(float(high + shift))
                share = (np.log(depth + shift) - log_low) / (log_high - log_low)
            else:
                share = (depth - low) / (high - low)
            levels = np.rint(share * DEPTH_QUANTA).clip(0, DEPTH_QUANTA)
        codes: NDArray[np.uint16] = np.nan_to_num(levels, copy=False, nan=0.0).astype(np.uint16)
        return codes


def depths_of_codes(info: Mapping[str, Any]) -> NDArray[np.float32]:
    """The depth of each 12-bit code, in the dataset's unit: the quantiser backwards.

    Args:
        info: of a camera feature in info.json; what it does not say has its default.
    """
    encoder = DepthEncoderConfig()
    settings = {
        name: info.get(f"video.{name}", getattr(encoder, name))
        for name in ("depth_min", "depth_max", "shift", "use_log")
    }
    low, high, shift = (float(settings[name]) for name in ("depth_min", "depth_max", "shift"))
    share = np.arange(DEPTH_QUANTA + 1) / DEPTH_QUANTA
    with np.errstate(all="ignore"):
        if settings["use_log"]:
            depth = np.exp(share * (np.log(high + shift) - np.log(low + shift)) + np.log(low + shift)) - shift
        else:
            depth = share * (high - low) + low
    factor = _MILLIMETRES if info.get("depth_unit") == "mm" else 1.0
    return np.asarray(depth * factor, np.float32)
