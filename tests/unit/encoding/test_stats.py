from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiorecord.encoding.stats import (
    STAT_NAMES,
    aggregate,
    column_stats,
    depth_stats,
    from_json,
    histogram_stats,
    sample_indices,
    to_json,
)
from aiorecord.staging.histograms import sampling_stride


def shapes(stats):
    return {name: value.shape for name, value in stats.items()}


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.arange(9), (1,)),
        (np.arange(9) % 2 == 0, (1,)),
        (np.arange(18.0).reshape(9, 2), (2,)),
        (np.arange(9.0).reshape(9, 1), (1,)),
        (np.arange(54, dtype=np.uint8).reshape(9, 2, 3), (3,)),
        (np.arange(108, dtype=np.float16).reshape(9, 2, 2, 3), (3,)),
    ],
)
def test_shapes_do_not_depend_on_the_number_of_rows(array, shape):
    for rows in (1, 2, 9):
        stats = column_stats(array[:rows])
        assert list(stats) == list(STAT_NAMES)
        assert shapes(stats) == dict.fromkeys(STAT_NAMES, shape) | {"count": (1,)}
        assert stats["count"] == [rows]
        assert all(np.isfinite(value).all() for value in stats.values())


def test_values():
    stats = column_stats(np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_array_equal(stats["min"], [0, 5])
    np.testing.assert_array_equal(stats["max"], [3, 5])
    np.testing.assert_allclose(stats["mean"], [1.5, 5])
    np.testing.assert_allclose(stats["std"], [np.sqrt(1.25), 0], atol=1e-9)
    np.testing.assert_allclose(stats["q50"], [1, 5], atol=1e-3)
    np.testing.assert_allclose(stats["q99"], [3, 5], atol=1e-3)


def test_one_row_is_its_own_statistics():
    stats = column_stats(np.array([[3, 4]], np.int64))
    for name in ("min", "max", "mean", "q01", "q99"):
        np.testing.assert_array_equal(stats[name], [3, 4])
    np.testing.assert_array_equal(stats["std"], [0, 0])


@pytest.mark.parametrize("array", [np.zeros(0), np.zeros((0, 3)), np.array(1.0)])
def test_no_row(array):
    with pytest.raises(ValueError, match="at least one row"):
        column_stats(array)


def test_only_finite_values_count():
    column = np.array([[1.0, np.nan], [np.inf, np.nan], [3.0, np.nan], [-np.inf, np.nan]], np.float32)
    stats = column_stats(column)
    only = column_stats(np.array([1.0, 3.0], np.float32))
    for name in set(STAT_NAMES) - {"count"}:
        assert stats[name][0] == only[name][0]
        assert np.isnan(stats[name][1])
    assert stats["count"] == [4]


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.tuples(st.integers(1, 6), st.integers(1, 3)),
        elements={"allow_nan": True, "allow_infinity": True},
    )
)
@example(np.full((2, 1), np.finfo(np.float64).max))
def test_json_is_valid_whatever_the_values(array):
    stats = column_stats(array)
    finite = np.isfinite(array).any(axis=0)
    for name in set(STAT_NAMES) - {"count"}:
        np.testing.assert_array_equal(np.isfinite(stats[name]), finite, err_msg=name)
    totals = aggregate([{"x": stats}, {"x": stats}])
    text = json.dumps(to_json(totals), allow_nan=False)
    assert from_json(json.loads(text))["x"]["count"] == [2 * len(array)]


def test_values_whose_squares_overflow():
    stats = column_stats(np.array([1e300, -1e300, 0.0]))
    np.testing.assert_allclose(stats["std"], [1e300 * np.sqrt(2 / 3)])
    np.testing.assert_allclose(stats["mean"], [0], atol=1e290)
    stats = column_stats(np.array([3e38, -3e38], np.float32))
    np.testing.assert_allclose(stats["std"], [3e38], rtol=1e-6)


def test_histograms_give_what_the_pixels_give():
    rng = np.random.default_rng(1)
    frames = rng.integers(3, 201, (7, 3, 8, 9)).astype(np.uint8)
    frames[:, 1] = 77  # constant
    frames[:, 2] //= 100  # few values
    histograms = np.stack(
        [[np.bincount(channel.ravel(), minlength=256) for channel in frame] for frame in frames]
    ).astype(np.uint32)
    stats = histogram_stats(histograms)
    pixels = column_stats(frames.transpose(0, 2, 3, 1).reshape(-1, 3))
    assert shapes(stats) == dict.fromkeys(STAT_NAMES, (3, 1, 1)) | {"count": (1,)}
    assert stats["count"] == [7]
    for name in set(STAT_NAMES) - {"count"}:
        exact = name not in ("mean", "std")
        np.testing.assert_allclose(
            stats[name].ravel(), pixels[name] / 255, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-4
        )


def test_histogram_of_one_pixel():
    histograms = np.zeros((1, 1, 256), np.uint32)
    histograms[0, 0, 51] = 1
    stats = histogram_stats(histograms)
    for name in ("min", "max", "mean", "q50"):
        np.testing.assert_allclose(stats[name], [[[0.2]]])


@pytest.mark.parametrize("shape", [(0, 3, 256), (2, 3, 255), (3, 256)])
def test_broken_histograms(shape):
    with pytest.raises(ValueError, match="256"):
        histogram_stats(np.ones(shape, np.uint32))


def test_a_channel_without_pixels():
    with pytest.raises(ValueError, match="no pixels"):
        histogram_stats(np.zeros((2, 3, 256), np.uint32))


def test_depth_stays_in_its_unit():
    frames = np.array([[[0, 1000]], [[2000, 65535]]], np.uint16)
    stats = depth_stats(frames)
    assert shapes(stats) == dict.fromkeys(STAT_NAMES, (1, 1, 1)) | {"count": (1,)}
    assert (stats["min"], stats["max"], stats["count"]) == (0, 65535, 2)
    holes = depth_stats(np.array([[[np.nan, 1.5], [2.5, np.inf]]], np.float32))
    assert (holes["min"], holes["max"]) == (1.5, 2.5)
    with pytest.raises(ValueError, match="at least one frame"):
        depth_stats(np.zeros((0, 4, 4), np.uint16))


def test_sampling():
    assert sample_indices(0) == []
    assert sample_indices(1) == [0]
    assert sample_indices(100) == list(range(100))
    assert len(sample_indices(500)) == 105
    assert len(sample_indices(300)) == 100
    assert len(sample_indices(1_000_000)) == 10_000
    for n in (1, 7, 300, 12_345):
        indices = sample_indices(n)
        assert indices[0] == 0
        assert indices[-1] == n - 1
        assert indices == sorted(set(indices))


@pytest.mark.parametrize(
    ("height", "width", "stride"),
    [(299, 299, 1), (240, 320, 2), (480, 640, 4), (720, 1280, 8), (640, 480, 4), (300, 300, 2), (10, 300, 2)],
)
def test_downsampling(height, width, stride):
    assert sampling_stride(height, width) == stride


def test_aggregate_is_the_whole():
    rng = np.random.default_rng(2)
    whole = rng.normal(3, 2, (60, 4))
    parts = [{"x": column_stats(part)} for part in np.split(whole, [10, 11, 35])]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        running = parts[order[0]]
        for number in order[1:]:
            running = aggregate([running, parts[number]])
        for name in ("min", "max", "mean", "std", "count"):
            expected = column_stats(whole)[name]
            np.testing.assert_allclose(running["x"][name], expected, rtol=1e-12, err_msg=name)
        at_once = aggregate(parts)
        for name in STAT_NAMES:
            np.testing.assert_allclose(running["x"][name], at_once["x"][name], rtol=1e-12)


def test_aggregate_of_different_features():
    a, b = {"a": column_stats(np.arange(3))}, {"b": column_stats(np.arange(4))}
    assert aggregate([a, b]).keys() == {"a", "b"}


def test_aggregate_skips_what_was_never_finite():
    nothing = column_stats(np.array([[np.nan, 1.0], [np.nan, 2.0]]))
    something = column_stats(np.array([[5.0, 3.0], [7.0, 4.0]]))
    for parts in ([nothing, something], [something, nothing]):
        total = aggregate([{"x": part} for part in parts])["x"]
        for name in set(STAT_NAMES) - {"count"}:
            assert total[name][0] == something[name][0]
        assert total["min"][1] == 1
        assert total["count"] == [4]


def test_a_missing_quantile_is_left_out():
    old = column_stats(np.arange(5))
    del old["q01"]
    assert "q01" not in aggregate([{"x": old}, {"x": column_stats(np.arange(5))}])["x"]


def test_aggregate_with_an_episode_of_one_frame_by_lerobot():
    # There, an array of more dimensions keeps them when the episode has one frame.
    rows = np.arange(6.0).reshape(2, 3)
    single = {name: rows.copy() for name in STAT_NAMES} | {"std": np.zeros((2, 3)), "count": np.array([1])}
    ours = column_stats(np.arange(12.0).reshape(2, 2, 3))
    total = aggregate([{"x": single}, {"x": ours}])["x"]
    assert total["mean"].shape == (3,)
    np.testing.assert_allclose(total["min"], [0, 1, 2])
    np.testing.assert_allclose(total["mean"], (rows.mean(axis=0) + np.array([4.5, 5.5, 6.5]) * 2) / 3)
    with pytest.raises(ValueError, match="cannot be merged"):
        aggregate([{"x": single}, {"x": column_stats(np.zeros((4, 2)))}])


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"x": 1},
        {"x": {}},
        {"x": {**to_json({"x": column_stats(np.arange(3))})["x"], "min": [None]}},
    ],
)
def test_json_that_is_no_statistics(data):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        from_json(data)
