"""Packed datasets are read and continued by lerobot, and lerobot's are packed."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from staged import EVERYTHING, TWO_VIDEOS, VECTORS, commit, tree
from test_dataset_format import CONTENTS, assert_reads, by_lerobot, by_us, record_with_lerobot

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.packing.pack import pack

pytestmark = pytest.mark.lerobot

H264 = RGBEncoderConfig(vcodec="h264", crf=18)


def resume(root):
    return LeRobotDataset.resume("me/x", root=root, rgb_encoder=H264)


def is_packed(root):
    return not any("chunk-9" in path for path in tree(root))


@pytest.mark.parametrize("features", [VECTORS, EVERYTHING], ids=["vectors", "everything"])
def test_lerobot_reads_a_packed_dataset(tmp_path, features):
    pack(by_us(tmp_path / "d", features))
    assert is_packed(tmp_path / "d")
    assert_reads(tmp_path / "d", CONTENTS, features)


def test_layout_is_that_of_lerobot(tmp_path):
    by_lerobot(tmp_path / "theirs", TWO_VIDEOS)
    pack(by_us(tmp_path / "ours", TWO_VIDEOS))
    ours = [name for name in tree(tmp_path / "ours") if not name.startswith("meta/aiorecord/")]
    assert ours == list(tree(tmp_path / "theirs"))
    places = [
        pq.read_table(tmp_path / name / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
        for name in ("ours", "theirs")
    ]
    for mine, other in zip(*places, strict=True):
        for name, value in other.items():
            if name.endswith("timestamp"):
                assert mine[name] == pytest.approx(value, abs=1e-6)
            elif not name.startswith("stats/"):
                assert mine[name] == value, name


def test_many_packings(tmp_path):
    writer = by_us(tmp_path / "d", TWO_VIDEOS, CONTENTS[:1])
    contents = CONTENTS[:1]
    for number in range(2, 6):
        pack(writer)
        commit(writer, number, 3 * number, task="Pick")
        contents = [*contents, (number, 3 * number, "Pick")]
    pack(writer)
    assert_reads(tmp_path / "d", contents, TWO_VIDEOS)


def test_lerobot_continues_a_packed_dataset(tmp_path):
    pack(by_us(tmp_path / "d", EVERYTHING))
    more = [(5, 4, "Pick"), (6, 3, "Third")]
    record_with_lerobot(resume(tmp_path / "d"), more, EVERYTHING)
    contents = [*CONTENTS, *more]
    assert_reads(tmp_path / "d", contents, EVERYTHING)
    writer = DatasetWriter.open(tmp_path / "d")
    commit(writer, 7, 30, task="Pick", features=EVERYTHING)
    pack(writer)
    assert is_packed(tmp_path / "d")
    assert_reads(tmp_path / "d", [*contents, (7, 30, "Pick")], EVERYTHING)


def test_what_lerobot_added_to_loose_files_is_packed(tmp_path):
    by_us(tmp_path / "d", TWO_VIDEOS)
    more = [(5, 4, "Pick"), (6, 3, "Third")]
    record_with_lerobot(resume(tmp_path / "d"), more, TWO_VIDEOS)
    writer = DatasetWriter.open(tmp_path / "d")
    commit(writer, 7, 5, task="Pick")
    assert not is_packed(tmp_path / "d")
    pack(writer)
    assert is_packed(tmp_path / "d")
    assert_reads(tmp_path / "d", [*CONTENTS, *more, (7, 5, "Pick")], TWO_VIDEOS)


def test_a_dataset_of_lerobot_is_continued_and_packed(tmp_path):
    by_lerobot(tmp_path / "d", EVERYTHING)
    writer = DatasetWriter.open(tmp_path / "d")
    commit(writer, 3, 40, task="New", features=EVERYTHING)
    commit(writer, 4, 2, task="Place", features=EVERYTHING)
    pack(writer)
    assert is_packed(tmp_path / "d")
    contents = [*CONTENTS, (3, 40, "New"), (4, 2, "Place")]
    assert_reads(tmp_path / "d", contents, EVERYTHING)
    record_with_lerobot(resume(tmp_path / "d"), [(8, 4, "Pick")], EVERYTHING)
    assert_reads(tmp_path / "d", [*contents, (8, 4, "Pick")], EVERYTHING)
