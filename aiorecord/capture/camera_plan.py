"""Chooses how each camera is captured: the kind of file and the pixel format."""

from __future__ import annotations

from ..encoders import VideoEncoderConfig
from ..features import Feature
from ..staging.folder import Camera
from ..staging.lossless import EXACT_PIX_FMTS


def plan_camera(feature: Feature, encoder: VideoEncoderConfig) -> Camera:
    """Decide how a camera is captured, so that the final encode gets the same pixels as a direct encode.

    Args:
        feature: the camera.
        encoder: settings of its final video; ignored for depth and `image` features.
    """
    height, width, _ = feature.size_hwc
    key = feature.key
    if feature.is_depth:
        return Camera("raw", f"{key}.raw", "", height, width, f"{key}.spill", None)
    exact = feature.is_video and encoder.pix_fmt in EXACT_PIX_FMTS
    return Camera(
        # Pixel formats that the capture cannot store are captured as RGB and converted for the final video.
        capture="lossless" if exact else "rgb",
        file=f"{key}.frames",
        pix_fmt=encoder.pix_fmt if exact else "rgb24",
        height=height,
        width=width,
        spill=f"{key}.spill",
        histograms=f"{key}.hist",
    )


def live_camera(feature: Feature, encoder: VideoEncoderConfig) -> Camera:
    """Describe the capture of a camera in its final codec.

    Args:
        feature: a colour video camera.
        encoder: settings of its final video, with a resolved `vcodec`.
    """
    height, width, _ = feature.size_hwc
    key = feature.key
    return Camera(
        capture="live",
        file=f"{key}.mkv",
        pix_fmt=encoder.pix_fmt,
        height=height,
        width=width,
        spill=f"{key}.spill",
        histograms=f"{key}.hist",
    )
