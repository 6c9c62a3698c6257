"""Encoder settings: lerobot's names, defaults and meanings, and their translation to codec options.

Field names, defaults and the option tables follow lerobot 0.6.1 (`lerobot/configs/video.py`), because the
same values are written to `info.json` and read back from it by lerobot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .encoder_options import PIXEL_FORMATS, check_option, option_text
from .errors import ConfigError
from .flags.flag_names import nearest
from .values import is_number

HARDWARE_CODECS = (
    "h264_videotoolbox",
    "hevc_videotoolbox",
    "h264_nvenc",
    "hevc_nvenc",
    "h264_vaapi",
    "h264_qsv",
)
"""Hardware encoders that `vcodec=auto` tries, best first (lerobot's order)."""

SOFTWARE_CODECS = ("h264", "hevc", "libsvtav1", "libaom-av1")
ALIASES = {"av1": "libsvtav1", "libx264": "h264", "libx265": "hevc", "h265": "hevc"}
"""Names that stream probes and other tools use for the encoders above."""

DEPTH_QUANTA = 4095
"""The largest 12-bit depth code (lerobot's `DEPTH_QMAX`)."""


@dataclass
class VideoEncoderConfig:
    """How a camera's final video is encoded."""

    # The texts below the fields are also what `--help-all` shows.
    vcodec: str = "libsvtav1"
    """Encoder of the videos, such as libsvtav1 (small) or h264 (fast); auto takes the best hardware encoder
    that works here, else libsvtav1."""
    pix_fmt: str = "yuv420p"
    """Pixel format of the videos."""
    g: int | None = 2
    """Distance of keyframes in frames; unset leaves it to the codec."""
    crf: int | float | None = 30
    """Quality, lower is better; passed as the codec's own quality option."""
    preset: int | str | None = None
    """The codec's speed preset; if unset, 12 for libsvtav1, else the codec's own."""
    fast_decode: int = 0
    """Tuning for fast decoding; 0 is off."""
    video_backend: str = "pyav"
    """Only pyav; lerobot has this setting."""
    extra_options: dict[str, Any] = field(default_factory=dict)
    """More codec options, of those that aiorecord allows; they never override the other settings."""

    def __post_init__(self) -> None:
        """Normalise names; raise ConfigError for settings that no codec supports."""
        known = {"auto", *SOFTWARE_CODECS, *HARDWARE_CODECS}
        if isinstance(self.vcodec, str):
            self.vcodec = ALIASES.get(self.vcodec, self.vcodec)
        if not isinstance(self.vcodec, str) or self.vcodec not in known:
            raise ConfigError(
                f"Unknown video codec {self.vcodec!r}.{nearest(str(self.vcodec), known)} Choose one of: "
                f"{', '.join(sorted(known))}.",
                option="vcodec",
            )
        if self.video_backend != "pyav":
            raise ConfigError(
                f"video_backend {self.video_backend!r} is not supported, only 'pyav'.", option="video_backend"
            )
        if not isinstance(self.pix_fmt, str) or self.pix_fmt not in PIXEL_FORMATS:
            raise ConfigError(
                f"Unknown pixel format {self.pix_fmt!r:.40}. Choose one of: "
                f"{', '.join(sorted(PIXEL_FORMATS))}.",
                option="pix_fmt",
            )
        if self.g is not None and (not is_number(self.g) or int(self.g) != self.g or self.g < 1):
            raise ConfigError(
                f"g is the distance of keyframes in frames, at least 1, not {self.g!r}.", option="g"
            )
        if self.preset is None and self.vcodec == "libsvtav1":
            self.preset = 12
        self._check_options()

    def _check_options(self) -> dict[str, Any]:
        """Check the options for the codec.

        Returns:
            The extra options that this codec has.

        Raises:
            ConfigError: an option, or a value, that is not allowed.
        """
        if not is_number(self.fast_decode):
            raise ConfigError(f"fast_decode is a number, not {self.fast_decode!r:.40}.", option="fast_decode")
        for name in ("crf", "preset"):
            value = getattr(self, name)
            if value is not None:
                try:
                    check_option(self.vcodec, name, value)
                except ConfigError as error:
                    raise ConfigError(str(error), option=name) from None
        if not isinstance(self.extra_options, Mapping):
            raise ConfigError("extra_options maps option names to values.", option="extra_options")
        return {
            k: v for k, v in self.extra_options.items() if v is not None and check_option(self.vcodec, k, v)
        }

    @property
    def is_depth(self) -> bool:
        """Whether frames are 12-bit depth codes rather than RGB."""
        return False

    def codec_options(self, threads: int | None = None) -> dict[str, str]:
        """The options given to the codec, as strings.

        Args:
            threads: threads per encoder, None leaves it to the codec (lerobot's `encoder_threads`).

        Raises:
            ConfigError: the settings were changed to something that is not allowed.
        """
        extra = self._check_options()
        options: dict[str, Any] = {"g": self.g}
        match self.vcodec:
            case "libsvtav1":
                parts = [f"fast-decode={max(0, min(2, self.fast_decode or 0))}"]
                if threads is not None:
                    parts.append(f"lp={threads}")
                options |= {"crf": self.crf, "preset": self.preset, "svtav1-params": ":".join(parts)}
            case "h264" | "hevc":
                tune = "fastdecode" if self.fast_decode else None
                options |= {"crf": self.crf, "preset": self.preset, "tune": tune, "threads": threads}
            case "libaom-av1":
                row_mt = None if threads is None else 1
                options |= {"crf": self.crf, "preset": self.preset, "threads": threads, "row-mt": row_mt}
            case "h264_videotoolbox" | "hevc_videotoolbox":
                if self.crf is not None:
                    options["q:v"] = max(1, min(100, 100 - self.crf * 2))
            case "h264_nvenc" | "hevc_nvenc":
                options |= {"rc": 0, "qp": self.crf, "preset": self.preset}
            case "h264_vaapi":
                options["qp"] = self.crf
            case "h264_qsv":
                options |= {"global_quality": self.crf, "preset": self.preset}
        for key, value in extra.items():
            if options.get(key) is None:
                options[key] = value
        texts = {key: option_text(value) for key, value in options.items() if value is not None}
        return {key: text for key, text in texts.items() if text is not None}

    def info(self) -> dict[str, Any]:
        """The settings that lerobot stores as ``video.*`` (the codec itself is read from the file)."""
        return {f"video.{key}": value for key, value in dataclasses.asdict(self).items() if key != "vcodec"}


@dataclass
class RGBEncoderConfig(VideoEncoderConfig):
    """Settings for colour cameras (three 8-bit channels)."""


@dataclass
class DepthEncoderConfig(VideoEncoderConfig):
    """Settings for depth cameras: 12-bit codes, by default HEVC lossless, and the quantiser's parameters."""

    vcodec: str = "hevc"
    """Encoder of the depth videos."""
    pix_fmt: str = "gray12le"
    """Pixel format of the depth videos; lerobot reads 12-bit codes."""
    extra_options: dict[str, Any] = field(default_factory=lambda: {"x265-params": "lossless=1"})
    """More codec options, of those that aiorecord allows; the default makes hevc lossless."""
    depth_min: float = 0.01
    """Depth in metres that becomes code 0."""
    depth_max: float = 10.0
    """Depth in metres that becomes code 4095."""
    shift: float = 3.5
    """Offset in metres that is added before the logarithm."""
    use_log: bool = True
    """Quantise the logarithm of the depth (finer near the camera) rather than the depth."""

    def __post_init__(self) -> None:
        """Also check the quantiser's range."""
        super().__post_init__()
        for name in ("depth_min", "depth_max", "shift"):
            if not is_number(getattr(self, name)):
                raise ConfigError(
                    f"{name} is a number of metres, not {getattr(self, name)!r:.40}.", option=name
                )
        if not isinstance(self.use_log, bool):
            raise ConfigError(f"use_log is true or false, not {self.use_log!r:.40}.", option="use_log")
        if not self.depth_min < self.depth_max:
            raise ConfigError(
                f"depth_min ({self.depth_min} m) must be below depth_max ({self.depth_max} m).",
                option="depth_min",
            )
        if self.use_log and self.depth_min + self.shift <= 0:
            raise ConfigError(
                f"depth_min + shift must be positive for a logarithm, got {self.depth_min} + {self.shift}.",
                option="shift",
            )

    @property
    def is_depth(self) -> bool:
        """Whether frames are 12-bit depth codes rather than RGB."""
        return True
