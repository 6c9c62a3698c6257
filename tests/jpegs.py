"""JPEG images as cameras send them, and what a decoder makes of them."""

from __future__ import annotations

import av
import numpy as np
from helpers import picture


def jpeg(k: int, episode: int = 0, height: int = 48, width: int = 64, chroma: str = "yuvj422p") -> bytes:
    """Picture k of an episode, compressed by libav's encoder."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = width, height, chroma, 30
    frame = av.VideoFrame.from_ndarray(picture(k, episode, height, width), format="rgb24")
    (packet,) = encoder.encode(frame.reformat(format=chroma, dst_color_range="JPEG"))
    return bytes(packet)


def decoded(data: bytes) -> np.ndarray:
    """The pixels of a JPEG: (H, W, 3) uint8."""
    (frame,) = av.CodecContext.create("mjpeg", "r").decode(av.Packet(data))
    return frame.to_ndarray(format="rgb24")


def damaged(data: bytes) -> bytes:
    """The same image with a part of its scan overwritten: the header is right, the rest cannot be decoded."""
    start = data.index(b"\xff\xda") + 30
    length = min(200, (len(data) - start) // 2)
    return data[:start] + b"\xff" * length + data[start + length :]
