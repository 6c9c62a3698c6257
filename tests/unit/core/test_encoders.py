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
