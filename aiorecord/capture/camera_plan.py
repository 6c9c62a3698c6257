"""Chooses how each camera is captured: the kind of file and the pixel format."""

from __future__ import annotations

from ..encoders import VideoEncoderConfig
from ..features import Feature
from ..staging.live import LIVE
from ..staging.lossless import EXACT_PIX_FMTS, LOSSLESS, PACKETS, RGB
from ..staging.manifest import Camera
from ..staging.raw import RAW


def plan_camera(
    feature: Feature, encoder: VideoEncoderConfig, *, live: bool = False, encoded: bool = False
) -> Camera:
    """Decide how a camera is captured, so that the final encode gets the same pixels as a direct encode.

    Args:
        feature: the camera.
        encoder: settings of its final video, with a resolved `vcodec` for `live`; ignored for depth and
            `image` features.
        live: capture it in its final codec; for colour video cameras.
        encoded: keep the encoded images that it is expected to send, whatever `live` is; not for depth.
    """
    height, width, _ = feature.size_hwc
    key = feature.key
    if encoded:
        return PACKETS.camera(key, height, width, "rgb24")
    if live:
        return LIVE.camera(key, height, width, encoder.pix_fmt)
    if feature.is_depth:
        return RAW.camera(key, height, width, "")
    if feature.is_video and encoder.pix_fmt in EXACT_PIX_FMTS:
        return LOSSLESS.camera(key, height, width, encoder.pix_fmt)
    # Pixel formats that the capture cannot store are captured as RGB and converted for the final video.
    return RGB.camera(key, height, width, "rgb24")
