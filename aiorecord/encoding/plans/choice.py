"""Chooses the encode plan of each camera. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...encoders import HARDWARE_CODECS, VideoEncoderConfig
from ...features import Feature
from ...options import EncodeChoice
from ...staging.live import MAX_LIVE_FPS

Mode = Literal["live", "deferred"]

CANDIDATES = frozenset({"h264", *HARDWARE_CODECS})
"""Codecs that may be fast enough for live capture; the others are known not to be."""

MARGIN = 2.0
"""How many times faster than the camera the encoder must be, since robot, rows and disk take time too."""

MAX_OPEN_S = 0.015
"""Longest time in seconds for opening a codec, which holds the GIL while another episode is recorded."""

MAX_HELD_S = 1.0
"""Most seconds of frames that an encoder may hold back: a killed process loses them."""

_COSTS = {
    "libsvtav1": (
        "opening SVT-AV1 stops the control loop for 10 to 60 ms while the next episode is made ready, and a "
        "killed process loses the 40 to 55 frames it holds back"
    ),
    "libaom-av1": "libaom is far slower than a camera; late frames are spilled raw and encoded later",
    "hevc": "x265 is far slower than x264; late frames are spilled raw and encoded afterwards",
}


@dataclass(frozen=True)
class LiveSpeed:
    """The speed of an encoder on this machine, while one encoder per camera runs.

    Attributes:
        frames_per_s: of the slowest camera while all encode at once.
        held_frames: most frames that the encoder held back at a time.
        open_s: seconds that opening one holds the GIL.
    """

    frames_per_s: float
    held_frames: int
    open_s: float


@dataclass(frozen=True)
class EncodePlan:
    """How a camera's frames are captured and encoded, and why.

    Attributes:
        mode: ``live``: captured in the final codec and copied at save time; ``deferred``: captured losslessly
            and encoded in the background.
        codec: of the final file.
        capture: how frames are captured, in words.
        why: the reason, in words.
        speed: the measured speed, None if none was measured.
    """

    mode: Mode
    codec: str
    capture: str
    why: str
    speed: LiveSpeed | None = None

    def as_dict(self) -> dict[str, Any]:
        """For reports: ``plan``, ``capture``, ``codec``, ``why``, and ``measured`` if it was measured."""
        out: dict[str, Any] = {
            "plan": self.mode,
            "capture": self.capture,
            "codec": self.codec,
            "why": self.why,
        }
        if self.speed is not None:
            out["measured"] = {
                "frames_per_s": round(self.speed.frames_per_s, 1),
                "held_frames": self.speed.held_frames,
                "open_ms": round(self.speed.open_s * 1000, 1),
            }
        return out


def live_candidates(
    cameras: Mapping[str, Feature], encoder: VideoEncoderConfig, fps: int, encode: EncodeChoice
) -> list[str]:
    """The cameras for which ``auto`` must know the encoder's speed: often none."""
    if encode != "auto" or encoder.vcodec not in CANDIDATES:
        return []
    return [key for key, feature in cameras.items() if _obstacle(feature, encoder, fps) is None]


def choose_plans(
    cameras: Mapping[str, Feature],
    encoder: VideoEncoderConfig,
    depth_encoder: VideoEncoderConfig,
    fps: int,
    encode: EncodeChoice,
    speed: LiveSpeed | str,
) -> dict[str, EncodePlan]:
    """The plan of every camera.

    Args:
        cameras: the camera features by key.
        encoder: final settings of colour cameras, `vcodec` resolved.
        depth_encoder: likewise of depth cameras.
        fps: frames per second.
        encode: the requested plan.
        speed: the speed measured for the `live_candidates` together, or why there is none.
    """
    return {
        key: _plan(feature, depth_encoder if feature.is_depth else encoder, fps, encode, speed)
        for key, feature in cameras.items()
    }


def _plan(
    feature: Feature, encoder: VideoEncoderConfig, fps: int, encode: EncodeChoice, speed: LiveSpeed | str
) -> EncodePlan:
    codec = encoder.vcodec if feature.is_video else "png"
    obstacle = _obstacle(feature, encoder, fps)
    if obstacle is not None:
        return _deferred(feature, codec, obstacle)
    if encode == "deferred":
        return _deferred(feature, codec, "requested by encode=deferred")
    if encode == "live":
        cost = _COSTS.get(codec)
        why = "requested by encode=live" + ("" if cost is None else f"; {cost}")
        return EncodePlan("live", codec, _live_words(codec), why)
    if codec not in CANDIDATES:
        why = f"{codec} costs several times a lossless capture, so it is encoded in the background"
        return _deferred(feature, codec, why)
    if isinstance(speed, str):
        return _deferred(feature, codec, speed)
    problem = _problem(speed, codec, fps)
    measured = f"{codec} encodes {speed.frames_per_s:.0f} frames a second here for each camera, all at once"
    if problem is not None:
        return _deferred(feature, codec, problem, speed)
    return EncodePlan("live", codec, _live_words(codec), f"{measured}: enough for {fps} fps", speed)


def _problem(speed: LiveSpeed, codec: str, fps: int) -> str | None:
    if speed.frames_per_s < MARGIN * fps:
        return (
            f"{codec} encodes {speed.frames_per_s:.0f} frames a second here for each camera, all at once; "
            f"live at {fps} fps needs {MARGIN * fps:.0f}"
        )
    if speed.held_frames > MAX_HELD_S * fps:
        return (
            f"{codec} with these settings holds back {speed.held_frames} frames, which a killed process "
            f"would lose: more than {MAX_HELD_S:g} s"
        )
    if speed.open_s > MAX_OPEN_S:
        return f"opening {codec} would stop the control loop for {speed.open_s * 1000:.0f} ms"
    return None


def _obstacle(feature: Feature, encoder: VideoEncoderConfig, fps: int) -> str | None:
    """Why a camera can only be deferred, whatever plan is requested; None if it can be live."""
    if not feature.is_video:
        return "images are stored as PNG in Parquet; PNG compression is too slow while recording"
    if feature.is_depth:
        return "depth is kept in the sensor's own values until it is quantised"
    if encoder.pix_fmt == "rgb24":
        return "the encoder would use the robot's own image memory, which later frames overwrite"
    if fps > MAX_LIVE_FPS:
        return f"live capture stores times in milliseconds, which is exact up to {MAX_LIVE_FPS} fps"
    return None


def _deferred(feature: Feature, codec: str, why: str, speed: LiveSpeed | None = None) -> EncodePlan:
    capture = "raw sensor values, LZ4" if feature.is_depth else "lossless MagicYUV"
    return EncodePlan("deferred", codec, capture, why, speed)


def _live_words(codec: str) -> str:
    return f"{codec}, as in the final video"
