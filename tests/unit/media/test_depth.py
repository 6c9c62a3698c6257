from __future__ import annotations

import warnings
from pathlib import Path

import av
import numpy as np
import pytest

from aiorecord.encoders import DepthEncoderConfig
from aiorecord.errors import EncodeError
from aiorecord.media.depth import DepthQuantizer
from aiorecord.media.video_file import VideoOutput

EVERY_MM = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)


def test_limits_and_order_of_codes() -> None:
    codes = DepthQuantizer(DepthEncoderConfig()).codes(EVERY_MM).ravel()
    assert codes.dtype == np.uint16
    assert codes[0] == codes[10] == 0, "depth_min"
    assert codes[10_000] == codes[65_535] == 4095, "depth_max"
    assert (np.diff(codes.astype(int)) >= 0).all()


@pytest.mark.parametrize("use_log", [True, False])
def test_codes_hold_depth_to_a_few_millimetres(use_log: bool) -> None:
    config = DepthEncoderConfig(use_log=use_log)
    metres = np.linspace(0.01, 10, 5000, dtype=np.float32).reshape(50, 100)
    share = DepthQuantizer(config).codes(metres) / 4095
    if use_log:
        low, high = np.log(0.01 + 3.5), np.log(10 + 3.5)
        back = np.exp(low + share * (high - low)) - 3.5
    else:
        back = 0.01 + share * (10 - 0.01)
    assert np.abs(back - metres).max() < 0.003


def test_millimetres_and_metres_agree() -> None:
    quantizer = DepthQuantizer(DepthEncoderConfig(depth_min=0.2, depth_max=5, shift=1))
    metres = (EVERY_MM / 1000).astype(np.float32)
    difference = quantizer.codes(EVERY_MM).astype(int) - quantizer.codes(metres)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("use_log", [True, False])
def test_what_is_no_depth_never_raises_or_warns(use_log: bool) -> None:
    quantizer = DepthQuantizer(DepthEncoderConfig(use_log=use_log))
    odd = np.array([[np.nan, np.inf, -np.inf, -3.5, -100.0, 0.0, 3.4e38, -0.0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = quantizer.codes(odd)
    assert codes.tolist() == [[0, 4095, 0, 0, 0, 0, 4095, 0]]


@pytest.mark.parametrize("shape", [(48, 64), (33, 21), (1, 1), (7, 100)])
def test_a_frame_holds_the_codes(shape: tuple[int, int]) -> None:
    depth = np.random.default_rng(0).integers(0, 12_000, shape, dtype=np.uint16)
    quantizer = DepthQuantizer(DepthEncoderConfig())
    frame = quantizer.frame(depth)
    assert frame.format.name == "gray12le"
    assert (frame.to_ndarray() == quantizer.codes(depth)).all()
    wide = np.zeros((shape[0], shape[1] * 2), np.uint16)
    wide[:, ::2] = depth
    assert (quantizer.codes(wide[:, ::2]) == quantizer.codes(depth)).all(), "strided input"


def test_the_default_video_is_lossless(tmp_path: Path) -> None:
    quantizer, config = DepthQuantizer(DepthEncoderConfig()), DepthEncoderConfig()
    y, x = np.mgrid[:49, :65]
    frames = [(900 + 20 * x + 9 * y + 30 * k).astype(np.uint16) for k in range(7)]
    frames[3][10:20, 10:20] = 0
    with VideoOutput(tmp_path / "depth.mp4", config, 65, 49, 30) as output:
        for frame in frames:
            output.add(quantizer.frame(frame))
    with av.open(str(tmp_path / "depth.mp4")) as container:
        back = [frame.to_ndarray(format="gray12le") for frame in container.decode(video=0)]
    for frame, codes in zip(frames, back, strict=True):
        assert (codes == quantizer.codes(frame)).all()


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.float64), np.zeros((4, 4, 1), np.uint16)]
)
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(EncodeError, match="depth map"):
        DepthQuantizer(DepthEncoderConfig()).codes(bad)
