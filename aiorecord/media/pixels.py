"""Allocates frames, and converts pixel formats with the same result every time."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

_READ_PAST = 64
"""Padding bytes after the pixels of a frame: the widest vector that libswscale reads at once."""


class PixelConverter:
    """Converts frames to one pixel format as `av.VideoFrame.reformat` does, in the calling thread.

    PyAV 17 and later split a conversion over threads by default, and the result of some formats then varies
    from one call to the next: where a line's end is not aligned, libswscale writes past it, over the first
    pixels of a line that another thread has finished (seen with 10-bit formats and a width of 854).

    Args:
        pix_fmt: the format to convert to.
    """

    def __init__(self, pix_fmt: str) -> None:
        self._pix_fmt = pix_fmt
        self._reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame in the converter's format; the same object if it has that format already.

        Raises:
            av.FFmpegError: libav cannot convert it.
        """
        return self._reformatter.reformat(frame, format=self._pix_fmt, **_one_thread())


@cache
def _one_thread() -> dict[str, Any]:
    option = {"threads": 1}
    try:
        VideoReformatter().reformat(av.VideoFrame(2, 2, "rgb24"), format="rgba", **option)
    except TypeError:  # before PyAV 17 there is one thread and no option
        return {}
    return option


def new_rgb_frame(height: int, width: int) -> tuple[av.VideoFrame, NDArray[np.uint8]]:
    """An uninitialised RGB frame, and its pixels as a writable, contiguous (H, W, 3) uint8 array."""
    # The memory is numpy's: PyAV releases the GIL to allocate, and the loop would then wait until every
    # camera's thread has had its turn. libswscale may read a little past the last pixel.
    size = height * width * 3
    pixels = np.empty(size + _READ_PAST, np.uint8)[:size].reshape(height, width, 3)
    return av.VideoFrame.from_numpy_buffer(pixels, "rgb24"), pixels
