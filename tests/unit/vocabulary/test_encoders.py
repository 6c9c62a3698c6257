"""Encoder settings become codec options."""

import pytest

from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.errors import ConfigError


def test_the_defaults_are_lerobots():
    assert RGBEncoderConfig().codec_options() == {
        "g": "2",
        "crf": "30",
        "preset": "12",
        "svtav1-params": "fast-decode=0",
    }
    assert DepthEncoderConfig().codec_options() == {"g": "2", "crf": "30", "x265-params": "lossless=1"}


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("h264", {"g": "2", "crf": "30", "threads": "4"}),
        ("libaom-av1", {"g": "2", "crf": "30", "threads": "4", "row-mt": "1"}),
        ("h264_nvenc", {"g": "2", "rc": "0", "qp": "30"}),
        ("h264_vaapi", {"g": "2", "qp": "30"}),
        ("h264_videotoolbox", {"g": "2", "q:v": "40"}),
        ("h264_qsv", {"g": "2", "global_quality": "30"}),
    ],
)
def test_options_of_each_codec(codec, options):
    assert RGBEncoderConfig(vcodec=codec).codec_options(threads=4) == options


def test_extra_options_never_override():
    config = RGBEncoderConfig(vcodec="h264", extra_options={"crf": 1, "tune": "film"})
    assert config.codec_options() == {"g": "2", "crf": "30", "tune": "film"}


def test_aliases():
    assert RGBEncoderConfig(vcodec="av1").vcodec == "libsvtav1"


@pytest.mark.parametrize(
    "make",
    [
        lambda: RGBEncoderConfig(vcodec="mpeg1"),
        lambda: RGBEncoderConfig(g=0),
        lambda: RGBEncoderConfig(video_backend="gstreamer"),
        lambda: DepthEncoderConfig(depth_min=3, depth_max=2),
        lambda: DepthEncoderConfig(shift=-1),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        # lerobot's own examples
        ("h264", {"tune": "film", "profile:v": "high", "bf": 2}),
        ("hevc", {"x265-params": "lossless=1"}),
        ("hevc", {"x265-params": "log-level=none:no-sao=1:bframes=4:aq_mode=2"}),
        ("h264", {"x264-params": "keyint=30:no-cabac=1:deblock=-1,-1:ref=3:me=umh", "deblock": "-1:-1"}),
        ("libsvtav1", {"svtav1-params": "tune=0:film-grain=8"}),
        ("libaom-av1", {"aom-params": "tune=ssim", "tiles": "2x2", "cpu-used": 8}),
        ("h264_nvenc", {"tune": "hq", "spatial-aq": True, "rc": "vbr", "b": 2_000_000}),
        ("h264_vaapi", {"rc_mode": "CQP", "low_power": 1}),
    ],
)
def test_extra_options_that_are_allowed(codec, options):
    assert RGBEncoderConfig(vcodec=codec, extra_options=options).codec_options()


BAD_OPTIONS = [
    *({name: "evil"} for name in ("stats", "passlogfile", "flags", "vstats_file", "x264-params", "device")),
    {"flags": "+pass1"},
    *({"x264-params": text} for text in ("stats=evil", "'stats'=evil", "no-stats=1", "pass=1", "qpfile=x")),
    *(
        {"x264-params": f"ref=1{text}"}
        for text in ("\\:stats=x", ":stats=x", "':stats=x", "\n", " ", "\0", "/x")
    ),
    *(
        {"x265-params": f"{name}=evil"}
        for name in ("csv", "recon", "recon-y4m-exec", "stats", "analysis-save")
    ),
    *({"x265-params": f"{name}=evil"} for name in ("lambda-file", "zonefile", "scaling-list", "dhdr10-info")),
    *({"svtav1-params": text} for text in ("stats=evil", "passes=2", "pass=1", "fgs-table=x", "lp=1e99")),
    {"aom-params": "film-grain-table=evil"},
    {"bf": "1; stats=x"},
    {"bf": float("nan")},
    {"bf": [1]},
    {"tune": "film:stats=x"},
    {("bf",): 1},
]


@pytest.mark.parametrize("codec", ["h264", "hevc", "libsvtav1", "libaom-av1", "h264_nvenc", "auto"])
@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_extra_options_that_are_not_allowed(codec, options):
    with pytest.raises(ConfigError, match="Allowed"):
        RGBEncoderConfig(vcodec=codec, extra_options=options)
    encoder = DepthEncoderConfig(vcodec=codec)
    encoder.extra_options = options
    with pytest.raises(ConfigError, match="Allowed"):
        encoder.codec_options()


@pytest.mark.parametrize(
    "change",
    [
        {"vcodec": "null"},
        {"vcodec": ["h264"]},
        {"pix_fmt": "yuv420p:stats=x"},
        {"preset": "fast:stats=x"},
        {"preset": "nonsense"},
        {"crf": "x"},
        {"crf": float("inf")},
        {"fast_decode": "1:stats=x"},
        {"extra_options": ["stats"]},
    ],
    ids=str,
)
def test_fields_of_other_shapes(change):
    with pytest.raises(ConfigError):
        RGBEncoderConfig(**{"vcodec": "h264", **change})


def test_an_option_of_another_encoder_is_not_handed_over():
    encoder = DepthEncoderConfig(vcodec="libaom-av1")
    assert encoder.extra_options == {"x265-params": "lossless=1"}
    assert "x265-params" not in encoder.codec_options()
