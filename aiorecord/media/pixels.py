"""Conversion of pixel formats, with the same result every time."""

from __future__ import annotations

from functools import cache
from typing import Any

import av
from av.video.reformatter import VideoReformatter


class PixelConverter:
    """Converts frames to one pixel format as `av.VideoFrame.reformat` does, in the calling thread.

    PyAV 17 and later split a conversion over threads by default, and then some formats come out differently
    from one time to the next: where a line's end is not aligned, libswscale writes past it, over the first
    pixels of a line that another thread has finished (seen with 10-bit formats and a width of 854).

    Args:
        pix_fmt: the format to convert to.
    """

    def __init__(self, pix_fmt: str) -> None:
        self._pix_fmt = pix_fmt
        self._reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame in the converter's format; the same object if it is in it already.

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
