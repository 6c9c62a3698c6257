"""What a commit leaves on disk is what lerobot writes, and what lerobot reads."""

from __future__ import annotations

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from staged import EVERYTHING, HEIGHT, TWO_VIDEOS, VECTORS, WIDTH, commit, grey, values

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.encoding.stats import STAT_NAMES
from aiorecord.features import Schema

pytestmark = pytest.mark.lerobot

CONTENTS = [(0, 5, "Pick"), (1, 6, "Place"), (2, 4, "Pick")]


def frame(features, content, k, task):
    out = {**values(features, content, k), "task": task}
    for key, spec in features.items():
        if spec["dtype"] in ("video", "image"):
            out[key] = np.full((HEIGHT, WIDTH, 3), grey(content, k), np.uint8)
        elif spec["dtype"] == "string":
            out[key] = str(out[key])
    return out


def record_with_lerobot(dataset, contents, features):
    for content, length, task in contents:
        for k in range(length):
            dataset.add_frame(frame(features, content, k, task))
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()


def by_lerobot(root, features, contents=CONTENTS):
    dataset = LeRobotDataset.create(
        "me/x", 30, features, root=root, robot_type="bot", rgb_encoder=RGBEncoderConfig(vcodec="h264", crf=18)
    )
    record_with_lerobot(dataset, contents, features)


def by_us(root, features, contents=CONTENTS):
    writer = DatasetWriter.create(root, fps=30, schema=Schema(features), robot_type="bot")
    for content, length, task in contents:
        commit(writer, content, length, task=task, features=features)
    return writer


def assert_reads(root, contents, features):
    """Load with lerobot and check every frame."""
    dataset = LeRobotDataset("me/x", root=root)
    assert dataset.num_episodes == len(contents)
    assert len(dataset) == sum(length for _, length, _ in contents)
    index = 0
    for episode, (content, length, task) in enumerate(contents):
        for k in range(length):
            item = dataset[index]
            assert (item["episode_index"], item["frame_index"], item["index"]) == (episode, k, index)
            assert item["task"] == task
            for key, value in values(features, content, k).items():
                if isinstance(value, str):
                    assert item[key] == value
                else:
                    np.testing.assert_array_equal(np.asarray(item[key]).reshape(value.shape), value)
            for key, spec in features.items():
                if spec["dtype"] in ("video", "image"):
                    assert item[key].shape == (3, HEIGHT, WIDTH)
                    assert abs(float(item[key].mean()) * 255 - grey(content, k)) < 4, (key, episode, k)
            index += 1
    return dataset


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    by_lerobot(folder / "theirs", EVERYTHING)
    by_us(folder / "ours", EVERYTHING)
    return folder / "ours", folder / "theirs"


def newest(root, pattern):
    return sorted(root.glob(pattern))[-1]


def test_data_schema(both):
    ours, theirs = (pq.read_schema(newest(root, "data/*/*.parquet")) for root in both)
    assert ours.remove_metadata().equals(theirs.remove_metadata(), check_metadata=True)
    assert ours.metadata.keys() == theirs.metadata.keys() | {b"aiorecord"}  # which episodes the file holds
    described = [json.loads(schema.metadata[b"huggingface"])["info"] for schema in (ours, theirs)]
    assert described[0] == described[1]


def test_data_physical_types(both):
    ours, theirs = (pq.ParquetFile(newest(root, "data/*/*.parquet")) for root in both)
    with ours, theirs:
        assert str(ours.schema).split("\n", 1)[1] == str(theirs.schema).split("\n", 1)[1]
        a, b = ours.metadata.row_group(0), theirs.metadata.row_group(0)
        for n in range(a.num_columns):
            assert a.column(n).compression == b.column(n).compression
            assert a.column(n).encodings == b.column(n).encodings


def test_data_values(both):
    ours, theirs = (
        [row for path in sorted(root.glob("data/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
        for root in both
    )
    for mine, other in zip(ours, theirs, strict=True):
        for key in other:
            if key != "observation.images.still":
                assert mine[key] == other[key], key


def test_episodes(both):
    ours, theirs = (pq.read_table(newest(root, "meta/episodes/*/*.parquet")) for root in both)
    assert ours.schema.remove_metadata().equals(theirs.schema.remove_metadata())
    for mine, other in zip(ours.to_pylist(), theirs.to_pylist(), strict=True):
        for name in ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index"):
            assert mine[name] == other[name]
        for name in ours.column_names:
            if name.startswith("stats/"):
                tolerance = 5e-3 if "images" in name else 1e-9
                np.testing.assert_allclose(
                    mine[name], other[name], rtol=tolerance, atol=tolerance, err_msg=name
                )


def test_stats(both):
    ours, theirs = (json.loads((root / "meta/stats.json").read_text()) for root in both)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key].keys() == theirs[key].keys() == set(STAT_NAMES)
        for name in STAT_NAMES:
            assert np.shape(ours[key][name]) == np.shape(theirs[key][name])
            # lerobot adds variances up in 32 bits where the data has 32.
            tolerance = 5e-3 if "images" in key else 1e-6
            np.testing.assert_allclose(ours[key][name], theirs[key][name], rtol=tolerance, atol=tolerance)


def test_tasks(both):
    ours, theirs = (pd.read_parquet(root / "meta/tasks.parquet") for root in both)
    pd.testing.assert_frame_equal(ours, theirs)
    assert ours.index.name == "task"


def test_info(both):
    ours, theirs = (json.loads((root / "meta/info.json").read_text()) for root in both)
    assert list(ours) == list(theirs)
    for key, feature in theirs["features"].items():
        mine = ours["features"][key]
        assert mine.get("info", {}).keys() == feature.get("info", {}).keys(), key
        assert {n: v for n, v in mine.items() if n != "info"} == {
            n: v for n, v in feature.items() if n != "info"
        }
    del ours["features"], theirs["features"]
    assert ours == theirs


@pytest.mark.parametrize("features", [VECTORS, EVERYTHING], ids=["vectors", "everything"])
def test_lerobot_reads_it_after_every_commit(tmp_path, features):
    writer = DatasetWriter.create(tmp_path / "d", fps=30, schema=Schema(features))
    for count, (content, length, task) in enumerate(CONTENTS, 1):
        commit(writer, content, length, task=task, features=features)
        assert_reads(tmp_path / "d", CONTENTS[:count], features)


def test_some_episodes_and_delta_timestamps(tmp_path):
    by_us(tmp_path / "d", TWO_VIDEOS)
    deltas = {"observation.images.front": [-1 / 30, 0.0], "action": [0.0, 1 / 30, 2 / 30]}
    dataset = LeRobotDataset("me/x", root=tmp_path / "d", episodes=[1, 2], delta_timestamps=deltas)
    assert len(dataset) == 10
    item = dataset[2]
    assert item["action"].shape == (3, 3)
    levels = [float(image.mean()) * 255 for image in item["observation.images.front"]]
    np.testing.assert_allclose(levels, [grey(1, 1), grey(1, 2)], atol=4)


def test_lerobot_reads_it_while_the_next_commit_is_under_way(tmp_path):
    """Everything but info.json is already there."""
    writer = by_us(tmp_path / "d", TWO_VIDEOS)
    info = (tmp_path / "d/meta/info.json").read_bytes()
    commit(writer, 3, 5, task="New")
    (tmp_path / "d/meta/info.json").write_bytes(info)
    assert_reads(tmp_path / "d", CONTENTS, TWO_VIDEOS)


def test_one_frame_episodes(tmp_path):
    contents = [(0, 1, "a"), (1, 1, "a"), (2, 3, "a")]
    by_us(tmp_path / "d", EVERYTHING, contents)
    assert_reads(tmp_path / "d", contents, EVERYTHING)


def test_a_dataset_that_lerobot_wrote_is_continued(tmp_path):
    by_lerobot(tmp_path / "d", EVERYTHING)
    before = {p: p.read_bytes() for p in (tmp_path / "d").rglob("*.parquet") if "tasks" not in p.name}
    writer = DatasetWriter.open(tmp_path / "d", schema=Schema(EVERYTHING), fps=30, robot_type="bot")
    commit(writer, 3, 5, task="New")
    commit(writer, 4, 2, task="Place")
    contents = [*CONTENTS, (3, 5, "New"), (4, 2, "Place")]
    assert_reads(tmp_path / "d", contents, EVERYTHING)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_statistics_of_a_continued_dataset_are_lerobots(tmp_path):
    by_lerobot(tmp_path / "all", VECTORS)
    by_lerobot(tmp_path / "some", VECTORS, CONTENTS[:2])
    content, length, task = CONTENTS[2]
    commit(DatasetWriter.open(tmp_path / "some"), content, length, task=task)
    ours, theirs = (json.loads((tmp_path / n / "meta/stats.json").read_text()) for n in ("some", "all"))
    for key in theirs:
        for name in STAT_NAMES:
            np.testing.assert_allclose(ours[key][name], theirs[key][name], rtol=1e-9, atol=1e-12)


def test_lerobot_continues_ours(tmp_path):
    by_us(tmp_path / "d", TWO_VIDEOS)
    dataset = LeRobotDataset.resume("me/x", root=tmp_path / "d", rgb_encoder=RGBEncoderConfig(vcodec="h264"))
    more = [(5, 4, "Pick"), (6, 3, "Third")]
    record_with_lerobot(dataset, more, TWO_VIDEOS)
    assert_reads(tmp_path / "d", [*CONTENTS, *more], TWO_VIDEOS)
    commit(DatasetWriter.open(tmp_path / "d"), 7, 4, task="Pick")
    assert_reads(tmp_path / "d", [*CONTENTS, *more, (7, 4, "Pick")], TWO_VIDEOS)
