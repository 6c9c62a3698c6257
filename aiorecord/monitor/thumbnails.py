"""Makes small pictures of camera images, for a notebook page."""

from __future__ import annotations

import base64
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

WIDTH = 240
"""Approximate largest width of a thumbnail, in pixels."""


def thumbnail(image: NDArray[Any]) -> NDArray[Any]:
    """Every n-th pixel of an image, copied, so that the image may be overwritten. Takes microseconds.

    Args:
        image: (H, W, 3) uint8, or depth as (H, W).
    """
    width = image.shape[1]
    step = max(1, -(-width // WIDTH))
    small = image[::step, ::step]
    even = (small.shape[0] // 2 * 2 or 1, small.shape[1] // 2 * 2 or 1)  # JPEG halves the colour resolution
    return np.array(small[: even[0], : even[1]])


def data_url(small: NDArray[Any]) -> str:
    """A thumbnail as a JPEG in a URL; depth is stretched from nearest to farthest. Takes milliseconds."""
    if small.ndim == 2:
        near, far = float(np.nanmin(small)), float(np.nanmax(small))
        grey = np.nan_to_num((small.astype(np.float32) - near) * (255 / ((far - near) or 1.0)))
        small = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    height, width = small.shape[:2]
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 30)
    encoder.options = {"qmin": "3", "qmax": "6"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(small), format="rgb24")
    packets = [*encoder.encode(frame.reformat(format="yuvj420p")), *encoder.encode(None)]
    return "data:image/jpeg;base64," + base64.b64encode(b"".join(map(bytes, packets))).decode()
