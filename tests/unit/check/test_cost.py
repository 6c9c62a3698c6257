"""What a check of many episodes does for each of them; findings are what other files test."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aiorecord.check import compare
from aiorecord.check.compare import Difference, numeric_difference
from aiorecord.check.readers import metadata
from aiorecord.check.readers.folder_tree import name_in
from aiorecord.check.readers.metadata import EpisodeRow, stored_stats
from aiorecord.dataset.format.layout import FileIndex
from aiorecord.dataset.format.tables import write_table
from aiorecord.encoding.stats import STAT_NAMES, column_stats


def test_neighbouring_data_files_read_their_statistics_once(tmp_path, monkeypatch):
    columns = {f"stats/action/{name}": [[float(n)] for n in range(50)] for name in STAT_NAMES}
    write_table(tmp_path / "rows.parquet", pa.table(columns))
    made = []

    class Counted(metadata.StatsColumns):
        def __init__(self, table):
            made.append(table.num_rows)
            super().__init__(table)

    monkeypatch.setattr(metadata, "StatsColumns", Counted)
    for episode in range(50):
        row = EpisodeRow(episode, 1, FileIndex(0, episode), 0, 1, ("t",), {}, "rows.parquet", episode, None)
        assert stored_stats(tmp_path, [row])[episode]["action"]["mean"] == [float(episode)]
    assert made == [50]


ACTUAL = column_stats(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))


def changed(name, factor):
    return {**ACTUAL, name: ACTUAL[name] * factor}


def slowly(stored, actual, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(compare, "_side_by_side", lambda *_: None)
        return numeric_difference(stored, actual)


@pytest.mark.parametrize("name", STAT_NAMES)
@pytest.mark.parametrize("factor", [1.0, 1 + 1e-7, 1 + 1e-5, 1 + 1e-3, 1.02, 2.0, np.nan])
def test_close_is_told_at_once_and_as_statistic_by_statistic(monkeypatch, name, factor):
    stored = changed(name, factor)
    assert numeric_difference(stored, ACTUAL) == slowly(stored, ACTUAL, monkeypatch)


def test_what_another_order_of_adding_gives_needs_no_look_at_each(monkeypatch):
    looked = []
    monkeypatch.setattr(compare, "_difference", lambda *a: looked.append(a))
    assert numeric_difference(ACTUAL, ACTUAL) is None
    assert numeric_difference(changed("mean", 1 + 1e-7), ACTUAL) is None
    assert not looked


def test_other_shapes_and_missing_statistics_are_looked_at_one_by_one():
    less = {name: value for name, value in ACTUAL.items() if name != "std"}
    assert numeric_difference(less, ACTUAL) == Difference("std is missing", False)
    flat = {**ACTUAL, "mean": ACTUAL["mean"][:1]}
    assert numeric_difference(flat, ACTUAL) is not None


def test_names_are_those_of_pathlib(tmp_path):
    for root, path in [
        (tmp_path, tmp_path / "data" / "x.parquet"),
        (Path("set"), Path("set/meta/info.json")),
        (Path(), Path("data/x")),
        (Path("/"), Path("/data/x")),
        (tmp_path, tmp_path),
    ]:
        assert name_in(root, path) == path.relative_to(root).as_posix()
    with pytest.raises(ValueError, match="subpath"):
        name_in(tmp_path / "set", tmp_path / "set2" / "x")
