"""Videos beyond 1024 s: what lerobot refuses to read is what the check says, and packing makes none of it."""

from __future__ import annotations

import shutil

import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.video_utils import FrameTimestampError
from staged import VIDEO, commit

from aiorecord.check.check_dataset import check_dataset
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.packing import pack as packing
from aiorecord.dataset.packing.pack import pack
from aiorecord.features import Schema

pytestmark = pytest.mark.lerobot

FPS = 3
LENGTHS = [1560, 1600]


def refused(root, frames, backend):
    dataset = LeRobotDataset("me/x", root=root, video_backend=backend)
    found = []
    for index in frames:
        try:
            dataset[index]
        except FrameTimestampError:
            found.append(index)
    return found


def test_lerobot_refuses_what_the_check_predicts(tmp_path, monkeypatch):
    writer = DatasetWriter.create(tmp_path / "d", fps=FPS, schema=Schema(VIDEO))
    for content, length in enumerate(LENGTHS):
        commit(writer, content, length)
    shutil.copytree(tmp_path / "d", tmp_path / "joined")
    pack(writer)
    frames = [0, LENGTHS[0] - 1, *range(1560 + 1530, sum(LENGTHS), 3)]
    for backend in ("torchcodec", "pyav"):
        assert refused(tmp_path / "d", frames, backend) == []

    monkeypatch.setattr(packing, "is_readable_at", lambda start, length, fps: True)
    pack(DatasetWriter.open(tmp_path / "joined"))
    (finding,) = check_dataset(tmp_path / "joined", fast=True, workers=1).findings
    assert (finding.code, finding.episode) == ("video-frames-refused", 1)
    everything = range(1560 + 1530, sum(LENGTHS))
    found = refused(tmp_path / "joined", everything, "torchcodec")
    assert refused(tmp_path / "joined", everything, "pyav") == found
    first, last = (LENGTHS[0] + frame for frame in (finding.first_frame, finding.last_frame))
    assert (found[0], found[-1]) == (first, last)
    assert f" {len(found)} of its {LENGTHS[1]} frames" in finding.message
