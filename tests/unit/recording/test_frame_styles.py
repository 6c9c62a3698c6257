"""Frames as people have them: LeRobot's flat style, arrays of another dtype, and what cannot be a frame."""

import json

import numpy as np
import pytest
from helpers import FPS, H264, rows_of

import aiorecord
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.errors import ConfigError, FrameError, StorageError
from aiorecord.features import Schema
from aiorecord.frame_values import converted
from aiorecord.robots import build_frame

CAMERA = (48, 64, 3)


class FlatRobot:
    """As a LeRobot driver describes itself and answers, but awaited."""

    name = "flat_arm"
    is_connected = True

    def __init__(self, joints=("pan.pos", "lift.pos"), camera=True):
        self.joints = joints
        self.observation_features = dict.fromkeys(joints, float) | ({"front": CAMERA} if camera else {})
        self.action_features = dict.fromkeys(joints, float)
        self.turns = 0

    async def connect(self): ...

    async def disconnect(self): ...

    async def get_observation(self):
        self.turns += 1
        numbers = {name: float(10 * k + self.turns) for k, name in enumerate(self.joints)}
        pictures = {"front": np.zeros(CAMERA, np.uint8)} if "front" in self.observation_features else {}
        return numbers | pictures | {"raw": b"what no feature asks for"}

    async def send_action(self, action):
        return action

    async def get_action(self):
        return dict.fromkeys(self.joints, -1.0)


def recorder_of(root, robot, clock=None, **options):
    features = aiorecord.dataset_features(robot.observation_features, robot.action_features)
    options = {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred"} | options
    clock = clock or aiorecord.FakeClock(auto=True)
    return aiorecord.Recorder("me/flat", root=root, fps=FPS, features=features, clock=clock, **options)


def robot_type_of(root):
    return json.loads((root / "meta" / "info.json").read_text())["robot_type"]


async def test_the_loop_of_the_readme_records_a_flat_robot(tmp_path):
    robot = FlatRobot()

    async with recorder_of(tmp_path / "set", robot) as recorder:
        async with recorder.episode(task="Pick up the cube") as episode:
            async for _ in recorder.ticks(seconds=3 / FPS):
                observation = await robot.get_observation()
                action = await robot.get_action()
                await robot.send_action(action)
                episode.add_frame(observation, action)
        await episode.save
    rows = rows_of(tmp_path / "set")
    assert [row["observation.state"] for row in rows] == [[1.0, 11.0], [2.0, 12.0], [3.0, 13.0]]
    assert [row["action"] for row in rows] == [[-1.0, -1.0]] * 3


async def test_one_flat_dict_is_a_frame_unless_a_value_would_be_the_robots_and_the_teleoperators(tmp_path):
    robot = FlatRobot(camera=False)
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["pan.pos", "lift.pos"]},
        "action": {"dtype": "float32", "shape": (1,), "names": ["speed"]},
    }

    async with aiorecord.Recorder("me/x", root=tmp_path / "a", fps=FPS, features=features) as recorder:
        async with recorder.episode() as episode:
            episode.add_frame({"pan.pos": 1, "lift.pos": np.float64(2), "speed": 3.0, "task": "flat"})
            episode.add_frame({"observation.state": [4, 5], "speed": 6.0})
            with pytest.raises(FrameError, match="unknown: raw"):
                episode.add_frame({"observation.state": [4, 5], "speed": 6.0, "raw": 1})
            with pytest.raises(FrameError, match="missing: action"):
                episode.add_frame({"pan.pos": 1, "lift.pos": 2})
    async with recorder_of(tmp_path / "b", robot) as recorder:
        async with recorder.episode() as episode:
            observation, action = await robot.get_observation(), await robot.get_action()
            with pytest.raises(FrameError, match=r"'pan.pos' .*add_frame\(observation, action\)"):
                episode.add_frame({**observation, **action})
            episode.discard()
    rows = rows_of(tmp_path / "a")
    assert [(row["observation.state"], row["action"]) for row in rows] == [([1, 2], 3), ([4, 5], 6)]


@pytest.mark.parametrize("how", ["session", "record"])
async def test_the_robots_name_is_stored_and_another_robot_is_told(tmp_path, how, caplog):
    robot = FlatRobot(camera=False)

    async def main(**options):
        async with recorder_of(tmp_path / "set", robot, **options) as recorder:
            if how == "record":
                await recorder.record(robot, robot, seconds=0.1)
            else:
                plan = aiorecord.SessionPlan(num_episodes=1, episode_time_s=0.1, reset_time_s=0)
                await aiorecord.Session(recorder, robot, robot, plan).run()

    await main()
    assert robot_type_of(tmp_path / "set") == "flat_arm"
    robot.name = "another"
    await main(resume=True)
    assert robot_type_of(tmp_path / "set") == "flat_arm"
    assert "was recorded with the robot 'flat_arm'; this one is 'another'" in caplog.text


@pytest.mark.parametrize("how", ["session", "record"])
async def test_frames_before_the_disk_refused_are_saved(tmp_path, how, monkeypatch):
    robot = FlatRobot(camera=False)
    add_frame = EpisodeCapture.add_frame

    def refused_from_the_third_on(self, *args, **options):
        if self.length == 2:
            raise StorageError("the disk takes no more")
        return add_frame(self, *args, **options)

    monkeypatch.setattr(EpisodeCapture, "add_frame", refused_from_the_third_on)

    async with recorder_of(tmp_path / "set", robot) as recorder:
        if how == "record":
            save = await recorder.record(robot, robot, seconds=1)
        else:
            plan = aiorecord.SessionPlan(num_episodes=1, episode_time_s=1, reset_time_s=0)
            [record] = await aiorecord.Session(recorder, robot, robot, plan).run()
            save = record.save
        assert (await save).length == 2
        assert save.job.folder.manifest.quality["end_reason"] == "the disk takes no more"


async def test_a_given_robot_type_wins(tmp_path):
    robot = FlatRobot(camera=False)

    async with recorder_of(tmp_path / "set", robot, robot_type="mine") as recorder:
        await recorder.record(robot, robot, seconds=0.1)
    assert robot_type_of(tmp_path / "set") == "mine"


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([0.1, np.inf, np.nan]), "float32"),
        (np.array([1.0], np.float16), "float64"),
        (np.array([-128, 127]), "int8"),
        (np.array([0, 255]), "uint8"),
        (np.array([2**24, -(2**24)]), "float32"),
        (np.array([True, False]), "float32"),
        (np.array([True, False]), "int8"),
        (np.array([7], np.uint64), "int64"),
    ],
)
def test_values_become_the_dtype_of_their_feature(values, dtype):
    found = converted("x", values, np.dtype(dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values.astype(dtype))


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        (np.array([1e39]), "float32", "at most 3.4e\\+38.*float64"),
        (np.array([1.0]), "int64", r"np.rint\(values\).astype\('int64'\)"),
        (np.array([1]), "bool", "values != 0"),
        (np.array([128]), "int8", "from 128 to 128; int8 holds -128 to 127"),
        (np.array([-1]), "uint8", "wider dtype"),
        (np.array([2**24 + 1]), "float32", "without gaps"),
        (np.array([2**63], np.uint64), "int64", "wider dtype"),
        (np.array([1j]), "float32", "complex128"),
        (np.array(["1"]), "float32", "<U1"),
    ],
)
def test_what_would_be_lost_is_refused_with_what_to_do(values, dtype, message):
    with pytest.raises(FrameError, match=message):
        converted("x", values, np.dtype(dtype))


def test_none_and_other_no_frames_are_named():
    schema = Schema({"state": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]}})
    specs = schema.as_dict(defaults=False)
    with pytest.raises(FrameError, match=r"A frame is a dict .* not NoneType"):
        schema.check(None)
    with pytest.raises(FrameError, match="'state' is None"):
        schema.check({"state": None})
    with pytest.raises(FrameError, match=r"The observation must be a dict .* not NoneType"):
        build_frame(specs, None, {})
    with pytest.raises(FrameError, match="not numbers: 'b' is None"):
        build_frame(specs, {"a": 1.0, "b": None}, {})
    with pytest.raises(FrameError, match="not numbers: 'b' is '1'"):
        build_frame(specs, {"a": 1.0, "b": "1"}, {})


async def test_no_task_is_no_none(tmp_path):
    async with recorder_of(tmp_path / "set", FlatRobot(camera=False)) as recorder:
        with pytest.raises(ConfigError, match="task must be a string, not None; leave it out"):
            recorder.episode(task=None)
        async with recorder.episode() as episode:
            with pytest.raises(FrameError, match="A frame is a dict"):
                episode.add_frame(None)
            episode.discard()
    with pytest.raises(ConfigError, match="task must be a string"):
        aiorecord.SessionPlan(None)
