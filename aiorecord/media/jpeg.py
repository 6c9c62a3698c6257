"""Decodes JPEG images into RGB, with the same result for every caller."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from ..encoded_image import EncodedImage
from ..errors import FrameError
from ..jpeg_header import JpegError
from .pixels import PixelConverter, new_rgb_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRICT = "crccheck+bitstream+buffer+explode"
"""Makes libav's decoder refuse an image whose data end early or are not valid, instead of filling it up."""

PADDING = 64
"""Decoders round sizes up to whole blocks, by at most so many pixels."""


class JpegDecoder:
    """Decodes JPEG images of one size, one at a time, in the calling thread.

    JPEG has full-range BT.601 colours (JFIF 1.02); the conversion is that of `PixelConverter`, and so of
    PyAV's ``to_ndarray(format="rgb24")``.

    Args:
        height: pixels of every image.
        width: likewise.
    """

    def __init__(self, height: int, width: int) -> None:
        self._size = (height, width)
        self._converter = PixelConverter("rgb24")
        self._decoder = self._new_decoder()

    def decode(self, data: bytes) -> av.VideoFrame | None:
        """Decode an image.

        Args:
            data: the JPEG.

        Returns:
            A new rgb24 frame without colour tags, as a frame made of an array is; None if the data are
            damaged, or have another size.
        """
        try:
            frames = self._decoder.decode(av.Packet(data))
        except (av.FFmpegError, ValueError):  # PyAV: an empty packet is a ValueError
            self._decoder = self._new_decoder()
            return None
        if len(frames) != 1 or (frames[0].height, frames[0].width) != self._size or frames[0].is_corrupt:
            return None
        # The pixels are copied into a frame without the colour tags of the JPEG: libswscale would convert a
        # tagged one to the final video's format in another way.
        frame, pixels = new_rgb_frame(*self._size)
        pixels[:] = self._converter.convert(frames[0]).to_ndarray()
        return frame

    def _new_decoder(self) -> VideoCodecContext:
        decoder = av.CodecContext.create("mjpeg", "r")
        assert isinstance(decoder, VideoCodecContext)
        height, width = self._size
        decoder.thread_count = 1
        # Pictures larger than the camera's are refused, whatever the data claim.
        pixels = (height + PADDING) * (width + PADDING)
        decoder.options = {"err_detect": STRICT, "max_pixels": str(pixels)}
        return decoder


@lru_cache(maxsize=8)
def decode_image(image: EncodedImage) -> NDArray[np.uint8]:
    """The pixels of an encoded image; the newest few are kept, so that several viewers decode it once.

    Takes milliseconds: not for the event loop.

    Returns:
        (H, W, 3) uint8, read-only.

    Raises:
        FrameError: it is no JPEG, or cannot be decoded.
    """
    try:
        header = image.read_header()
    except JpegError as error:
        raise FrameError(f"The image cannot be decoded: {error}.") from None
    frame = JpegDecoder(header.height, header.width).decode(image.data)
    if frame is None:
        raise FrameError("The image cannot be decoded: its data are damaged.")
    pixels = np.asarray(frame.to_ndarray(), np.uint8)
    pixels.setflags(write=False)
    return pixels
