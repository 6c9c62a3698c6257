from __future__ import annotations

import errno
import itertools
import os
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aiorecord.errors import DatasetError, FrameError, StorageError
from aiorecord.features import NUMERIC_DTYPES, Schema
from aiorecord.staging import records
from aiorecord.staging.row_columns import arrow_type, rows_schema
from aiorecord.staging.rows import RowsJournal, read_rows

ALL: dict[str, Any] = {f"x.{dtype}": {"dtype": dtype, "shape": (1,)} for dtype in NUMERIC_DTYPES}
ALL |= {f"v.{dtype}": {"dtype": dtype, "shape": (4,)} for dtype in NUMERIC_DTYPES}
ALL |= {f"m.{dtype}": {"dtype": dtype, "shape": (2, 3)} for dtype in NUMERIC_DTYPES}
ALL |= {
    "five": {"dtype": "int16", "shape": (1, 2, 1, 2, 3)},
    "note": {"dtype": "string", "shape": (1,)},
    "cam": {"dtype": "video", "shape": (4, 4, 3)},
}
SMALL = Schema(
    {"a": {"dtype": "float32", "shape": (3,)}, "b": {"dtype": "bool", "shape": (1,)}, "t": ALL["note"]}
)


def row(schema: Schema, k: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, feature in schema.columns.items():
        if feature.dtype == "string":
            out[key] = f"ünï {k}" if k % 3 else ""
        else:
            n = int(np.prod(feature.shape))
            out[key] = ((np.arange(n) + k) % (2 if feature.dtype == "bool" else 100)).astype(feature.dtype)
            out[key] = out[key].reshape(feature.shape)
    return out


def write(path: Any, schema: Schema, count: int, batch: int = 3) -> None:
    journal = RowsJournal(path, schema)
    for k in range(count):
        journal.append(row(schema, k), f"task {k}", 10**15 + k)
        if k % batch == batch - 1:
            journal.flush()
    journal.close()


def check(table: pa.Table, schema: Schema, count: int) -> None:
    assert table.schema == rows_schema(schema)
    rows = table.to_pylist()
    assert len(rows) == count
    for k, found in enumerate(rows):
        assert (found["task"], found["time_ns"]) == (f"task {k}", 10**15 + k)
        for key, value in row(schema, k).items():
            if isinstance(value, np.ndarray):
                value = value[0].item() if value.shape == (1,) else value.tolist()
            assert found[key] == value, key


def test_every_dtype_and_shape_reads_back(tmp_path):
    schema = Schema(ALL)
    write(tmp_path / "rows", schema, 7)
    check(read_rows(tmp_path / "rows", schema), schema, 7)
    assert "cam" not in rows_schema(schema).names


def test_types_are_those_of_lerobots_data_files():
    schema = Schema(ALL)
    assert arrow_type(schema["x.float32"]) == pa.float32()
    assert arrow_type(schema["v.int64"]) == pa.list_(pa.int64(), 4)
    assert arrow_type(schema["m.bool"]) == pa.list_(pa.list_(pa.bool_()))
    assert arrow_type(schema["note"]) == pa.string()


def test_special_floats_keep_their_bits(tmp_path):
    schema = Schema({"a": {"dtype": "float32", "shape": (3,)}})
    value = np.array([0x7FC12345, 0xFF800000, 0x80000000], np.uint32).view(np.float32)
    journal = RowsJournal(tmp_path / "rows", schema)
    journal.append({"a": value}, "", 0)
    journal.close()
    column = read_rows(tmp_path / "rows", schema)["a"].combine_chunks().flatten()
    np.testing.assert_array_equal(column.to_numpy().view(np.uint32), value.view(np.uint32))


def test_values_are_copied(tmp_path):
    journal = RowsJournal(tmp_path / "rows", SMALL)
    values = row(SMALL, 0)
    journal.append(values, "task 0", 10**15)
    values["a"][:] = -1
    journal.close()
    check(read_rows(tmp_path / "rows", SMALL), SMALL, 1)


def test_flushed_rows_are_readable_while_it_is_open(tmp_path):
    journal = RowsJournal(tmp_path / "rows", SMALL)
    assert read_rows(tmp_path / "rows", SMALL).num_rows == 0
    journal.append(row(SMALL, 0), "task 0", 10**15)
    assert read_rows(tmp_path / "rows", SMALL).num_rows == 0
    journal.flush()
    journal.flush()
    check(read_rows(tmp_path / "rows", SMALL), SMALL, 1)
    journal.close()
    journal.close()
    check(read_rows(tmp_path / "rows", SMALL), SMALL, 1)


def test_a_torn_file_gives_its_whole_batches(tmp_path):
    path = tmp_path / "rows"
    write(path, SMALL, 9)
    data = path.read_bytes()
    seen = set()
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        table = read_rows(path, SMALL)
        check(table, SMALL, table.num_rows)
        seen.add(table.num_rows)
    assert seen == {0, 3, 6, 9}


def test_a_tail_of_zeros_gives_the_batches_before_it(tmp_path):
    path = tmp_path / "rows"
    write(path, SMALL, 9)
    data = path.read_bytes()
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut] + bytes(len(data) - cut))
        table = read_rows(path, SMALL)
        check(table, SMALL, table.num_rows)


def test_a_damaged_value_ends_the_rows(tmp_path):
    path = tmp_path / "rows"
    write(path, SMALL, 9)
    data = bytearray(path.read_bytes())
    at = data.index(np.float32(5).tobytes())  # in the second batch
    data[at + 3] ^= 1
    path.write_bytes(data)
    check(read_rows(path, SMALL), SMALL, 3)


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "none", SMALL).num_rows == 0


def test_other_features_are_refused(tmp_path):
    write(tmp_path / "rows", SMALL, 2)
    with pytest.raises(DatasetError):
        read_rows(tmp_path / "rows", Schema({"a": {"dtype": "float32", "shape": (4,)}}))


def test_a_file_that_is_there_already_is_not_overwritten(tmp_path):
    (tmp_path / "rows").write_bytes(b"precious")
    with pytest.raises(StorageError):
        RowsJournal(tmp_path / "rows", SMALL)
    assert (tmp_path / "rows").read_bytes() == b"precious"


@pytest.mark.parametrize("where", ["task", "t"])
def test_text_that_is_not_utf8_is_refused(tmp_path, where):
    journal = RowsJournal(tmp_path / "rows", SMALL)
    values = row(SMALL, 0) | ({"t": "\ud800"} if where == "t" else {})
    with pytest.raises(FrameError) as caught:
        journal.append(values, "\ud800" if where == "task" else "", 0)
    assert caught.value.key == where
    journal.append(row(SMALL, 0), "task 0", 10**15)
    journal.close()
    check(read_rows(tmp_path / "rows", SMALL), SMALL, 1)


def test_a_full_disk_keeps_the_rows_for_the_next_flush(tmp_path, monkeypatch):
    path = tmp_path / "rows"
    journal = RowsJournal(path, SMALL)
    for k in range(4):
        journal.append(row(SMALL, k), f"task {k}", 10**15 + k)
    file = journal._file._file

    class Full:
        """Takes ten bytes more, then nothing."""

        def __init__(self) -> None:
            self.room = 10

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room, self.room = self.room, 0
            return file.write(data[:room])

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

    journal._file._file = Full()
    for _ in range(2):
        with pytest.raises(StorageError):
            journal.flush()
    assert read_rows(path, SMALL).num_rows == 0
    journal._file._file = file
    journal.append(row(SMALL, 4), "task 4", 10**15 + 4)
    journal.close()
    check(read_rows(path, SMALL), SMALL, 5)


def test_rows_that_the_disk_never_takes_are_refused_in_the_end(tmp_path):
    schema = Schema({"big": {"dtype": "float64", "shape": (1024, 1024)}})  # 8 MiB each
    journal = RowsJournal(tmp_path / "rows", schema)
    value = {"big": np.zeros((1024, 1024))}
    with pytest.raises(StorageError, match="wait to be written"):
        for _ in range(100):
            journal.append(value, "", 0)
    assert journal.rows <= 9
    journal.abandon()


def test_flushing_beside_appending_loses_nothing(tmp_path):
    journal = RowsJournal(tmp_path / "rows", SMALL)
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            journal.flush()

    thread = threading.Thread(target=flush)
    thread.start()
    for k in range(500):
        journal.append(row(SMALL, k), f"task {k}", 10**15 + k)
    done.set()
    thread.join()
    journal.close()
    check(read_rows(tmp_path / "rows", SMALL), SMALL, 500)


def test_append_file_cuts_a_refused_record_off(tmp_path):
    file = records.AppendFile(tmp_path / "f")
    file.append(b"one", b"two")
    real = file._file
    answers = itertools.chain([1], itertools.repeat(None))

    class Refusing:
        def write(self, data: Any) -> int:
            if next(answers) is None:
                raise OSError(errno.EIO, "no")
            return real.write(data[:1])

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    file._file = Refusing()
    with pytest.raises(StorageError):
        file.append(b"three")
    file._file = real
    file.append(b"four")
    file.close()
    assert (tmp_path / "f").read_bytes() == b"onetwofour"
