"""The allowlist of encoder options and of their values. Pure: no I/O, no libav.

Settings come from files that anybody may have written: a manifest in staging, an ``info.json``. Some encoder
options write files (x264's ``stats``, x265's ``csv`` and ``recon``, two-pass logs), read files or start
programs. So encoders are given only options listed here. Left out are:

- options that name a file, a device or a program;
- multi-pass options, because their logs are files, and ``flags``, which can enable them;
- options that tag a stream with another colour matrix or range than the pixels were converted with.

Names are those of libav's options, and inside ``x264-params`` and similar those of the encoder's own
documentation. Ranges are those of the encoders or wider: an encoder itself rejects what it cannot do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ConfigError

_NUMBER = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(?:e[+-]?\d{1,2})?")
_MAX_TEXT = 1000


@dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, as a number or as text; with `whole`, only integers."""

    least: float
    most: float
    whole: bool = True

    def fits(self, text: str) -> bool:
        """Whether an option's text is such a number."""
        if not _NUMBER.fullmatch(text):
            return False
        value = float(text)
        return self.least <= value <= self.most and (
            not self.whole or re.fullmatch(r"[+-]?\d+", text) is not None
        )

    def __str__(self) -> str:
        kind = "an integer" if self.whole else "a number"
        return f"{kind} from {self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Words:
    """One of a few words."""

    words: frozenset[str]

    def fits(self, text: str) -> bool:
        return text in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(sorted(self.words))}"


@dataclass(frozen=True)
class Either:
    """One shape or another."""

    shapes: tuple[Shape, ...]

    def fits(self, text: str) -> bool:
        return any(shape.fits(text) for shape in self.shapes)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.shapes))


@dataclass(frozen=True)
class Numbers:
    """A few numbers with one separator, such as ``1:-1`` for a deblocking filter.

    Attributes:
        most: how many there may be.
        separators: characters of which one stands between two numbers.
    """

    most: int
    separators: str = ":,"

    def fits(self, text: str) -> bool:
        parts = re.split(f"[{re.escape(self.separators)}]", text)
        return len(parts) <= self.most and all(_NUMBER.fullmatch(part) for part in parts)

    def __str__(self) -> str:
        return f"up to {self.most} numbers"


@dataclass(frozen=True)
class Parameters:
    """``key=value:key=value``, as ``x264-params`` and its kind take it, without quotes and escapes."""

    keys: Mapping[str, Shape]

    def fits(self, text: str) -> bool:
        """Whether every key is known and its value has its shape."""
        return not text or all(self._fits_one(part) for part in text.split(":"))

    def _fits_one(self, part: str) -> bool:
        key, separator, value = part.partition("=")
        key = key.replace("_", "-")
        shape = self.keys.get(key)
        if shape is None and key.startswith("no-") and self.keys.get(key[3:]) == BOOL:
            shape = BOOL
        return bool(separator) and shape is not None and shape.fits(value)

    def __str__(self) -> str:
        return f"key=value:key=value, without quotes, of the keys {', '.join(sorted(self.keys))}"


type Shape = Number | Words | Either | Numbers | Parameters


def _words(text: str) -> Words:
    return Words(frozenset(text.split()))


PIXEL_FORMATS = _words(
    "yuv420p yuv422p yuv444p yuvj420p yuvj422p yuvj444p yuv440p yuv411p yuv410p yuva420p "
    "yuv420p10le yuv422p10le yuv444p10le yuv420p12le yuv422p12le yuv444p12le yuv444p16le "
    "nv12 nv16 nv21 nv24 p010le p012le p016le p210le yuyv422 uyvy422 "
    "gray gray10le gray12le gray16le gbrp gbrp10le gbrp12le "
    "rgb24 bgr24 rgb0 bgr0 0rgb 0bgr rgba bgra"
).words
"""Names of the allowed pixel formats of videos; formats in graphics memory are not allowed."""

BOOL = _words("0 1 true false True False yes no on off")
_UINT = Number(0, 2**31 - 1)
_INT = Number(-(2**31), 2**31 - 1)
_FLOAT = Number(-1e9, 1e9, whole=False)
_SWITCH = Either((BOOL, Number(-1, 1)))
_SMALL = Number(-1, 64)
_QUALITY = Number(-1, 255, whole=False)
_THREADS = Number(0, 1024)
_RATE = Number(0, 1e11)
_LEVEL = Either((Number(0, 200, whole=False), _words("1b 1.0b auto")))


def _each(shape: Shape, names: str) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), shape)


_X264_PRESETS = _words("ultrafast superfast veryfast faster fast medium slow slower veryslow placebo")
_X264_TUNES = "film animation grain stillimage psnr ssim fastdecode zerolatency"
_X264_TUNE = Words(
    frozenset(_X264_TUNES.split())
    | {f"{tune},{more}" for tune in _X264_TUNES.split() for more in ("fastdecode", "zerolatency")}
)
_PROFILE = Either(
    (
        _words("baseline constrained_baseline main main10 main12 high high10 high422 high444 high444p rext"),
        _words("main444-8 main444-10 main444-12 main422-10 main422-12 main-intra main10-intra"),
        Number(-99, 255),
    )
)

_COMMON: dict[str, Shape] = {
    **_each(_RATE, "b minrate maxrate bufsize bt"),
    **_each(_UINT, "g keyint_min"),
    **_each(Number(-1, 48), "bf refs"),
    **_each(_SMALL, "qmin qmax qdiff trellis me_range subq slices b_strategy compression_level"),
    **_each(_FLOAT, "qcomp qblur i_qfactor b_qfactor i_qoffset b_qoffset"),
    **_each(_INT, "sc_threshold global_quality"),
    "threads": Either((_THREADS, _words("auto"))),
    "thread_type": _words("frame slice"),
    "profile": _PROFILE,
    "level": _LEVEL,
    "q": _QUALITY,
}
"""libav's options of any encoder. (``q`` is what lerobot gives VideoToolbox as ``q:v``.)"""

_X264_SHARED: dict[str, Shape] = {
    **_each(_QUALITY, "crf crf-max qp cplxblur"),
    **_each(Number(-1, 250), "rc-lookahead"),
    **_each(_FLOAT, "aq-strength"),
    **_each(_SMALL, "weightp b-bias"),
    **_each(_SWITCH, "psy weightb intra-refresh bluray-compat mixed-refs 8x8dct fast-pskip aud mbtree ssim"),
    "aq-mode": Either((Number(-1, 3), _words("none variance autovariance autovariance-biased"))),
    "b-pyramid": Either((Number(-1, 2), _words("none strict normal"))),
    "deblock": Numbers(2),
    "psy-rd": Numbers(2),
    "partitions": Words(frozenset({"none", "all", "p8x8", "p4x4", "b8x8", "i8x8", "i4x4"})),
    "nal-hrd": Either((Number(-1, 2), _words("none vbr cbr"))),
    "slice-max-size": _UINT,
}
_X264_PARAMS: dict[str, Shape] = {
    **{name: shape for name, shape in _X264_SHARED.items() if name not in ("deblock", "psy-rd")},
    # A colon ends the value inside of ``x264-params``.
    **_each(Numbers(2, ","), "deblock psy-rd"),
    **_each(BOOL, "cabac scenecut open-gop chroma-me dct-decimate deterministic sliced-threads force-cfr"),
    **_each(BOOL, "psnr"),
    **_each(Number(-1, 250), "lookahead sync-lookahead keyint min-keyint bframes ref subme me-range merange"),
    **_each(Either((_UINT, _words("infinite"))), "keyint"),
    **_each(_UINT, "min-keyint scenecut bitrate vbv-maxrate vbv-bufsize slices nr"),
    **_each(_FLOAT, "ipratio pbratio qcomp vbv-init ratetol"),
    **_each(_QUALITY, "qpmin qpmax qpstep qblur"),
    **_each(Number(-12, 12), "chroma-qp-offset"),
    **_each(Number(0, 2), "trellis b-adapt"),
    **_each(Either((_THREADS, _words("auto"))), "threads lookahead-threads"),
    "me": _words("dia hex umh esa tesa"),
    "direct": _words("none spatial temporal auto"),
    "log": Number(-1, 3),
    "log-level": Either((Number(-1, 3), _words("none error warning info debug"))),
    "level": _LEVEL,
    "frame-packing": Number(-1, 7),
}
_X265_PARAMS: dict[str, Shape] = {
    **_each(BOOL, "lossless cu-lossless tskip tskip-fast wpp pmode pme rect amp limit-modes early-skip"),
    **_each(BOOL, "fast-intra b-intra constrained-intra strong-intra-smoothing signhide weightp weightb"),
    **_each(BOOL, "open-gop aq-motion hevc-aq cutree sao sao-non-deblock repeat-headers aud info hrd psnr"),
    **_each(BOOL, "ssim temporal-mvp temporal-layers intra-refresh splitrd-skip psy-rd-enable high-tier"),
    **_each(BOOL, "uhd-bd annexb limit-sao hist-scenecut fades tune-vmaf asm-none asm b-pyramid"),
    **_each(BOOL, "rskip-enable const-vbv strict-cbr"),
    **_each(_UINT, "keyint min-keyint scenecut bitrate vbv-maxrate vbv-bufsize"),
    **_each(Number(-1, 250), "rc-lookahead gop-lookahead bframes b-adapt ref max-merge merange subme rd"),
    **_each(Number(-1, 250), "rdoq-level"),
    **_each(_SMALL, "limit-refs limit-tu rskip selective-sao tu-intra-depth tu-inter-depth rd-refine slices"),
    **_each(_SMALL, "lookahead-slices max-tu-size min-cu-size ctu aq-mode log-level-number nr-intra"),
    **_each(_SMALL, "nr-inter"),
    **_each(Number(0, 16), "frame-threads"),
    **_each(_FLOAT, "aq-strength psy-rd psy-rdoq ipratio pbratio qcomp vbv-init vbv-end scenecut-bias"),
    **_each(_FLOAT, "bframe-bias"),
    **_each(_QUALITY, "crf crf-max crf-min qp qpmin qpmax qpstep qblur cplxblur cbqpoffs crqpoffs"),
    **_each(Either((BOOL, Numbers(2, ","))), "deblock"),
    "pools": Either((_THREADS, _words("none + - *"))),
    "me": Either((Number(0, 5), _words("dia hex umh star sea full"))),
    "log-level": Either((Number(-1, 4), _words("none error warning info debug full"))),
    "level-idc": _LEVEL,
    "profile": _PROFILE,
    "ctu": _words("16 32 64"),
    "max-tu-size": _words("4 8 16 32"),
    "min-cu-size": _words("8 16 32 64"),
}
_SVT_PARAMS: dict[str, Shape] = {
    **_each(Number(-2, 13), "preset"),
    **_each(Number(0, 1024), "lp"),
    **_each(_QUALITY, "crf qp min-qp max-qp"),
    **_each(Number(0, 120), "lookahead"),
    **_each(_UINT, "tbr mbr maxsection-pct buf-sz buf-initial-sz buf-optimal-sz"),
    **_each(_INT, "keyint bias-pct undershoot-pct overshoot-pct recode-loop variance-boost-strength"),
    **_each(Number(-2, 64), "fast-decode tune rc aq-mode enable-tf enable-cdef enable-dlf"),
    **_each(Number(-2, 64), "enable-restoration scd hierarchical-levels pred-struct irefresh-type"),
    **_each(Number(-2, 64), "enable-overlays tile-rows tile-columns scm enable-mfmv film-grain"),
    **_each(Number(-2, 64), "film-grain-denoise sharpness enable-variance-boost rtc variance-octile"),
    **_each(Number(-2, 64), "enable-qm qm-min qm-max lossless avif max-tx-size qp-scale-compress-strength"),
    **_each(Number(-64, 64), "pin startup-mg-size luminance-qp-bias ac-bias"),
}
_AOM_PARAMS: dict[str, Shape] = {
    **_each(_SWITCH, "row-mt enable-cdef enable-restoration enable-global-motion enable-intrabc"),
    **_each(_SWITCH, "enable-palette enable-obmc enable-rect-partitions enable-ab-partitions"),
    **_each(_SWITCH, "enable-1to4-partitions enable-tx64 enable-smooth-intra enable-paeth-intra"),
    **_each(_SWITCH, "enable-cfl-intra enable-filter-intra lossless enable-angle-delta"),
    **_each(_SWITCH, "enable-intra-edge-filter enable-ref-frame-mvs frame-parallel"),
    **_each(_SMALL, "cpu-used aq-mode deltaq-mode tile-columns tile-rows auto-alt-ref arnr-maxframes"),
    **_each(_SMALL, "arnr-strength cq-level min-q max-q enable-qm qm-min qm-max sharpness lag-in-frames"),
    **_each(_SMALL, "sb-size-number enable-chroma-deltaq enable-tpl-model enable-keyframe-filtering"),
    **_each(_SMALL, "enable-fwd-kf denoise-noise-level"),
    **_each(_UINT, "kf-max-dist kf-min-dist"),
    "tune": _words("psnr ssim"),
    "tune-content": _words("default screen film"),
}

_NVENC: dict[str, Shape] = {
    "preset": Either((_words("default slow medium fast hp hq bd ll llhq llhp lossless losslesshp"),
                      _words("p1 p2 p3 p4 p5 p6 p7"), Number(0, 18))),
    "tune": Either((_words("hq uhq ll ull lossless"), Number(1, 5))),
    "rc": Either((_words("constqp vbr cbr vbr_minqp vbr_2pass cbr_ld_hq cbr_hq vbr_hq"), Number(-1, 2**24))),
    "tier": Either((_words("main high"), Number(0, 1))),
    "multipass": Either((_words("disabled qres fullres"), Number(0, 2))),
    "coder": Either((_words("default auto cabac cavlc ac vlc"), Number(-1, 2))),
    "b_ref_mode": Either((_words("disabled each middle"), Number(-1, 2))),
    **_each(_SWITCH, "cbr no-scenecut forced-idr b_adapt spatial-aq spatial_aq temporal-aq temporal_aq"),
    **_each(_SWITCH, "zerolatency nonref_p strict_gop aud weighted_pred"),
    **_each(_SWITCH, "intra-refresh highbitdepth bluray-compat"),
    **_each(_QUALITY, "cq qp init_qpP init_qpB init_qpI"),
    **_each(Number(-12, 12), "qp_cb_offset qp_cr_offset"),
    **_each(Number(0, 64), "surfaces aq-strength delay dpb_size rc-lookahead gpu lookahead_level"),
}  # fmt: skip
_VAAPI: dict[str, Shape] = {
    **_each(_QUALITY, "qp quality"),
    **_each(_SWITCH, "low_power aud"),
    **_each(_SMALL, "idr_interval b_depth async_depth max_frame_size"),
    "rc_mode": Either((_words("auto CQP CBR VBR ICQ QVBR AVBR"), Number(0, 6))),
    "coder": Either((_words("cavlc cabac vlc ac"), Number(0, 1))),
}
_QSV: dict[str, Shape] = {
    "preset": Either((_words("veryfast faster fast medium slow slower veryslow"), Number(0, 7))),
    **_each(_SWITCH, "look_ahead low_power mbbrc extbrc forced_idr aud rdo adaptive_i adaptive_b"),
    **_each(_SMALL, "async_depth look_ahead_downsampling p_strategy idr_interval scenario"),
    **_each(Number(0, 100), "look_ahead_depth"),
}
_VIDEOTOOLBOX: dict[str, Shape] = {
    **_each(_SWITCH, "allow_sw require_sw realtime frames_before frames_after prio_speed power_efficient"),
    **_each(_SWITCH, "constant_bit_rate spatial_aq a53cc"),
    "coder": _words("cavlc cabac vlc ac auto"),
    "max_ref_frames": Number(0, 16),
}

ENCODER_OPTIONS: dict[str, dict[str, Shape]] = {
    "h264": {
        **_X264_SHARED,
        "preset": Either((_X264_PRESETS, Number(0, 9))),
        "tune": _X264_TUNE,
        "crf_max": _QUALITY,
        "direct-pred": Either((Number(-1, 3), _words("none spatial temporal auto"))),
        **_each(Either((Number(-1, 4), _words("dia hex umh esa tesa"))), "me_method motion-est"),
        "coder": Either((Number(-1, 1), _words("default cavlc cabac vlc ac"))),
        "forced-idr": _SWITCH,
        "chromaoffset": Number(-12, 12),
        "noise_reduction": Number(0, 100_000),
        **_each(Parameters(_X264_PARAMS), "x264-params x264opts"),
    },
    "hevc": {
        **_each(_QUALITY, "crf qp"),
        "forced-idr": _SWITCH,
        "preset": Either((_X264_PRESETS, Number(0, 9))),
        "tune": _words("psnr ssim grain zerolatency fastdecode animation"),
        "x265-params": Parameters(_X265_PARAMS),
    },
    "libsvtav1": {
        "preset": Number(-2, 13),
        **_each(Number(0, 63, whole=False), "crf qp"),
        "svtav1-params": Parameters(_SVT_PARAMS),
    },
    "libaom-av1": {
        **_AOM_PARAMS,
        "crf": _QUALITY,
        "usage": Either((_words("good realtime allintra"), Number(0, 2))),
        "tiles": Words(frozenset(f"{x}x{y}" for x in (1, 2, 4, 8) for y in (1, 2, 4, 8))),
        "still-picture": _SWITCH,
        **_each(Number(-1, 5000), "undershoot-pct overshoot-pct minsection-pct maxsection-pct"),
        **_each(Number(-1, 100_000), "static-thresh drop-threshold denoise-block-size"),
        "arnr-max-frames": Number(-1, 15),
        "aom-params": Parameters(_AOM_PARAMS),
    },
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "h264_vaapi": _VAAPI,
    "h264_qsv": _QSV,
    "h264_videotoolbox": _VIDEOTOOLBOX,
    "hevc_videotoolbox": _VIDEOTOOLBOX,
}  # fmt: skip
"""For each encoder the allowed options in addition to `_COMMON`."""


def check_option(vcodec: str, name: object, value: object) -> bool:
    """Check one encoder option.

    Args:
        vcodec: the encoder, or ``auto``, which may become any encoder.
        name: as the settings name it; ``:v``, a suffix of the ffmpeg program's, does not count.
        value: a bool, an int, a float or text.

    Returns:
        Whether the encoder gets the option. False: it is harmless, but belongs to another encoder, such as
        the default ``x265-params`` of depth cameras when these are encoded with another codec.

    Raises:
        ConfigError: the option is not allowed, or its value is not of its shape.
    """
    own = _COMMON | ENCODER_OPTIONS.get(vcodec, {})
    text, plain = option_text(value), name.removesuffix(":v") if isinstance(name, str) else ""
    shape = own.get(plain)
    if text is not None and shape is not None and shape.fits(text):
        return True
    if shape is None:
        others = [options[plain] for options in ENCODER_OPTIONS.values() if plain in options]
        if text is not None and any(other.fits(text) for other in others):
            return False
        shape = others[0] if others else None
    if shape is None:
        raise ConfigError(
            f"{vcodec} takes no option {name!r:.60} here. Allowed: {', '.join(sorted(own))}.",
            option="extra_options",
        )
    raise ConfigError(
        f"The encoder option {name!r:.60} cannot be {value!r:.80}. Allowed: {shape}.", option="extra_options"
    )


def option_text(value: object) -> str | None:
    """An option's value as text for libav; None if it cannot be an option's value."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return str(value) if math.isfinite(value) else None
    return value if isinstance(value, str) and len(value) <= _MAX_TEXT else None
