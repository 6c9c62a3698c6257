from __future__ import annotations

import json

import pytest
from staged import EVERYTHING, VECTORS, VIDEO

from aiorecord.dataset.format.info_json import check_continues, new_info, read_info, write_info
from aiorecord.errors import ConfigError, DatasetError
from aiorecord.features import Schema


def info_of(features=VIDEO, **options):
    return new_info(Schema(features), **{"fps": 30, **options})


def test_reads_what_it_wrote(tmp_path):
    info = info_of(EVERYTHING, robot_type="so101", chunks_size=10)
    write_info(tmp_path, info)
    assert read_info(tmp_path) == info


def test_keys_are_in_lerobots_order():
    assert list(info_of().as_dict()) == [
        *("codebase_version", "fps", "features", "total_episodes", "total_frames", "total_tasks"),
        *("chunks_size", "data_files_size_in_mb", "video_files_size_in_mb", "data_path", "video_path"),
        *("robot_type", "splits"),
    ]


def test_keys_of_other_writers_are_kept(tmp_path):
    data = info_of().as_dict() | {"tools": [{"type": "function"}], "total_videos": 3}
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps(data))
    info = read_info(tmp_path)
    write_info(tmp_path, info)
    assert json.loads((tmp_path / "meta/info.json").read_text()) == data


def test_no_video_path_without_videos():
    assert info_of(VECTORS).video_path is None
    assert info_of(VIDEO).video_path is not None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("fps", value) for value in (0, -1, 29.97, True, "30", None)),
        *(("chunks_size", value) for value in (0, 1001, 1.5, True)),
        *(("data_files_size_in_mb", value) for value in (0, -1, "100", True)),
        *(("video_files_size_in_mb", value) for value in (0, -0.5)),
        ("robot_type", 3),
    ],
)
def test_settings_that_cannot_work(option, value):
    with pytest.raises(ConfigError, match=option) as caught:
        info_of(**{option: value})
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codebase_version": "v2.1"}, "convert_dataset_v21_to_v30"),
        ({"codebase_version": None}, "v3"),
        ({"fps": 0}, "fps"),
        ({"fps": 29.97}, "fps"),
        ({"total_episodes": -1}, "total_episodes"),
        ({"total_frames": "3"}, "total_frames"),
        ({"chunks_size": 0}, "chunks_size"),
        ({"features": []}, "features"),
        ({"features": {}}, "timestamp"),
        ({"data_path": "data/{episode}.parquet"}, "named"),
        ({"video_path": "v.mp4"}, "named"),
    ],
)
def test_a_broken_info_says_what_is_wrong(tmp_path, change, says):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps(info_of().as_dict() | change))
    with pytest.raises(DatasetError, match=says):
        read_info(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"codebase_version": "v3.0"}'])
def test_an_unreadable_info(tmp_path, text):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(text)
    with pytest.raises(DatasetError, match=r"info\.json"):
        read_info(tmp_path)


def test_language_columns_cannot_be_continued(tmp_path):
    data = info_of().as_dict()
    data["features"]["language_events"] = {"dtype": "language", "shape": [1], "names": None}
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="language_events"):
        read_info(tmp_path)


def test_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match="not a dataset"):
        read_info(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="not a dataset"):
        read_info(tmp_path / "file")


def test_a_whole_number_as_float_is_fine(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps(info_of().as_dict() | {"fps": 30.0}))
    assert read_info(tmp_path).fps == 30


def test_every_difference_is_listed(tmp_path):
    asked = {
        "observation.state": {"dtype": "float64", "shape": (4,), "names": ["a", "b", "c", "d"]},
        "observation.images.front": VIDEO["observation.images.front"],
        "extra": {"dtype": "int64", "shape": (1,), "names": None},
    }
    with pytest.raises(DatasetError) as caught:
        check_continues(tmp_path, info_of(robot_type="a"), schema=Schema(asked), fps=25, robot_type="b")
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 7
    for part in ("fps", "robot_type", "dtype", "shape", "names", "action", "extra"):
        assert any(part in line for line in lines), part


def test_tuples_and_info_are_no_difference(tmp_path):
    asked = {
        key: {**spec, "names": tuple(spec["names"]), "shape": list(spec["shape"])}
        for key, spec in VIDEO.items()
    }
    info = info_of()
    info.features["observation.images.front"]["info"] = {"video.codec": "av1"}
    check_continues(tmp_path, info, schema=Schema(asked), fps=30, robot_type="anything")
