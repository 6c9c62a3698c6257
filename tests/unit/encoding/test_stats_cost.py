"""Statistics are computed and read in fewer steps than one for each bin or value, with the same results."""

import numpy as np
import pyarrow as pa
import pytest

from aiorecord.dataset.format.episodes import StatsColumns, episode_stats
from aiorecord.encoding import stats


def columns():
    random = np.random.default_rng(0)
    yield "normal", random.normal(size=(37, 3)).astype(np.float32)
    yield "large", random.normal(size=(37, 2)) * 1e200
    yield "tiny", random.normal(size=(20, 2)) * 1e-12
    yield "steps", random.integers(-2, 3, (50, 2))
    yield "constant", np.full((9, 2), 0.1, np.float32)
    yield "neighbours", (1e7 + random.integers(0, 3, (40, 2))).astype(np.float32)
    yield "two", np.array([[0.0], [1.0]])
    gaps = random.normal(size=(30, 2))
    gaps[::3, 0] = np.nan
    yield "gaps", gaps


@pytest.mark.parametrize(("name", "column"), list(columns()))
def test_sorted_quantiles_are_those_of_the_histogram(monkeypatch, name, column):
    by_sorting = stats.column_stats(column)
    monkeypatch.setattr(stats, "_SORTED", 0)
    by_counting = stats.column_stats(column)
    for statistic, value in by_counting.items():
        assert by_sorting[statistic].dtype == value.dtype
        np.testing.assert_array_equal(by_sorting[statistic], value, err_msg=statistic)


def test_no_bin_is_counted_for_an_episode(monkeypatch):
    counted = []
    histogram = np.histogram
    monkeypatch.setattr(np, "histogram", lambda *a, **k: counted.append(a) or histogram(*a, **k))
    stats.column_stats(np.arange(1000.0))
    assert not counted
    stats.column_stats(np.arange(stats._SORTED + 1.0))
    assert len(counted) == 1


TABLE = pa.table(
    {
        "episode_index": [0, 1, 2],
        "stats/action/mean": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        "stats/action/min": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
        "stats/action/count": [[7], [8], [9]],
        "stats/camera/mean": [[[[0.1]], [[0.2]]], [[[0.3]], [[0.4]]], [[[0.5]], [[0.6]]]],
        "stats/camera/max": [[[1.0], [2.0, 3.0]], [[4.0]], []],
        "stats/gone/mean": pa.array([None, [1.0], None], pa.list_(pa.float64())),
        "stats/hole/mean": [[1.0], [None], [2.0]],
        "stats/big/count": pa.array([[1 << 63]] * 3, pa.list_(pa.uint64())),
        "stats/plain/mean": [1.5, 2.5, 3.5],
        "stats/empty/mean": pa.array([[]] * 3, pa.list_(pa.int64())),
    }
)
RAGGED = "stats/camera/max"  # no array at all


@pytest.mark.parametrize("table", [TABLE, TABLE.slice(1), TABLE.slice(0, 0), pa.concat_tables([TABLE] * 2)])
def test_whole_columns_hold_what_single_values_do(table):
    table = table.drop_columns([RAGGED])
    wanted = []
    for row in table.to_pylist():
        found = {}
        for name, value in row.items():
            if name.startswith("stats/") and value is not None:
                key, _, stat = name.removeprefix("stats/").rpartition("/")
                found.setdefault(key, {})[stat] = np.array(value)
        wanted.append(found)
    rows = list(episode_stats(table))
    assert [{key: set(value) for key, value in row.items()} for row in rows] == [
        {key: set(value) for key, value in row.items()} for row in wanted
    ]
    for row, there in zip(rows, wanted, strict=True):
        for key, feature in there.items():
            for stat, value in feature.items():
                assert row[key][stat].dtype == value.dtype, (key, stat)
                np.testing.assert_array_equal(row[key][stat], value)


def test_what_is_no_array_fails_only_where_it_is_asked_for():
    columns = StatsColumns(TABLE)
    with pytest.raises(ValueError, match="inhomogeneous"):
        columns.row(0)
    assert columns.row(1)["camera"]["max"].tolist() == [[4.0]]
