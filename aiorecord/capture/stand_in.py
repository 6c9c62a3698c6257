"""Decodes a camera's images while it is captured, where its file takes no encoded ones."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from ..media.jpeg import JpegDecoder
from ..media.pixels import new_rgb_frame


class StandIn:
    """Decodes images; the one before stands in for one that cannot be decoded, or black for the first.

    Args:
        height: pixels of every image.
        width: likewise.

    Attributes:
        corrupt: images that could not be decoded.
    """

    def __init__(self, height: int, width: int) -> None:
        self._size = (height, width)
        self._decoder: JpegDecoder | None = None  # made when the first image comes: few cameras need it
        self._last: av.VideoFrame | None = None
        self.corrupt = 0

    def decode(self, data: bytes) -> tuple[av.VideoFrame, NDArray[np.uint8]]:
        """A new rgb24 frame, and its pixels (H, W, 3)."""
        self._decoder = self._decoder or JpegDecoder(*self._size)
        image = self._decoder.decode(data)
        self.corrupt += image is None
        self._last = image or self._last
        frame, pixels = new_rgb_frame(*self._size)
        pixels[:] = 0 if self._last is None else self._last.to_ndarray()
        return frame, pixels
