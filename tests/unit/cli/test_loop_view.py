"""What `teleoperate` and `replay` show while they run, and that their keys are obeyed."""

import asyncio
import contextlib
import os
import re
import sys

import numpy as np
import pytest
from helpers import rows_of

from aiorecord import Recorder, dataset_features
from aiorecord.cli import keys, loop_view, main
from aiorecord.cli.commands import replay, teleoperate
from aiorecord.cli.commands.teleoperate import named_numbers
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleoperator
from aiorecord.session import Command

SIM = ["--robot.type=sim", "--robot.cameras={}", "--teleop.type=sim", "--display=plain"]


@contextlib.contextmanager
def pressed(on_command, on_terminal):
    asyncio.get_running_loop().call_later(0.1, on_command, Command.STOP)
    yield


@pytest.fixture
async def dataset(tmp_path):
    root = tmp_path / "set"

    robot, teleop = SimRobot(SimRobotConfig(cameras={})), SimTeleoperator()
    features = dataset_features(robot.observation_features, teleop.action_features)
    async with Recorder("t/r", root=root, fps=30, features=features) as recorder:
        await robot.connect()
        await teleop.connect()
        await (await recorder.record(robot, teleop, seconds=0.4))
    return root


def test_q_stops_teleoperation(monkeypatch, capsys):
    monkeypatch.setattr(teleoperate, "reading_keys", pressed)
    assert main(["teleoperate", *SIM]) == 0
    assert "teleoperated" in capsys.readouterr().out


def test_q_stops_a_replay_and_its_progress_is_shown(monkeypatch, capsys, dataset):
    flags = ["--robot.type=sim", "--robot.cameras={}", "--dataset.repo_id=t/r", f"--dataset.root={dataset}"]
    monkeypatch.setattr(replay, "reading_keys", pressed)
    total = len(rows_of(dataset))
    assert main(["replay", *flags, "--dataset.episode=0", "--play_sounds=false"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"\[replaying\]  episode 0, \d+ of {total} actions, 0 s left, at worst .* ms late", out)
    played = int(re.search(rf"played (\d+) of {total} actions of episode 0", out)[1])
    assert played < total


def test_joints_are_called_by_their_names():
    action = {"action": np.array([1, 2], np.float32), "note": "x", "force": np.array([3.0, 4.0]), "grip": 5}
    features = {"action": {"names": ["pan.pos", "lift.pos"]}, "force": {"names": ["x", "y", "z"]}}
    assert named_numbers(action, features) == [
        *(("pan.pos", 1.0), ("lift.pos", 2.0), ("force[0]", 3.0), ("force[1]", 4.0), ("grip", 5.0)),
    ]


def test_many_joints_fit_a_low_terminal():
    view = loop_view.LoopView("plain", "teleoperating")
    values = [(f"joint{n}.pos", float(n)) for n in range(30)]
    for width, height in ((40, 10), (80, 24), (120, 30)):
        lines = view._lines(["30.0 Hz of 30"], 0.5, values, width, height)
        assert len(lines) <= height
        assert all(line.cell_len <= width for line in lines)
        assert "Ctrl-C stop" in lines[-1].plain or "q stop" in lines[-1].plain


def test_windows_is_told_that_its_keys_do_not_work(monkeypatch):
    assert keys.keys_notes() == []
    monkeypatch.setattr(keys.sys, "platform", "win32")
    assert "do not work on Windows" in keys.keys_notes()[0]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
async def test_the_view_is_told_when_the_terminal_is_another_s_and_when_it_comes_back(monkeypatch):
    import pty

    main_end, terminal = pty.openpty()
    has, told = [True], []
    monkeypatch.setattr(keys._TerminalKeys, "_in_foreground", lambda self: has[0])

    async def run():
        reading = keys._TerminalKeys(terminal, lambda command: None, told.append)
        reading.begin()
        assert told == []  # it had it from the start, and what is on the screen stays
        has[0] = False
        reading._look()
        has[0] = True
        reading._look()
        assert told == [False, True]
        reading._continued()  # Ctrl-Z and fg: it was stopped while the shell had the terminal
        assert told == [False, True, True]
        reading.end()

    await run()
    os.close(main_end)
    os.close(terminal)
