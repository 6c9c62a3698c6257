"""Encodes single pictures in memory as lerobot stores them in Parquet: PNG for colour, TIFF for depth."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from ..errors import EncodeError
from .depth import check_depth
from .libav_errors import libav_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

PNG_COMPRESSION = 1
"""zlib's level, as in lerobot: higher ones cost much time for a few per cent."""


class PngEncoder:
    """Encodes pictures of one size, one after the other.

    Args:
        width: pixels.
        height: pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._shape = (height, width, 3)
        with libav_errors("open the png encoder", codec="png"):
            context = av.CodecContext.create("png", "w")
            assert isinstance(context, av.VideoCodecContext)
            context.width, context.height, context.pix_fmt = width, height, "rgb24"
            context.time_base = Fraction(1, 1)
            # With more threads a picture would be returned only after a later one was added.
            context.thread_count = 1
            context.options = {"compression_level": str(PNG_COMPRESSION), "pred": "avg"}
            context.open()
        self._context = context
        self._count = 0

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """One picture as the bytes of a PNG file, lossless.

        Args:
            image: (H, W, 3) uint8, RGB.

        Raises:
            EncodeError: another shape or dtype, or libav failed.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise EncodeError(
                f"A picture is {self._shape} uint8, not {image.shape} {image.dtype}.", codec="png"
            )
        with libav_errors("encode a PNG", codec="png"):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = self._count
            frame.time_base = Fraction(1, 1)
            packets = self._context.encode(frame)
        self._count += 1
        if len(packets) != 1:
            raise EncodeError(f"One picture gave {len(packets)} PNG files.", codec="png")
        return bytes(packets[0])


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """One (H, W, 3) uint8 RGB picture as the bytes of a PNG file; see `PngEncoder` for many.

    Raises:
        EncodeError: another shape or dtype, or libav failed.
    """
    if image.ndim != 3:
        raise EncodeError(f"A picture is (H, W, 3) uint8, not {image.shape}.", codec="png")
    return PngEncoder(image.shape[1], image.shape[0]).encode(image)


def tiff_bytes(depth: NDArray[Any]) -> bytes:
    """One depth map as the bytes of an uncompressed single-strip TIFF file (TIFF 6.0, little-endian).

    Args:
        depth: (H, W) uint16 or float32; values are stored as they are.

    Raises:
        EncodeError: another dtype or number of dimensions.
    """
    check_depth(depth)
    height, width = depth.shape
    little = depth.dtype.newbyteorder("<")
    pixels = np.ascontiguousarray(depth, dtype=little).tobytes()
    sample_format = 1 if depth.dtype == np.uint16 else 3
    # Tag, type (3: uint16, 4: uint32), value; sorted by tag as the format demands.
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8 * little.itemsize),  # bits per sample
        (259, 3, 1),  # not compressed
        (262, 3, 1),  # zero is black
        (273, 4, 0),  # where the strip begins, filled in below
        (277, 3, 1),  # samples per pixel
        (278, 4, height),  # rows per strip
        (279, 4, len(pixels)),
        (339, 3, sample_format),  # 1: unsigned, 3: IEEE float
    ]
    start = 8 + 2 + 12 * len(tags) + 4
    start += -start % 16
    head = struct.pack("<2sHLH", b"II", 42, 8, len(tags))
    for tag, kind, value in tags:
        head += struct.pack("<HHLL", tag, kind, 1, start if tag == 273 else value)
    return head.ljust(start, b"\0") + pixels
