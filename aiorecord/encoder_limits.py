"""The frame sizes and rates that each encoder accepts, checked before an encoder is opened.

Some libraries do not reject unsupported sizes: SVT-AV1 divides by zero at a width of 24 and writes past its
buffers at a height of 8. So these limits are checked before the codec is opened.
"""

from __future__ import annotations

from typing import NamedTuple

from .encoders import VideoEncoderConfig
from .errors import ConfigError

MAX_FPS = 1000
"""lerobot distinguishes frames by their seconds, compared with a tolerance of 1e-4 s in 32 bits."""


class EncoderLimits(NamedTuple):
    """The limits of one encoder.

    Attributes:
        least: smallest width and height, in pixels.
        most: largest width and height.
        fps: most frames per second.
    """

    least: tuple[int, int]
    most: tuple[int, int]
    fps: int = MAX_FPS


LIMITS = {
    "libsvtav1": EncoderLimits((32, 16), (16384, 8704), 240),
    "libaom-av1": EncoderLimits((2, 2), (65536, 65536)),
    "h264": EncoderLimits((2, 2), (16384, 16384)),
    "hevc": EncoderLimits((16, 16), (16384, 16384)),
}
"""Measured with SVT-AV1's presets, x264, x265 and libaom; hardware encoders are tested by opening them."""


def check_video_limits(encoder: VideoEncoderConfig, width: int, height: int, fps: int) -> None:
    """Refuse a size or a rate that the encoder cannot take.

    Args:
        encoder: its codec; ``auto`` and hardware encoders are not checked here.
        width: in pixels.
        height: in pixels.
        fps: frames per second.

    Raises:
        ConfigError: it cannot; the message names the limit.
    """
    limits = LIMITS.get(encoder.vcodec)
    if limits is None:
        return
    (least_w, least_h), (most_w, most_h) = limits.least, limits.most
    if width < least_w or height < least_h:
        raise ConfigError(
            f"{encoder.vcodec} encodes {least_w}x{least_h} pixels at least, not {width}x{height}. Use larger "
            "images, another vcodec (such as h264), or dtype 'image'.",
            option="vcodec",
        )
    if width > most_w or height > most_h:
        raise ConfigError(
            f"{encoder.vcodec} encodes {most_w}x{most_h} pixels at most, not {width}x{height}. Use smaller "
            "images or dtype 'image'.",
            option="vcodec",
        )
    if fps > limits.fps:
        raise ConfigError(
            f"{encoder.vcodec} encodes {limits.fps} frames per second at most, not {fps}. Use a lower rate "
            "or another vcodec, such as h264.",
            option="fps",
        )
