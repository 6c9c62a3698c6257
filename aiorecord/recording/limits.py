"""Checks of a recorder's rate, and of its cameras' sizes against the limits of their encoders. Pure."""

from __future__ import annotations

from ..encoder_limits import MAX_FPS, check_video_limits
from ..errors import ConfigError
from ..features import Schema
from ..options import RecorderOptions
from ..values import is_whole


def check_rate(fps: object) -> None:
    """Check frames per second.

    Raises:
        ConfigError: it is no whole number from 1 on, or above `MAX_FPS`.
    """
    if not is_whole(fps, 1):
        raise ConfigError(
            f"fps must be a whole number of frames per second, 1 or more, not {fps!r}.", option="fps"
        )
    if fps > MAX_FPS:
        raise ConfigError(f"fps must be {MAX_FPS} or less, not {fps}.", option="fps")


def check_limits(schema: Schema, fps: int, options: RecorderOptions) -> None:
    """Check the sizes and the rate against the limits of the encoders; raises ConfigError."""
    for camera in schema.videos.values():
        height, width, _ = camera.size_hwc
        encoder = options.depth_encoder if camera.is_depth else options.rgb_encoder
        check_video_limits(encoder, width, height, fps)
        if options.fallback_vcodec is not None and not camera.is_depth:
            from ..encoding.camera_encoding import fallback_encoder

            check_video_limits(fallback_encoder(encoder, options.fallback_vcodec), width, height, fps)
