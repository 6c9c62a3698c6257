"""A table says how much memory it takes before it is read, also where few bytes stand for many values."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiorecord.check.readers.data_file import RowsFile, rows_job
from aiorecord.dataset.format import table_size
from aiorecord.dataset.format.table_size import check_shapes, check_size
from aiorecord.dataset.format.tables import open_table, read_table
from aiorecord.errors import DatasetError
from aiorecord.workers.progress import Progress

LIMIT = 32 << 20
MEGABYTE = "x" * (1 << 20)
TIMES = 33
NUMBERS = (4 << 20) + 1


@pytest.fixture(autouse=True)
def _less_than_a_gigabyte(monkeypatch):
    monkeypatch.setattr(table_size, "MAX_TABLE_BYTES", LIMIT)


def repeated(text, times):
    """One text in a dictionary, many times."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([text]))


def written(path, columns):
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 1 << 20
    return path


@pytest.mark.parametrize(
    "column",
    [
        repeated(MEGABYTE, TIMES),
        pa.ListArray.from_arrays(pa.array([0, TIMES], pa.int32()), repeated(MEGABYTE, TIMES)),
        pa.StructArray.from_arrays([repeated(MEGABYTE, TIMES)], ["bytes"]),
        pa.LargeListArray.from_arrays(
            pa.array([0, NUMBERS], pa.int64()), pa.array(np.zeros(NUMBERS, np.int64))
        ),
    ],
    ids=["texts", "texts in a list", "texts in a struct", "numbers in a list"],
)
def test_more_than_a_table_takes_in_some_kilobytes_is_refused(tmp_path, column):
    path = written(tmp_path / "t.parquet", {"a": column, "b": pa.array(range(len(column)), pa.int32())})
    with pytest.raises(DatasetError, match="bytes"):
        read_table(path, ["a"])
    assert read_table(path, ["b"]).num_rows == len(column)  # only what is read counts


def test_many_short_texts_of_a_large_dictionary_are_no_bomb(tmp_path):
    texts = pa.array([MEGABYTE, "pick up the cube"])
    column = pa.DictionaryArray.from_arrays(pa.array(np.r_[0, np.ones(5000)].astype(np.int32)), texts)
    path = written(tmp_path / "t.parquet", {"a": column})
    assert read_table(path, ["a"]).num_rows == 5001
    with open_table(path) as file:
        check_size(file, path, group=0)


def test_a_row_of_a_data_file_holds_no_more_values_than_its_feature(tmp_path):
    numbers = ("index", "episode_index", "frame_index", "task_index")
    columns = {
        "action": pa.ListArray.from_arrays(
            pa.array([0, 1 << 20], pa.int32()), pa.array(np.zeros(1 << 20, np.float32))
        ),
        "timestamp": pa.array([0.0], pa.float32()),
        **{name: pa.array([0], pa.int64()) for name in numbers},
    }
    path = written(tmp_path / "file-000.parquet", columns)
    features = {
        "action": {"dtype": "float32", "shape": [2], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **{name: {"dtype": "int64", "shape": [1], "names": None} for name in numbers},
    }
    with Progress(tmp_path / "progress", 1) as progress:
        part = rows_job(RowsFile(tmp_path, path, features, 30, [], fast=True), progress)
    (finding,) = part.findings
    assert finding.code == "data-unreadable"
    assert f"{1 << 20} values of action in 1 rows of 2 each" in finding.message


def test_a_feature_whose_name_begins_with_another_ones_has_its_own_size(tmp_path):
    columns = {
        "action": pa.array([1.0, 2.0]),
        "action.left": pa.array([[1.0] * 7] * 2),
        "action.right": pa.array([[1.0] * 7] * 2),
    }
    path = written(tmp_path / "t.parquet", columns)
    with open_table(path) as file:
        check_shapes(file, path, {"action": 1, "action.left": 7, "action.right": 7})
        with pytest.raises(DatasetError, match=r"14 values of action\.right in 2 rows of 6 each"):
            check_shapes(file, path, {"action": 1, "action.left": 7, "action.right": 6})
