"""Datasets of the real LeRobot: finished ones are clean, killed ones are named, repaired and read whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import killed_lerobot
import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset
from off_grid import move_frames

from aiorecord.check.check_dataset import check_dataset
from aiorecord.check.findings import NOTE
from aiorecord.check.repair.repair_dataset import repair_dataset

pytestmark = pytest.mark.lerobot


def run(root: Path, *arguments: object) -> int:
    command = [sys.executable, killed_lerobot.__file__, str(root), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=600).returncode


def codes(report) -> set[str]:
    return {finding.code for finding in report.findings if finding.severity != NOTE}


def read_all(root: Path, episodes: list[int]) -> None:
    """Every row through `LeRobotDataset`, against what was recorded."""
    dataset = LeRobotDataset("test/killed", root=root)
    assert dataset.num_episodes == len(episodes)
    assert len(dataset) == sum(killed_lerobot.length(episode) for episode in episodes)
    at = 0
    for number, episode in enumerate(episodes):
        for k in range(killed_lerobot.length(episode)):
            item, given = dataset[at], killed_lerobot.frame(k, episode)
            for key in ("observation.state", "matrix", "action"):
                np.testing.assert_array_equal(item[key].numpy(), given[key])
            assert (item["episode_index"].item(), item["index"].item()) == (number, at)
            assert (item["note"], item["task"]) == (given["note"], given["task"])
            for key in ("observation.images.front", "observation.images.wrist", "observation.images.still"):
                pixels = item[key].numpy().transpose(1, 2, 0) * 255
                assert np.abs(pixels - given[key]).mean() < 12, (key, episode, k)
            at += 1


@pytest.mark.parametrize("mode", ["streaming", "png"])
def test_finished_datasets_are_clean(mode, tmp_path):
    root = tmp_path / "set"
    assert run(root, mode, 2, -1) == 0
    report = check_dataset(root, workers=1)
    assert report.findings == [], report.as_dict()


@pytest.mark.parametrize(
    ("mode", "episodes", "kill_at"),
    [("streaming", 3, 6), ("png", 3, 6), ("streaming", 12, 0), ("png", 11, 3)],
)
def test_killed_datasets_are_repaired(mode, episodes, kill_at, tmp_path):
    """With more than ten episodes, part of the metadata is on disk, without a footer."""
    root = tmp_path / "set"
    assert run(root, mode, episodes, kill_at) == -signal.SIGKILL
    found = codes(check_dataset(root, workers=1))
    assert {"lerobot-killed-footerless-parquet", "lerobot-killed-metadata-behind"} <= found
    leftovers = {"lerobot-killed-image-folder", "lerobot-killed-temporary-video"}
    assert found - leftovers <= {"lerobot-killed-footerless-parquet", "lerobot-killed-metadata-behind"}
    if mode == "png" and kill_at:
        assert "lerobot-killed-image-folder" in found
    result = repair_dataset(root, workers=1, accept_loss=True)
    assert codes(result.after) == set(), result.as_dict()
    assert result.lost == {}
    assert codes(check_dataset(root, workers=1)) == set()
    read_all(root, list(range(episodes)))
    assert repair_dataset(root, workers=1, accept_loss=True).actions == []


def test_dropped_frames_are_named_and_cut_out(tmp_path):
    root = tmp_path / "set"
    assert run(root, "streaming", 2, -1, 1) == 0
    report = check_dataset(root, workers=1)
    assert codes(report) == {"lerobot-frames-dropped"}
    assert {finding.episode for finding in report.findings} == {1}
    result = repair_dataset(root, workers=1, accept_loss=True)
    assert result.after.ok, result.as_dict()
    assert list(result.lost) == [1]
    read_all(root, [0, 2])


def test_a_hole_in_a_video_does_not_spoil_the_episodes_beside_it(tmp_path):
    """Readers that turn a timestamp into a frame number would miss the whole episodes behind a hole."""
    root = tmp_path / "set"
    assert run(root, "streaming", 2, -1) == 0
    first, end = killed_lerobot.length(0), killed_lerobot.length(0) + killed_lerobot.length(1)
    (video,) = root.glob("videos/observation.images.front/*/*.mp4")
    move_frames(video, 30, lambda k: None if first + 4 <= k < end else k)
    assert codes(check_dataset(root, workers=1)) == {"video-grid", "video-frames-missing"}
    result = repair_dataset(root, workers=1, accept_loss=True)
    assert codes(result.after) == {"video-unused-frames"}, result.as_dict()  # of the other camera
    assert list(result.lost) == [1]
    read_all(root, [0, 2])
