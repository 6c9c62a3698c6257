"""Makes pictures of camera images that views can show: smaller ones, JPEGs, depth as grey."""

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
        grey = np.nan_to_num(stretched(small, 255.0)).clip(0, 255).astype(np.uint8)
        small = np.repeat(grey[..., None], 3, axis=2)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(small, (3, 6))).decode()


def stretched(depth: NDArray[Any], top: float) -> NDArray[np.float32]:
    """Depth from its nearest point (0) to its farthest (`top`); NaN stays NaN."""
    near, far = (float(bound.reduce(depth, axis=None)) for bound in (np.fmin, np.fmax))
    full: NDArray[np.float32] = (depth.astype(np.float32) - near) / ((far - near) or 1.0) * top
    return full


def jpeg(picture: NDArray[np.uint8], quantizers: tuple[int, int]) -> bytes:
    """A picture (H, W, 3) uint8 as a JPEG file.

    Args:
        picture: in RGB.
        quantizers: the finest and the coarsest that the encoder may use, 1 to 31.
    """
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 30)
    encoder.options = dict(zip(("qmin", "qmax"), map(str, quantizers), strict=True))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    packets = [*encoder.encode(frame.reformat(format="yuvj420p")), *encoder.encode(None)]
    return b"".join(map(bytes, packets))
