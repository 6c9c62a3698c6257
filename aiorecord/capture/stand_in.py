"""Decodes a camera's images while it is captured, where its file takes no encoded ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..media.jpeg import JpegDecoder


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
        self._last: NDArray[np.uint8] | None = None
        self.corrupt = 0

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """The pixels of an image, (H, W, 3), which stay as they are."""
        self._decoder = self._decoder or JpegDecoder(*self._size)
        image = self._decoder.decode(data)
        if image is not None:
            self._last = np.asarray(image.to_ndarray(), np.uint8)
        self.corrupt += image is None
        return np.zeros((*self._size, 3), np.uint8) if self._last is None else self._last
