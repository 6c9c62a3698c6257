from __future__ import annotations

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorecord.errors import EncodeError
from aiorecord.media.image_files import PngEncoder, png_bytes, tiff_bytes


def decoded(data: bytes, demuxer: str, pix_fmt: str) -> np.ndarray:
    with av.open(io.BytesIO(data), format=demuxer) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 1
    assert frames[0].format.name == pix_fmt
    return frames[0].to_ndarray()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_png_is_lossless_at_any_size(width: int, height: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert (decoded(png_bytes(image), "png_pipe", "rgb24") == image).all()


def test_one_encoder_makes_many_independent_pictures() -> None:
    encoder = PngEncoder(64, 48)
    images = [np.random.default_rng(k).integers(0, 256, (48, 64, 3), dtype=np.uint8) for k in range(5)]
    for image, data in [(image, encoder.encode(image)) for image in images]:
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert data.endswith(b"IEND\xaeB`\x82")
        assert (decoded(data, "png_pipe", "rgb24") == image).all()


def test_png_takes_strided_pictures() -> None:
    image = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    assert png_bytes(image[:, ::-1]) == png_bytes(image[:, ::-1].copy())


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((3, 48, 64), np.uint8),
    ],
)
def test_png_refuses_other_arrays(bad: np.ndarray) -> None:
    with pytest.raises(EncodeError):
        png_bytes(bad)
    with pytest.raises(EncodeError, match="picture is"):
        PngEncoder(64, 48).encode(bad)


@pytest.mark.parametrize("shape", [(48, 64), (1, 1), (33, 21)])
def test_tiff_holds_millimetres(shape: tuple[int, int]) -> None:
    depth = np.random.default_rng(0).integers(0, 1 << 16, shape, dtype=np.uint16)
    data = tiff_bytes(depth)
    assert data.startswith(b"II*\0")
    assert (decoded(data, "tiff_pipe", "gray16le") == depth).all()
    assert tiff_bytes(depth[::-1]) == tiff_bytes(depth[::-1].copy())


def test_tiff_holds_metres_with_everything_that_is_not_a_number() -> None:
    depth = np.random.default_rng(0).normal(2, 1, (33, 21)).astype(np.float32)
    depth[0, :4] = np.nan, np.inf, -np.inf, -0.0
    data = tiff_bytes(depth)
    assert data.endswith(depth.tobytes())
    assert (33 * 21 * 4) % 4 == 0
    assert len(data) < depth.nbytes + 200


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint16)])
def test_tiff_refuses_other_arrays(bad: np.ndarray) -> None:
    with pytest.raises(EncodeError, match="depth map"):
        tiff_bytes(bad)
