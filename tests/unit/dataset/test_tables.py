from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from staged import EVERYTHING

from aiorecord.dataset.format.episodes import (
    ROWS_PER_FILE,
    EpisodeLog,
    episode_files,
    episode_stats,
    episodes_schema,
    read_episodes,
    read_ids,
    stats_columns,
)
from aiorecord.dataset.format.tables import (
    as_schema,
    column_array,
    data_schema,
    read_table,
    read_tasks,
    write_table,
    write_tasks,
)
from aiorecord.encoding.stats import column_stats
from aiorecord.errors import DatasetError
from aiorecord.features import Schema

FEATURES = Schema(EVERYTHING).as_dict()


def test_data_schema_has_the_types_of_datasets():
    schema = data_schema(FEATURES)
    assert "observation.images.front" not in schema.names
    types = {field.name: str(field.type) for field in schema}
    assert types["observation.state"].startswith("fixed_size_list<")
    assert types["observation.images.still"] == "struct<bytes: binary, path: string>"
    assert (types["counter"], types["flag"], types["note"]) == ("int32", "bool", "string")
    assert types["timestamp"] == "float"
    assert schema.names[-5:] == ["timestamp", "frame_index", "episode_index", "index", "task_index"]
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(described) == schema.names
    assert described["matrix"] == {"shape": [2, 3], "dtype": "float32", "_type": "Array2D"}
    metadata = schema.field("cube").metadata
    assert metadata[b"ARROW:extension:name"] == b"datasets.features.features.Array3DExtensionType"
    assert json.loads(metadata[b"ARROW:extension:metadata"]) == [[2, 2, 2], "int64"]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (3,), (1, 1), (2, 3), (2, 1, 2)])
def test_columns_come_back_as_arrays(tmp_path, dtype, shape):
    spec = {"x": {"dtype": dtype, "shape": shape, "names": None}}
    schema = data_schema(spec)
    array = (np.arange(4 * np.prod(shape)).reshape(4, *shape) % 3).astype(dtype)
    expected = array.reshape(4) if shape == (1,) else array
    values = pa.array(
        [row.item() if shape == (1,) else row.tolist() for row in expected], schema.field(0).type
    )
    write_table(tmp_path / "x.parquet", pa.table([values], schema=schema))
    back = pq.read_table(tmp_path / "x.parquet")
    result = column_array(back["x"], Schema(spec)["x"])
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(column_array(back["x"].slice(1, 2), Schema(spec)["x"]), expected[1:3])


def test_as_schema_orders_and_casts():
    schema = pa.schema([pa.field("b", pa.float32()), pa.field("a", pa.int64())], metadata={"k": "v"})
    table = as_schema(pa.table({"a": pa.array([1], pa.int32()), "b": pa.array([0.5]), "c": ["x"]}), schema)
    assert table.schema.equals(schema, check_metadata=True)
    with pytest.raises(KeyError):
        as_schema(pa.table({"a": [1]}), schema)


def test_tasks_come_back_in_order(tmp_path):
    tasks = {"Pick up the cube": 0, "": 1, "Öffne die Tür 🚪": 2}
    write_tasks(tmp_path, tasks)
    assert read_tasks(tmp_path) == tasks
    metadata = json.loads(pq.read_schema(tmp_path / "meta/tasks.parquet").metadata[b"pandas"])
    assert metadata["index_columns"] == ["task"]
    assert read_tasks(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    "table",
    [
        {"task": ["a"]},
        {"task_index": [0], "name": ["a"]},
        {"task_index": [1, 2], "task": ["a", "b"]},
        {"task_index": [0, 0], "task": ["a", "b"]},
        {"task_index": [0, 1], "task": ["a", "a"]},
    ],
)
def test_broken_tasks(tmp_path, table):
    (tmp_path / "meta").mkdir()
    pq.write_table(pa.table(table), tmp_path / "meta/tasks.parquet")
    with pytest.raises(DatasetError, match=r"tasks\.parquet"):
        read_tasks(tmp_path)


def test_tasks_in_another_row_order_and_without_index_name(tmp_path):
    (tmp_path / "meta").mkdir()
    table = pa.table({"task_index": [1, 0], "__index_level_0__": ["b", "a"]})
    pq.write_table(table, tmp_path / "meta/tasks.parquet")
    assert list(read_tasks(tmp_path).items()) == [("a", 0), ("b", 1)]


def test_garbage_is_a_dataset_error(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/tasks.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_tasks(tmp_path)


def row(index, length=3):
    stats = {key: column_stats(np.arange(length) + index) for key in ("index", "action")}
    return {"episode_index": index, "tasks": ["t"], "length": length, **stats_columns(stats)}


def small_schema():
    return episodes_schema(
        {"index": {"dtype": "int64", "shape": [1]}, "action": {"dtype": "f4", "shape": [1]}}
    )


def test_episodes_schema_is_lerobots():
    schema = episodes_schema(FEATURES)
    names = schema.names
    assert names[:7] == [
        *("episode_index", "tasks", "length", "data/chunk_index", "data/file_index"),
        *("dataset_from_index", "dataset_to_index"),
    ]
    assert names[7:11] == [
        f"videos/observation.images.front/{n}"
        for n in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    ]
    assert names[-2:] == ["meta/episodes/chunk_index", "meta/episodes/file_index"]
    assert not any("note" in name or "still/chunk" in name for name in names)
    assert (
        schema.field("stats/observation.images.still/min").type.value_type.value_type.value_type == "double"
    )
    assert schema.field("stats/cube/q99").type.value_type == "double"
    assert schema.field("stats/cube/count").type.value_type == "int64"


def test_the_log_seals_its_files(tmp_path):
    log = EpisodeLog(tmp_path, small_schema(), None)
    for index in range(ROWS_PER_FILE * 2 + 1):
        log.write(row(index), f"{index:06d}")
        log.accept()
    files = episode_files(tmp_path)
    assert [(file.index, file.first, file.rows) for file in files] == [
        ((900, 0), 0, 50),
        ((900, 1), 50, 50),
        ((900, 2), 100, 1),
    ]
    assert read_ids(files[1].path) == {n: f"{n:06d}" for n in range(50, 100)}
    table = read_episodes(files, ["episode_index", "stats/index/mean"])
    assert table["episode_index"].to_pylist() == list(range(101))
    assert table["stats/index/mean"][7].as_py() == [8]


def test_a_row_that_was_not_accepted_is_replaced(tmp_path):
    log = EpisodeLog(tmp_path, small_schema(), None)
    log.write(row(0), "a")
    log.write(row(0, length=9), "b")
    log.accept()
    [file] = episode_files(tmp_path)
    assert read_ids(file.path) == {0: "b"}
    assert read_table(file.path)["length"].to_pylist() == [9]


def test_a_new_log_leaves_old_files_alone(tmp_path):
    log = EpisodeLog(tmp_path, small_schema(), None)
    log.write(row(0), "a")
    log.accept()
    before = episode_files(tmp_path)[0].path.read_bytes()
    log = EpisodeLog(tmp_path, small_schema(), episode_files(tmp_path)[-1].index)
    log.write(row(1), "b")
    log.accept()
    assert [file.rows for file in episode_files(tmp_path)] == [1, 1]
    assert episode_files(tmp_path)[0].path.read_bytes() == before


def test_rows_follow_the_columns_of_the_files_that_are_there(tmp_path):
    # As other versions of lerobot write them: another order, whole numbers, a column more, quantiles missing.
    fields = [
        pa.field("length", pa.int64()),
        pa.field("episode_index", pa.int64()),
        pa.field("stats/index/min", pa.list_(pa.int64())),
        pa.field("quality", pa.string()),
    ]
    log = EpisodeLog(tmp_path, pa.schema(fields), None)
    log.write(row(0), "a")
    table = read_table(tmp_path / "meta/episodes/chunk-900/file-000.parquet")
    assert table.schema.equals(pa.schema(fields))
    assert table.to_pylist() == [{"length": 3, "episode_index": 0, "stats/index/min": [0], "quality": None}]


def test_stats_come_back(tmp_path):
    log = EpisodeLog(tmp_path, small_schema(), None)
    log.write(row(4), "a")
    [stats] = list(episode_stats(read_table(tmp_path / "meta/episodes/chunk-900/file-000.parquet")))
    for key in ("index", "action"):
        for name, value in column_stats(np.arange(3) + 4).items():
            np.testing.assert_array_equal(stats[key][name], value)


@pytest.mark.parametrize("episodes", [[1, 2], [0, 2], [1, 0], [], [0, 0]])
def test_episodes_that_do_not_follow_each_other(tmp_path, episodes):
    path = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"episode_index": pa.array(episodes, pa.int64())}), path)
    with pytest.raises(DatasetError):
        episode_files(tmp_path)


def test_a_missing_column(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"episode_index": [0]}), path)
    with pytest.raises(DatasetError):
        read_table(path, ["length"])
