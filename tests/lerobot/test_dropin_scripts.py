"""lerobot's own recording code, unmodified, over the drop-in."""

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from helpers import rows_of
from lerobot.cameras import CameraConfig
from lerobot.datasets import LeRobotDataset, VideoEncodingManager
from lerobot.processor import make_default_processors
from lerobot.robots import Robot, RobotConfig
from lerobot.scripts import lerobot_record
from lerobot.scripts.lerobot_record import record_loop
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.utils.feature_utils import combine_feature_dicts, hw_to_dataset_features

import aiorecord
from aiorecord.lerobot import AsyncLeRobotDataset, enable_async_saving
from aiorecord.lerobot.record import SavingFlags, parse_flags, recording_with, run

FPS = 30
MOTORS = ("shoulder.pos", "gripper.pos")


@RobotConfig.register_subclass("dropin_robot")
@dataclass
class DropinRobotConfig(RobotConfig):
    fail_after: int = -1
    cameras: dict[str, CameraConfig] = field(default_factory=dict)


@TeleoperatorConfig.register_subclass("dropin_teleop")
@dataclass
class DropinTeleopConfig(TeleoperatorConfig):
    pass


class Wired:
    """What a device of lerobot's needs that is connected at once."""

    is_calibrated = True
    action_features = dict.fromkeys(MOTORS, float)

    def __init__(self, config):
        super().__init__(config)
        self.config = config
        self.count = 0
        self._connected = False

    @property
    def is_connected(self):
        return self._connected

    def connect(self, calibrate=True):
        self._connected = True

    def disconnect(self):
        self._connected = False

    def calibrate(self):
        pass

    def configure(self):
        pass


class DropinRobot(Wired, Robot):
    config_class = DropinRobotConfig
    name = "dropin_robot"
    observation_features = Wired.action_features | {"front": (48, 64, 3)}

    def __init__(self, config):
        super().__init__(config)
        self.cameras = {"front": None}

    def get_observation(self):
        if self.count == self.config.fail_after:
            raise ConnectionError("The cable was pulled.")
        self.count += 1
        return dict.fromkeys(MOTORS, float(self.count)) | {
            "front": np.full((48, 64, 3), self.count % 256, np.uint8)
        }

    def send_action(self, action):
        return action


class DropinTeleop(Wired, Teleoperator):
    config_class = DropinTeleopConfig
    name = "dropin_teleop"
    feedback_features = {}  # noqa: RUF012

    def get_action(self):
        self.count += 1
        return dict.fromkeys(MOTORS, -float(self.count))

    def send_feedback(self, feedback):
        pass


class RecordLoop:
    """lerobot's own `record_loop`, over the two devices."""

    def __init__(self):
        self.robot, self.teleop = DropinRobot(DropinRobotConfig()), DropinTeleop(DropinTeleopConfig())
        self.features = combine_feature_dicts(
            hw_to_dataset_features(self.robot.action_features, "action"),
            hw_to_dataset_features(self.robot.observation_features, "observation"),
        )
        self.robot.connect()
        self.teleop.connect()

    def record(self, dataset):
        action, sent, observation = make_default_processors()
        record_loop(
            robot=self.robot,
            events={"exit_early": False},
            fps=FPS,
            teleop_action_processor=action,
            robot_action_processor=sent,
            robot_observation_processor=observation,
            teleop=self.teleop,
            dataset=dataset,
            control_time_s=0.2,
            single_task="Grab the cube",
        )


def command(root, *more, episodes=2):
    return [
        "--robot.type=dropin_robot",
        "--teleop.type=dropin_teleop",
        "--dataset.repo_id=test/set",
        f"--dataset.root={root}",
        "--dataset.single_task=Grab the cube",
        f"--dataset.num_episodes={episodes}",
        "--dataset.episode_time_s=0.3",
        "--dataset.reset_time_s=0",
        "--dataset.push_to_hub=false",
        "--dataset.rgb_encoder.vcodec=h264",
        "--play_sounds=false",
        *more,
    ]


def check(root, episodes):
    """Every row was recorded when the robot said so; frames == rows."""
    dataset = LeRobotDataset("test/set", root=root, video_backend="pyav")
    assert dataset.num_episodes == episodes
    lengths = [episode["length"] for episode in dataset.meta.episodes]
    assert all(2 <= length <= 12 for length in lengths)
    for index in range(len(dataset)):
        item = dataset[index]
        count = float(item["observation.state"][0])
        assert float(item["observation.images.front"].mean()) * 255 == pytest.approx(count % 256, abs=4)
        assert item["task"] == "Grab the cube"
    rows = rows_of(root)
    assert [row["index"] for row in rows] == list(range(sum(lengths)))
    return dataset


@pytest.fixture(autouse=True)
def logging_as_before():
    """lerobot's script sets the root logger up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("wrapped", [True, False])
def test_record_loop_and_video_encoding_manager(tmp_path, wrapped):
    loop = RecordLoop()
    if wrapped:
        dataset = LeRobotDataset.create(
            "test/set", FPS, loop.features, root=tmp_path / "set", image_writer_threads=4
        )
        enable_async_saving(dataset)
    else:
        dataset = AsyncLeRobotDataset.create("test/set", FPS, loop.features, root=tmp_path / "set")
    with VideoEncodingManager(dataset):
        for _ in range(2):
            loop.record(dataset)
            if not wrapped or not dataset.save_episode_async():
                dataset.save_episode()
    check(tmp_path / "set", 2)
    assert len(dataset) == len(rows_of(tmp_path / "set"))


@pytest.mark.parametrize(
    "more",
    [
        [
            "--dataset.async_saving=true",
            "--dataset.async_save_queue_size=5",
            "--dataset.async_save_timeout=300.0",
        ],
        ["--dataset.async_saving=false"],
        ["--dataset.streaming_encoding=true"],
    ],
)
def test_the_script_records_and_resumes(tmp_path, more):
    root = tmp_path / "set"
    no_stamp = "--dataset.no_stamp=true"
    assert run(command(root, no_stamp, *more)) == 0
    check(root, 2)
    assert run(command(root, no_stamp, "--resume=true", *more, episodes=1)) == 0
    dataset = check(root, 3)
    assert dataset.meta.robot_type == "dropin_robot"
    assert sorted(path.name for path in root.iterdir()) == ["data", "meta", "videos"]
    assert not [thread.name for thread in threading.enumerate() if "aiorecord" in thread.name]
    assert lerobot_record.LeRobotDataset is LeRobotDataset


def test_the_script_returns_a_dataset_that_can_be_used(tmp_path):
    """As lerobot's tests call it: with a config, the class replaced."""
    config = lerobot_record.RecordConfig(
        robot=DropinRobotConfig(),
        teleop=DropinTeleopConfig(),
        dataset=lerobot_record.DatasetRecordConfig(
            repo_id="test/set",
            single_task="Grab the cube",
            root=tmp_path / "set",
            num_episodes=1,
            episode_time_s=0.1,
            reset_time_s=0,
            push_to_hub=False,
        ),
        play_sounds=False,
    )
    lengths = []
    for episodes in (1, 2):
        with recording_with(lerobot_record) as opened:
            dataset = lerobot_record.record(config)
        assert opened == [dataset]
        assert dataset.fps == 30
        assert dataset.meta.total_episodes == dataset.num_episodes == episodes
        assert dataset.meta.total_frames == dataset.num_frames
        assert dataset.meta.total_tasks == 1
        lengths.append(dataset.num_frames)
        config.resume = True
    assert 1 <= lengths[0] < lengths[1]


def test_what_the_robot_breaks_off_is_kept(tmp_path):
    root = tmp_path / "set"
    with pytest.raises(ConnectionError, match="cable"):
        run(command(root, "--dataset.no_stamp=true", "--robot.fail_after=3", episodes=1))
    assert json.loads((root / "meta/info.json").read_text())["total_episodes"] == 0
    assert list(root.glob(".aiorecord/episodes/*/rows.arrows"))
    assert run(command(root, "--dataset.no_stamp=true", "--resume=true", episodes=1)) == 0
    dataset = check(root, 2)
    assert dataset.meta.episodes[0]["length"] == 3


def test_a_failed_save_is_the_exit_code(tmp_path, monkeypatch, capsys):
    from aiorecord.dataset.commit.writer import DatasetWriter

    commits = []
    original = DatasetWriter.commit

    def commit(self, folder, encoded, saving=None):
        commits.append(folder.id)
        if len(commits) == 1:
            raise aiorecord.StorageError("The disk is full.")
        return original(self, folder, encoded, saving)

    monkeypatch.setattr(DatasetWriter, "commit", commit)
    assert run(command(tmp_path / "set", "--dataset.no_stamp=true")) == 1
    assert "The disk is full." in capsys.readouterr().err
    check(tmp_path / "set", 1)


def test_flags():
    flags, rest = parse_flags(
        [
            "--dataset.fps=5",
            "--dataset.async_saving=False",
            "--dataset.async_save_timeout",
            "7",
            "--resume=true",
        ]
    )
    assert flags == SavingFlags(async_saving=False, async_save_timeout=7.0)
    assert rest == ["--dataset.fps=5", "--resume=true"]
    assert parse_flags([]) == (SavingFlags(), []) == (SavingFlags(True, 10, 300.0), [])
    for said in ("--dataset.async_saving", "--dataset.async-saving=true", "--async-saving=true"):
        assert parse_flags([said, "--dataset.async-save-queue-size=5", "--resume=true"]) == (
            SavingFlags(True, 5, 300.0),
            ["--resume=true"],
        )
    for bad in ("--dataset.async_saving=maybe", "--dataset.async_save_queue_size=x"):
        with pytest.raises(SystemExit):
            parse_flags([bad])


def test_a_queue_of_no_size_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(ValueError, match="queue"):
        run(command(tmp_path / "set", "--dataset.no_stamp=true", "--dataset.async_save_queue_size=0"))
    assert not (tmp_path / "set").exists()


def test_from_the_command_line(tmp_path):
    plugin = tmp_path / "lerobot_robot_dropin"
    plugin.mkdir()
    (plugin / "__init__.py").write_text("import test_dropin_scripts\n")
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, here, here.parent))),
    }
    program = [sys.executable, "-m", "aiorecord.lerobot.record"]
    found = "--robot.discover_packages_path=lerobot_robot_dropin"
    arguments = command(tmp_path / "set", "--dataset.no_stamp=true", found, episodes=1)
    done = subprocess.run(
        [*program, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    check(tmp_path / "set", 1)
    shown = subprocess.run([*program, "--help"], env=environment, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0
    assert "--dataset.async_save_queue_size" in shown.stdout
    assert "--dataset.num_episodes" in shown.stdout
