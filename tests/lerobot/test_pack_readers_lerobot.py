"""lerobot has a dataset open, in this process, while it is recorded into and packed."""

from __future__ import annotations

import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from staged import VIDEO, commit, grey

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.packing.pack import pack
from aiorecord.features import Schema

pytestmark = pytest.mark.lerobot

CAMERA = "observation.images.front"
LENGTH = 5


def assert_reads(dataset, episodes):
    for number in episodes:
        item = dataset[LENGTH * number + 2]
        assert item["episode_index"] == number
        assert float(item[CAMERA].float().mean()) * 255 == pytest.approx(grey(number, 2), abs=4)


def test_what_it_has_opened_stays_and_what_it_opens_again_is_right(tmp_path):
    """It keeps a decoder of each file by its name, for as long as the process lives."""
    root = tmp_path / "set"
    writer = DatasetWriter.create(root, fps=30, schema=Schema(VIDEO))
    writer.watch_readers()
    opened = []
    for number in range(4):
        commit(writer, number, LENGTH)
        opened.append(LeRobotDataset("me/x", root=root))
        assert_reads(opened[-1], [number])
        pack(writer)
        opened.append(LeRobotDataset("me/x", root=root))
        assert_reads(opened[-1], range(number + 1))
    for dataset in opened:
        assert_reads(dataset, range(len(dataset) // LENGTH))
