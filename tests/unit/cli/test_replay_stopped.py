"""A replay that is stopped says what was played, and how to go on."""

import asyncio
import os
import re
import signal
import sys

import pytest
from helpers import FPS, H264

from aiorecord import Recorder
from aiorecord.cli import main
from aiorecord.cli.commands import replay
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleoperator, dataset_features

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
ARM = SimRobot(SimRobotConfig(cameras={}))
FEATURES = dataset_features(ARM.observation_features, SimTeleoperator().action_features)


@pytest.fixture
def command(tmp_path):
    async def record():
        async with Recorder(
            "me/x", root=tmp_path / "set", fps=FPS, features=FEATURES, rgb_encoder=H264
        ) as it:
            async with it.episode("x") as episode:
                for _ in range(200):
                    episode.add_frame({"observation.state": [0.0] * 6, "action": [0.0] * 6})

    asyncio.run(record())
    flags = [f"--dataset.root={tmp_path / 'set'}", "--dataset.repo_id=me/x", "--dataset.episode=0"]
    return ["replay", "--robot.type=sim", "--robot.cameras={}", "--play_sounds=false", *flags]


def test_after_some_actions(command, monkeypatch, capsys):
    sent = []
    send = SimRobot.send_action

    async def send_action(self, action):
        sent.append(action)
        if len(sent) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return await send(self, action)

    monkeypatch.setattr(SimRobot, "send_action", send_action)
    assert main(command) == 0
    out = capsys.readouterr().out
    played = re.search(r"Stopped: played (\d+) of 200 actions of episode 0: ", out)
    assert int(played[1]) == len(sent) < 200
    assert out.index("Stopping: the robot is being disconnected.") < out.index("Stopped:")
    assert out.rstrip().endswith(replay.AGAIN)


def test_before_the_first(command, monkeypatch, capsys):
    async def connect(self):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(SimRobot, "connect", connect)
    assert main(command) == 0
    out = capsys.readouterr().out
    # It depends on whether signals are watched already by then.
    assert out.startswith(("Stopped: played 0 of 200 actions", "Stopped before anything was played."))
    assert out.rstrip().endswith(replay.AGAIN)


def test_while_the_dataset_is_read(command, monkeypatch, capsys):
    def read(dataset):
        raise KeyboardInterrupt  # what Ctrl-C is before anything runs that could be stopped in order

    monkeypatch.setattr(replay, "_read_actions", read)
    assert main(command) == 0
    assert capsys.readouterr().out == f"Stopped before anything was played. {replay.AGAIN}\n"
