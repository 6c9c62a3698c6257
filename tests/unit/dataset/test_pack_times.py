"""lerobot compares times as 32-bit numbers: no packed video gets so long that it refuses frames of it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from staged import VIDEO, commit, tree

from aiorecord.check.check_dataset import check_dataset
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.format.reader_limits import is_readable_at, refused_frames
from aiorecord.dataset.packing import pack as packing
from aiorecord.dataset.packing.pack import pack
from aiorecord.features import Schema

FPS = 3
LENGTHS = [1560, 1600]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("long") / "dataset"
    writer = DatasetWriter.create(root, fps=FPS, schema=Schema(VIDEO))
    for content, length in enumerate(LENGTHS):
        commit(writer, content, length)
    return root


@pytest.fixture
def writer(prepared, tmp_path):
    return DatasetWriter.open(shutil.copytree(prepared, tmp_path / "dataset"))


def videos(root):
    return [name for name in tree(root) if name.endswith(".mp4")]


def test_a_packed_video_ends_before_a_frame_is_refused(writer):
    pack(writer)
    assert [name[-22:] for name in videos(writer.root)] == [
        "chunk-000/file-000.mp4",
        "chunk-000/file-001.mp4",
    ]
    report = check_dataset(writer.root, fast=True, workers=1)
    assert report.findings == []


def test_a_packed_video_does_not_take_more_back_than_can_be_read(writer):
    pack(writer)
    for content in (4,):
        commit(writer, content, 1600)
        pack(writer)
    report = check_dataset(writer.root, fast=True, workers=1)
    assert "video-frames-refused" not in report.codes


def test_check_says_which_frames_are_refused(writer, monkeypatch):
    monkeypatch.setattr(packing, "is_readable_at", lambda start, length, fps: True)
    pack(writer)
    assert len(videos(writer.root)) == 1
    report = check_dataset(writer.root, fast=True, workers=1)
    assert report.codes == {"video-frames-refused"}
    assert report.ok
    assert 1 in {finding.episode for finding in report.findings}
    by_episode = {finding.episode: finding for finding in report.findings}
    start = 0
    for episode in range(2):
        expected = [k for k in range(LENGTHS[episode]) if refused(start, k)]
        if expected:
            found = by_episode.pop(episode)
            assert (found.first_frame, found.last_frame) == (expected[0], expected[-1])
            assert f" {len(expected)} of its {LENGTHS[episode]} frames" in found.message
        start += LENGTHS[episode]
    assert by_episode == {}


def refused(start, k):
    """lerobot's own steps for one frame."""
    asked = np.float32(start / FPS + float(np.float32(k / FPS)))
    decoded = np.float32((start + k) / FPS)
    return not abs(asked - decoded) < np.float32(1e-4)


@pytest.mark.parametrize("fps", [7, 10, 16, 30, 50, 60])
@pytest.mark.parametrize("start_s", [0, 700, 1000, 1500, 4000, 20000])
def test_every_frame_is_compared_at_its_place(fps, start_s):
    start, length = start_s * fps + 1, 40 * fps
    frames = np.arange(length)
    asked = (start / fps + (frames / fps).astype(np.float32).astype(np.float64)).astype(np.float32)
    decoded = ((start + frames) / fps).astype(np.float32)
    bad = np.abs(asked - decoded) >= np.float32(1e-4)
    assert is_readable_at(start, length, fps) == (not bad.any())
    timestamps = (frames / fps).astype(np.float32)
    assert (refused_frames(start / fps, (start + frames) / fps, timestamps) == bad).all()
    if start_s + 41 < 1024:
        assert not bad.any()


def test_an_episode_alone_in_its_file_has_no_limit():
    assert is_readable_at(0, 30 * 3600 * 10, 30)
    frames = np.arange(30 * 3600 * 2)
    assert not refused_frames(0.0, frames / 30, (frames / 30).astype(np.float32)).any()
