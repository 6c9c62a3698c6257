"""Datasets made with what another dataset, or lerobot, says of its videos: the info is what was encoded."""

from __future__ import annotations

import copy
import json
import shutil

import av
import numpy as np
import pytest
from helpers import FPS
from lerobot.configs.video import DepthEncoderConfig as TheirDepth
from lerobot.datasets.lerobot_dataset import LeRobotDataset

import aiorecord
from aiorecord.lerobot import AsyncLeRobotDataset

DEEP, FRONT = "observation.images.deep", "observation.images.front"
SHAPE = (64, 96)
FEATURES = {
    DEEP: {
        "dtype": "video",
        "shape": (*SHAPE, 1),
        "names": ["height", "width", "channels"],
        "info": {"is_depth_map": True},
    },
    FRONT: {"dtype": "video", "shape": (*SHAPE, 3), "names": ["height", "width", "channels"]},
}
RANGE = {"depth_min": 0.2, "depth_max": 3.0, "shift": 0.5}
"""Metres; other than the default, so that who takes the default reads other depths."""


def depth(k):
    return np.linspace(500, 2500, SHAPE[0] * SHAPE[1]).reshape(*SHAPE, 1).astype(np.uint16) + np.uint16(
        10 * k
    )


def frame(k):
    return {DEEP: depth(k), FRONT: np.full((*SHAPE, 3), 40 * k, np.uint8)}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Of lerobot's writer, with a depth range of its own."""
    root = tmp_path_factory.mktemp("theirs") / "set"
    encoder = TheirDepth(**RANGE)
    dataset = LeRobotDataset.create(
        "test/set", FPS, copy.deepcopy(FEATURES), root=root, depth_encoder=encoder
    )
    for k in range(5):
        dataset.add_frame(frame(k) | {"task": "Test"})
    dataset.save_episode()
    dataset.finalize()
    return root


def worst_mm(root):
    """How far lerobot reads each frame's depth from what was recorded."""
    dataset = LeRobotDataset("test/set", root=root, video_backend="pyav")
    rows = [dataset[k] for k in range(len(dataset))]
    read = [(row[DEEP].numpy().reshape(*SHAPE, 1), depth(int(row["frame_index"]))) for row in rows]
    return [float(np.abs(got - want).max()) for got, want in read]


def check_info(root):
    """Every file is as info.json describes its camera."""
    features = json.loads((root / "meta/info.json").read_text())["features"]
    for key in (DEEP, FRONT):
        info = features[key]["info"]
        for path in root.glob(f"videos/{key}/*/*.mp4"):
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                assert info["video.codec"] == stream.codec.canonical_name
                assert (info["video.height"], info["video.width"]) == (stream.height, stream.width)
                assert info["video.pix_fmt"] == stream.pix_fmt
    return features


def test_the_dropin_takes_the_features_of_another_dataset(theirs, tmp_path):
    features = LeRobotDataset("test/set", root=theirs).meta.features
    assert features[DEEP]["info"]["video.depth_max"] == RANGE["depth_max"]
    features[FRONT]["info"] |= {"video.codec": "vp9", "video.height": 480, "video.width": 640}
    root = tmp_path / "set"
    dataset = AsyncLeRobotDataset.create("test/set", FPS, features, root=root)
    for k in range(5):
        dataset.add_frame(frame(k) | {"task": "Test"})
    dataset.save_episode()
    dataset.finalize()
    assert max(worst_mm(root)) < 6  # a quantum of the default range at 2.5 m, and rounding
    features = check_info(root)
    assert features[DEEP]["info"]["video.depth_max"] != RANGE["depth_max"]


@pytest.mark.parametrize("dropin", [False, True], ids=["recorder", "dropin"])
async def test_a_dataset_of_lerobots_is_continued_with_its_own_depth_range(dropin, theirs, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(theirs, root)
    if dropin:
        dataset = AsyncLeRobotDataset.resume("test/set", root=root)
        for k in range(5):
            dataset.add_frame(frame(k) | {"task": "Test"})
        dataset.save_episode()
        dataset.finalize()
    else:

        async def record():
            async with aiorecord.Recorder(
                "test/set", root=root, fps=FPS, features=FEATURES, resume=True
            ) as recorder:
                async with recorder.episode("Test") as episode:
                    for k in range(5):
                        episode.add_frame(frame(k))

        await record()
    worst = worst_mm(root)
    assert len(worst) == 10
    assert max(worst) < 6
    info = check_info(root)[DEEP]["info"]
    assert {name: info[f"video.{name}"] for name in RANGE} == RANGE


async def test_another_depth_range_than_the_datasets_is_refused(theirs, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(theirs, root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    async def record():
        encoder = aiorecord.DepthEncoderConfig(depth_max=4.0)
        async with aiorecord.Recorder(
            "test/set", root=root, fps=FPS, features=FEATURES, resume=True, depth_encoder=encoder
        ):
            pass

    with pytest.raises(aiorecord.AiorecordError, match="depth_max"):
        await record()
    assert {path: path.read_bytes() for path in before} == before
