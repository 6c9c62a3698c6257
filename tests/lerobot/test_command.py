"""`aiorecord record` with the simulated and the replayed robot, every row read back by lerobot."""

import subprocess
import sys
from dataclasses import fields

import av
import numpy as np
import pytest
from helpers import FPS
from lerobot.datasets import LeRobotDataset

from aiorecord.robots import (
    CameraSpec,
    ReplayRobotConfig,
    SimRobot,
    SimRobotConfig,
    SimTeleopConfig,
    SimTeleoperator,
)

EPISODES, LENGTH = 2, 15


def record(root, *flags):
    command = [sys.executable, "-m", "aiorecord", "record", *flags, "--dataset.repo_id=demo/set"]
    command += [f"--dataset.root={root}", "--dataset.single_task=Pick", f"--dataset.num_episodes={EPISODES}"]
    command += [f"--dataset.episode_time_s={LENGTH / FPS}", "--dataset.reset_time_s=0", "--play_sounds=false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    dataset = LeRobotDataset("demo/set", root=root, video_backend="pyav")
    assert dataset.num_episodes == EPISODES
    assert EPISODES <= len(dataset) <= EPISODES * LENGTH  # a busy machine misses deadlines
    return dataset


def psnr(item, key, image):
    error = item[key].numpy().transpose(1, 2, 0) * 255 - image.astype(float)
    return 10 * np.log10(255**2 / np.mean(error**2))


@pytest.mark.parametrize(("codec", "least_db"), [("libsvtav1", 23), ("h264", 23)])
async def test_the_simulated_arm(tmp_path, codec, least_db):
    dataset = record(
        tmp_path / "set",
        "--robot.type=sim",
        "--robot.seed=7",
        "--robot.cameras={front: {width: 160, height: 120}, wrist: {width: 96, height: 64}}",
        "--robot.depth_cameras={above: {width: 96, height: 64}}",
        "--teleop.type=sim",
        "--teleop.seed=7",
        f"--dataset.rgb_encoder.vcodec={codec}",
    )

    cameras = {"front": CameraSpec(160, 120), "wrist": CameraSpec(96, 64)}
    robot = SimRobot(SimRobotConfig(seed=7, cameras=cameras, depth_cameras={"above": CameraSpec(96, 64)}))
    teleop = SimTeleoperator(SimTeleopConfig(seed=7))
    await robot.connect()
    await teleop.connect()
    for index in range(len(dataset)):
        observation, action = await robot.get_observation(), await teleop.get_action()
        await robot.send_action(action)
        item = dataset[index]
        np.testing.assert_array_equal(item["observation.state"].numpy(), observation["observation.state"])
        np.testing.assert_array_equal(item["action"].numpy(), action["action"])
        assert float(item["timestamp"]) == pytest.approx(int(item["frame_index"]) / FPS)
        assert item["task"] == "Pick"
        for name in ("front", "wrist"):
            key = f"observation.images.{name}"
            assert psnr(item, key, observation[key]) > least_db
        depth = observation["observation.images.above"].squeeze().astype(float)
        seen = (depth >= 10) & (depth <= 10_000)
        got = item["observation.images.above"].numpy()[0]
        assert np.abs(got - depth)[seen].max() < 5  # millimetres: one quantum of the code is at most 4.5
    await robot.disconnect()
    await teleop.disconnect()


def test_a_video_and_then_the_dataset_made_from_it(tmp_path):
    """Footage with a codec, a size and a rate of its own; then what was recorded is replayed itself."""
    video = tmp_path / "film.mp4"
    pictures = []
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", 25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        y, x = np.mgrid[0:240, 0:320]
        for k in range(20):
            image = np.stack([(x + 6 * k) % 256, (y * 2 + 3 * k) % 256, (x + y) % 256], -1)
            image = (128 + 100 * np.sin(image / 40)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(video)) as container:
        pictures = [f.reformat(160, 120).to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert {"videos", "width", "height"} <= {f.name for f in fields(ReplayRobotConfig)}

    first = record(
        tmp_path / "first",
        "--robot.type=replay",
        f"--robot.videos={{front: {video}}}",
        "--robot.width=160",
        "--robot.height=120",
        "--teleop.type=replay",
    )
    for index in range(len(first)):  # by time; the video is shorter than the recording and begins again
        shown = index * 25 // 30 % 20
        assert psnr(first[index], "observation.images.front", pictures[shown]) > 28

    replay = [f"--robot.root={tmp_path / 'first'}", f"--teleop.root={tmp_path / 'first'}"]
    second = record(tmp_path / "second", "--robot.type=replay", "--teleop.type=replay", *replay)
    for index in range(min(len(first), len(second))):
        was, now = first[index], second[index]
        for key in ("observation.state", "action"):
            np.testing.assert_array_equal(now[key].numpy(), was[key].numpy())
        image = np.rint(was["observation.images.front"].numpy().transpose(1, 2, 0) * 255)
        assert psnr(now, "observation.images.front", image) > 30
