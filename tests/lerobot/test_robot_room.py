"""The robots room against the real lerobot: same features and frames, and its datasets can be replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lerobot")
pytestmark = pytest.mark.lerobot

from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402
from lerobot.utils.feature_utils import build_dataset_frame, hw_to_dataset_features  # noqa: E402

from aiorecord.robots import (  # noqa: E402
    CameraSpec,
    ReplayRobot,
    ReplayRobotConfig,
    ReplayTeleopConfig,
    ReplayTeleoperator,
    SimRobot,
    SimRobotConfig,
    SimTeleoperator,
    build_frame,
    dataset_features,
)

OBSERVED = {"pan.pos": float, "front": (48, 64, 3), "lift.pos": float, "depth": (48, 64, 1)}
ACTED = {"pan.pos": float, "lift.pos": float}


@pytest.mark.parametrize("use_videos", [True, False])
def test_features_and_frames_are_lerobots(use_videos: bool) -> None:
    theirs = hw_to_dataset_features(OBSERVED, "observation", use_videos)
    theirs |= hw_to_dataset_features(ACTED, "action", use_videos)
    ours = dataset_features(OBSERVED, ACTED, use_videos)
    assert ours == theirs
    rng = np.random.default_rng(0)
    seen = {
        "pan.pos": 1.5,
        "lift.pos": 2.5,
        "front": rng.random((48, 64, 3)),
        "depth": rng.random((48, 64, 1)),
    }
    done = {"lift.pos": 4.5, "pan.pos": 3.5}
    frame = build_frame(ours, seen, done)
    expected = build_dataset_frame(theirs, seen, "observation") | build_dataset_frame(theirs, done, "action")
    assert frame.keys() == expected.keys()
    for key, value in expected.items():
        assert frame[key].dtype == value.dtype
        assert np.array_equal(frame[key], value)


async def record_with_lerobot(root: Path, use_videos: bool) -> tuple[LeRobotDataset, list[dict[str, Any]]]:
    spec = CameraSpec(width=160, height=120)
    # A depth image stored as a picture has its own format; as a video it is quantised.
    robot = SimRobot(
        SimRobotConfig(cameras={"front": spec, "wrist": spec}, depth_cameras={"top_depth": spec})
    )
    teleop = SimTeleoperator()
    features = dataset_features(robot.observation_features, teleop.action_features, use_videos)
    dataset = LeRobotDataset.create("test/sim", 30, features, root=root, use_videos=use_videos)
    frames: list[dict[str, Any]] = []

    await robot.connect()
    await teleop.connect()
    for length in (12, 7, 20):
        for _ in range(length):
            action = await teleop.get_action()
            frame = {**await robot.get_observation(), **await robot.send_action(action)}
            frames.append(frame)
            dataset.add_frame({**frame, "task": "pick"})
        dataset.save_episode()
    dataset.finalize()
    return dataset, frames


@pytest.mark.parametrize("use_videos", [True, False])
async def test_a_dataset_of_lerobot_is_replayed(tmp_path: Path, use_videos: bool) -> None:
    _, frames = await record_with_lerobot(tmp_path / "d", use_videos)
    theirs = LeRobotDataset("test/sim", root=tmp_path / "d")
    robot = ReplayRobot(ReplayRobotConfig(root=str(tmp_path / "d")))
    teleop = ReplayTeleoperator(ReplayTeleopConfig(root=str(tmp_path / "d")))
    assert robot.observation_features.keys() | robot.action_features.keys() == frames[0].keys()

    await robot.connect()
    await teleop.connect()
    try:
        for step in range(2 * len(frames)):
            number = step % len(frames)
            replayed = {**await robot.get_observation(), **await teleop.get_action()}
            recorded, read = frames[number], theirs[number]
            for key in ("observation.state", "action"):
                assert np.array_equal(replayed[key], recorded[key])
            for name in ("front", "wrist"):
                key = f"observation.images.{name}"
                decoded = np.rint(read[key].numpy().transpose(1, 2, 0) * 255)
                error = np.abs(replayed[key].astype(int) - decoded)
                assert error.mean() < (1.0 if use_videos else 1e-9)
            key = "observation.images.top_depth"
            assert replayed[key].shape == (120, 160, 1)
            measured = recorded[key] > 50
            error = np.abs(replayed[key].astype(int) - recorded[key])[measured]
            assert error.max() <= (4 if use_videos else 0)
    finally:
        await robot.disconnect()
        await teleop.disconnect()
