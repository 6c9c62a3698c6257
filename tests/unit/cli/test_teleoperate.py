"""`aiorecord teleoperate` and `replay` with aiorecord's own devices, and what is said without lerobot."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import FEATURES, FPS, H264, leaked, make_frame, record_episode, rows_of

from aiorecord import ConfigError, Recorder, SourceError, StateError, control_step
from aiorecord.cli import main
from aiorecord.cli.commands import replay, teleoperate
from aiorecord.cli.devices import CommandDevices, print_error
from aiorecord.cli.record_config import SimRobotChoice, SimTeleopChoice
from aiorecord.lerobot.drivers import device_flags as lerobot_flags
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleoperator, dataset_features
from aiorecord.robots.connecting import connected
from aiorecord.robots.guarding.sent_action import recording_sent_action
from aiorecord.system.installation import install_hint

SIM = ["--robot.type=sim", "--robot.cameras={}", "--teleop.type=sim"]


def recorded(root, length=12, features=FEATURES):
    """A dataset of one episode."""

    async def record():
        async with Recorder("me/set", root=root, fps=FPS, features=features, rgb_encoder=H264) as recorder:
            if features is FEATURES:
                await record_episode(recorder, length)
                return
            robot, teleop = SimRobot(SimRobotConfig(cameras={})), SimTeleoperator()
            await robot.connect()
            await teleop.connect()
            async with recorder.episode("Test") as episode:
                for _ in range(length):
                    episode.add_frame(await control_step(robot, teleop, recorder.features))

    asyncio.run(record())
    return [
        f"--dataset.root={root}",
        "--dataset.repo_id=me/set",
        "--dataset.episode=0",
        "--play_sounds=false",
    ]


def sim_features():
    return dataset_features(
        SimRobot(SimRobotConfig(cameras={})).observation_features, SimTeleoperator().action_features
    )


def test_teleoperate_runs_for_its_time(capsys):
    assert main(["teleoperate", *SIM, "--teleop_time_s=0.3", "--fps=50"]) == 0
    out = capsys.readouterr().out
    turns, missed = map(int, re.search(r"(\d+) turns.* (\d+) missed", out).groups())
    assert turns + missed == 15
    assert out.startswith("[teleoperating]")


def test_teleoperate_shows_nothing_when_told(capsys):
    assert main(["teleoperate", *SIM, "--teleop_time_s=0.1", "--display=none"]) == 0
    assert capsys.readouterr().out == ""


def test_the_live_view_has_every_joint(capsys, monkeypatch):
    """Drawn once at least: the loop has time left."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    assert main(["teleoperate", *SIM, "--teleop_time_s=0.4", "--fps=10", "--display=live"]) == 0
    out = capsys.readouterr().out
    assert "gripper.pos" in out
    assert "action" not in out


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("command", ["teleoperate", "replay"])
def test_ctrl_c_stops_and_disconnects(tmp_path, capsys, monkeypatch, command):
    flags = SIM if command == "teleoperate" else [*SIM[:2], *recorded(tmp_path, 300, sim_features())]
    disconnected, sent = [], []
    real_send, real_disconnect = SimRobot.send_action, SimRobot.disconnect

    async def send_action(self, action):
        sent.append(action)
        if len(sent) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return await real_send(self, action)

    async def disconnect(self):
        disconnected.append(True)
        await real_disconnect(self)

    monkeypatch.setattr(SimRobot, "send_action", send_action)
    monkeypatch.setattr(SimRobot, "disconnect", disconnect)
    assert main([command, *flags]) == 0
    assert 3 <= len(sent) < 200
    assert disconnected


@pytest.mark.parametrize("where", ["connect", "get_observation", "send_action"])
def test_a_device_that_fails_is_disconnected_and_reported(capsys, monkeypatch, where):
    disconnected = []

    async def fail(self, *_):
        raise SourceError(f"gone in {where}", source="robot", call=where)

    async def disconnect(self):
        disconnected.append(type(self))

    monkeypatch.setattr(SimRobot, where, fail)
    monkeypatch.setattr(SimRobot, "disconnect", disconnect)
    monkeypatch.setattr(SimTeleoperator, "disconnect", disconnect)
    assert main(["teleoperate", *SIM]) == 1
    assert disconnected == [SimRobot, SimTeleoperator]
    assert f"gone in {where}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fps=0"], "fps"),
        (["--teleop_time_s=-1"], "teleop_time_s"),
        (["--display=loud"], "display"),
        (["--display_data=true", "--display_mode=tv"], "display_mode"),
        (["--bogus=1"], "--bogus"),
        (["--robot.type=nope"], "nope"),
    ],
)
def test_flags_of_teleoperate_that_cannot_work(capsys, flags, message):
    assert main(["teleoperate", *SIM, "--teleop_time_s=0.1", *flags]) == 2
    assert message in capsys.readouterr().err


def test_both_devices_are_needed(capsys):
    assert main(["teleoperate", "--robot.type=sim"]) == 2
    assert "teleop" in capsys.readouterr().err


def test_replay_sends_what_was_recorded(tmp_path, capsys, monkeypatch):
    root = tmp_path / "set"
    flags = recorded(root, 12, sim_features())
    sent = []
    real = SimRobot.send_action

    async def send_action(self, action):
        sent.append(await real(self, action))
        return sent[-1]

    monkeypatch.setattr(SimRobot, "send_action", send_action)
    assert main(["replay", "--robot.type=sim", "--robot.cameras={}", *flags]) == 0
    assert "played 12 of 12 actions" in capsys.readouterr().out
    actions = [row["action"] for row in rows_of(root)]
    np.testing.assert_allclose([s["action"] for s in sent], actions, rtol=1e-6)


def test_replay_refuses_what_is_not_for_the_robot(tmp_path, capsys):
    flags = recorded(tmp_path / "set")  # three numbers, named a, b and c
    assert main(["replay", "--robot.type=sim", *flags]) == 2
    err = capsys.readouterr().err
    assert "a, b, c" in err
    assert "shoulder_pan.pos" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset.episode=7"], "no episode 7"),
        (["--dataset.root=/nowhere"], "/nowhere"),
        (["--dataset.repo_id=../x"], "../x"),
        (["--dataset.episode=first"], "episode"),
        (["--teleop.type=sim"], "teleop"),
    ],
)
def test_flags_of_replay_that_cannot_work(tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.setattr(lerobot_flags, "is_installed", lambda: False)  # so that nothing is downloaded
    base = recorded(tmp_path / "set", 3, sim_features())
    assert main(["replay", "--robot.type=sim", *base, *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["record", "teleoperate", "replay"])
def test_without_lerobot_its_types_are_refused_with_the_command_that_installs_it(
    capsys, monkeypatch, command
):
    monkeypatch.setattr(lerobot_flags, "is_installed", lambda: False)
    assert main([command, "--robot.type=so101_follower", "--robot.port=/dev/x"]) == 2
    err = capsys.readouterr().err
    assert "so101_follower" in err
    assert install_hint("lerobot") in err
    assert main([command, "--robot.discover_packages_path=mine", "--robot.type=sim"]) == 2
    assert install_hint("lerobot") in capsys.readouterr().err
    assert main([command, "--help"]) == 0
    assert install_hint("lerobot") in capsys.readouterr().out


def test_the_light_core_stays_light(tmp_path):
    """Neither the commands nor the room's own modules import lerobot, even where it is installed."""
    (tmp_path / "lerobot").mkdir()
    (tmp_path / "lerobot/__init__.py").write_text("raise SystemExit('lerobot was imported')")
    code = (
        "import sys, importlib\n"
        "for name in 'device_flags interrupt lerobot_devices processors release'.split():\n"
        "    importlib.import_module(f'aiorecord.lerobot.drivers.{name}')\n"
        "import aiorecord.lerobot.dropin.download\n"
        "from aiorecord.cli import main\n"
        f"code = main(['teleoperate', *{SIM!r}, '--teleop_time_s=0.1'])\n"
        "assert 'lerobot' not in sys.modules and 'torch' not in sys.modules\n"
        "sys.exit(code)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_types_a_command_line_asks_for(tmp_path):
    file = tmp_path / "record.yaml"
    file.write_text("robot: {type: from_file}\nteleop: {type: leader}\n")
    robot = tmp_path / "robot.yaml"
    robot.write_text("type: included\n")

    def asked(*argv):
        return lerobot_flags.asked_types(argv, ("robot", "teleop"))

    assert asked() == {}
    assert asked("--robot.type=a", "--teleop.type", "b") == {"robot": "a", "teleop": "b"}
    assert asked(f"--config_path={file}") == {"robot": "from_file", "teleop": "leader"}
    assert asked("--config_path", str(file), "--robot.type=a") == {"robot": "a", "teleop": "leader"}
    assert asked("--robot={type: inline, port: /dev/x}") == {"robot": "inline"}
    assert asked(f"--robot=include {robot}") == {"robot": "included"}
    assert asked("--robot={type: [", "--config_path=/nope.yaml") == {}
    file.write_text("- not a dict")
    assert asked(f"--config_path={file}") == {}
    file.write_text("{")
    assert asked(f"--config_path={file}", "--robot.type=a") == {"robot": "a"}
    assert asked("--robot.type") == {}


async def test_recording_what_was_sent():
    """The robot clips; its order of calls stays: observe, ask, send."""
    calls = []

    class Robot(SimRobot):
        async def get_observation(self):
            calls.append("observe")
            return await super().get_observation()

        async def send_action(self, action):
            calls.append("send")
            return await super().send_action(action)

    class Teleop(SimTeleoperator):
        async def get_action(self):
            calls.append("ask")
            return {"action": np.full(6, 1000, np.float32)}

    async def run():
        robot, teleop = recording_sent_action(Robot(SimRobotConfig(cameras={})), Teleop())
        features = dataset_features(robot.observation_features, teleop.action_features)
        with pytest.raises(StateError, match="not connected"):
            await teleop.get_action()
        await robot.connect()
        await teleop.connect()
        assert robot.is_connected
        assert teleop.is_connected
        frame = await control_step(robot, teleop, features)
        await robot.disconnect()
        await teleop.disconnect()
        assert (robot.name, teleop.name) == ("sim", "sim")
        return frame

    frame = await run()
    assert calls == ["observe", "ask", "send"]
    assert frame["action"].tolist() == [110, 100, 100, 100, 160, 100]


async def test_a_robot_that_does_not_say_what_it_sent():
    class Robot(SimRobot):
        async def send_action(self, action):
            return None

    robot, teleop = recording_sent_action(Robot(SimRobotConfig(cameras={})), SimTeleoperator())
    await robot.connect()
    await teleop.connect()
    with pytest.raises(SourceError, match="does not return the action"):
        await teleop.get_action()
    await robot.disconnect()
    await teleop.disconnect()


def test_record_sent_action_on_the_command_line(tmp_path):
    flags = ["--robot.type=sim", "--robot.cameras={}", "--teleop.type=sim", "--play_sounds=false"]
    dataset = ["--dataset.repo_id=me/x", f"--dataset.root={tmp_path / 'set'}", "--dataset.single_task=x"]
    times = ["--dataset.num_episodes=1", "--dataset.episode_time_s=0.3", "--dataset.reset_time_s=0"]
    assert main(["record", *flags, *dataset, *times, "--record_sent_action=true"]) == 0
    assert len(rows_of(tmp_path / "set")) == 9


async def test_disconnecting_goes_on_when_the_robot_fails(monkeypatch):
    done = []

    async def fail(self):
        raise SourceError("stuck", source="robot", call="disconnect")

    async def disconnect(self):
        done.append(True)

    monkeypatch.setattr(SimRobot, "disconnect", fail)
    monkeypatch.setattr(SimTeleoperator, "disconnect", disconnect)
    devices = CommandDevices(SimRobotChoice(cameras={}), SimTeleopChoice())
    with pytest.raises(SourceError, match="stuck"):
        async with connected(devices.robot, devices.teleop):
            pass
    assert done
    assert devices.slow_calls() == []


def test_an_error_on_top_of_another_is_said_with_it(capsys):
    with pytest.raises(SourceError) as raised:
        try:
            raise SourceError("the camera is gone", source="robot", call="get_observation") from OSError(
                "usb"
            )
        finally:
            raise SourceError("torque stays on", source="robot", call="disconnect") from OSError("port")
    print_error(raised.value)
    err = capsys.readouterr().err.splitlines()
    assert err == ["aiorecord: torque stays on", "  before that: the camera is gone"]


def test_flags_are_checked_before_anything_moves():
    with pytest.raises(ConfigError, match="fps"):
        teleoperate.check_flags(
            teleoperate.TeleoperateFlags(teleop=SimTeleopChoice(), robot=SimRobotChoice(), fps=0),
            terminal=False,
        )
    flags = teleoperate.TeleoperateFlags(teleop=SimTeleopChoice(), robot=SimRobotChoice(), fps=25)
    teleoperate.check_flags(flags, terminal=True)
    assert (flags.display, flags.robot.fps, flags.teleop.fps) == ("live", 25, 25)


def test_a_dataset_without_a_rate_or_actions(tmp_path, capsys):
    root = tmp_path / "set"
    flags = recorded(root, 3, sim_features())
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"fps": None}))
    assert main(["replay", "--robot.type=sim", *flags]) == 2
    assert "rate" in capsys.readouterr().err
    info["features"]["else"] = info["features"].pop("action")
    (root / "meta/info.json").write_text(json.dumps(info))
    assert replay.run(["--robot.type=sim", *flags]) == 2
    assert "'action'" in capsys.readouterr().err


async def test_nothing_is_left_running(tmp_path):
    async def run():
        flags = teleoperate.TeleoperateFlags(
            teleop=SimTeleopChoice(), robot=SimRobotChoice(cameras={}), teleop_time_s=0.1, display="none"
        )
        await teleoperate.TeleoperateCommand(flags).run()
        return leaked()

    assert await run() == (set(), set())
    assert make_frame(0)  # the helper is used by the datasets above
