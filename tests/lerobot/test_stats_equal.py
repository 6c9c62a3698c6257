"""Statistics are lerobot's, to the bit where it computes in the same way."""

from __future__ import annotations

import numpy as np
import pytest
from lerobot.datasets import compute_stats as lerobot

from aiorecord.encoding.stats import (
    STAT_NAMES,
    aggregate,
    column_stats,
    depth_stats,
    histogram_stats,
    sample_indices,
)
from aiorecord.staging.histograms import sampling_stride

pytestmark = pytest.mark.lerobot


def of_column(array):
    return lerobot.get_feature_stats(array, axis=0, keepdims=array.ndim == 1)


def of_images(frames, factor):
    stats = lerobot.get_feature_stats(frames, axis=(0, 2, 3), keepdims=True)
    return {n: v if n == "count" else np.squeeze(v / factor, axis=0) for n, v in stats.items()}


def assert_equal(ours, theirs, **tolerances):
    assert list(ours) == list(STAT_NAMES)
    assert ours.keys() == theirs.keys()
    for name in STAT_NAMES:
        assert ours[name].shape == theirs[name].shape, name
        tolerance = tolerances.get(name, 0)
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("shape", [(), (6,), (1,), (2, 3), (2, 2, 2)])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("rows", [2, 3, 300])
def test_columns(dtype, shape, rows):
    rng = np.random.default_rng(rows)
    array = rng.normal(20, 30, (rows, *shape))
    array = (
        (array > 10)
        if dtype == "bool"
        else np.abs(array).astype(dtype)
        if dtype == "uint8"
        else array.astype(dtype)
    )
    assert_equal(column_stats(array), of_column(array))


@pytest.mark.parametrize(
    "array",
    [
        np.full(50, 0.1, np.float32),
        np.full((50, 2), 12345.678, np.float32),
        np.zeros((9, 3), np.float32),
        np.arange(900) / 30,
        np.arange(10**6, 10**6 + 300),
        np.repeat([0.0, 1.0], [299, 1]).astype(np.float32),
    ],
    ids=["constant", "large constant", "zeros", "timestamps", "index", "rare"],
)
def test_special_columns(array):
    assert_equal(column_stats(array), of_column(array))


@pytest.mark.parametrize(
    "array", [np.array([2.5]), np.array([[1, 2, 3]]), np.array([[1.5, 2.5]], np.float32)]
)
def test_one_row(array):
    assert_equal(column_stats(array), of_column(array))


@pytest.mark.parametrize("size", [(48, 64), (240, 320), (320, 240)])
def test_images(size):
    rng = np.random.default_rng(3)
    frames = rng.integers(10, 240, (5, 3, *size)).astype(np.uint8)
    frames[:, 1] = np.minimum(frames[:, 1], 30)
    stride = sampling_stride(*size)
    theirs = np.stack([lerobot.auto_downsample_height_width(frame) for frame in frames])
    ours = frames[:, :, ::stride, ::stride]
    np.testing.assert_array_equal(ours, theirs)
    histograms = np.array(
        [[np.bincount(c.ravel(), minlength=256) for c in frame] for frame in ours], np.uint32
    )
    # lerobot adds up 32-bit floats; the histogram's mean is exact.
    assert_equal(histogram_stats(histograms), of_images(theirs, 255.0), mean=1e-4, std=1e-3)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_depth(dtype):
    frames = np.random.default_rng(4).uniform(0, 4000, (7, 24, 32)).astype(dtype)
    assert_equal(depth_stats(frames), of_images(frames[:, None], 1.0))


@pytest.mark.parametrize("n", [1, 2, 99, 100, 101, 464, 465, 1000, 12_345, 500_000])
def test_samples(n):
    assert sample_indices(n) == lerobot.sample_indices(n)


def test_downsampling():
    rng = np.random.default_rng(5)
    sizes = [(299, 300), (300, 299), *map(tuple, rng.integers(2, 2000, (60, 2)))]
    for height, width in sizes:
        image = np.zeros((1, height, width), np.uint8)
        stride = sampling_stride(int(height), int(width))
        assert image[:, ::stride, ::stride].shape == lerobot.auto_downsample_height_width(image).shape


def test_aggregation():
    rng = np.random.default_rng(6)
    parts = [
        {
            "action": column_stats(rng.normal(n, 1, (20 + n, 4))),
            "observation.images.a": depth_stats(rng.uniform(0, 9, (n + 1, 4, 4)).astype(np.float32)),
        }
        for n in range(5)
    ]
    ours, theirs = parts[0], parts[0]
    for part in parts[1:]:
        ours, theirs = aggregate([ours, part]), lerobot.aggregate_stats([theirs, part])
    tolerances = dict.fromkeys(STAT_NAMES, 1e-12) | {"std": 1e-6}  # lerobot squares in 32 bits
    for key in ours:
        assert_equal({name: ours[key][name] for name in STAT_NAMES}, theirs[key], **tolerances)
