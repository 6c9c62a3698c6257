"""LeRobot's devices on the event loop: a robot and a teleoperator of one's own (lerobot's mock pattern)."""

import asyncio
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import FPS, H264, leaked, rows_of

from aiorecord.lerobot.dropin import download

pytest.importorskip("lerobot")
pytestmark = pytest.mark.lerobot
sys.path.insert(0, str(Path(__file__).parent / "bench"))

import lerobot_robot_bench as bench  # noqa: E402
from huggingface_hub import constants  # noqa: E402
from lerobot.configs import FeatureType, PipelineFeatureType, PolicyFeature  # noqa: E402
from lerobot.datasets import aggregate_pipeline_dataset_features, create_initial_features  # noqa: E402
from lerobot.processor import (  # noqa: E402
    ObservationProcessorStep,
    RobotActionProcessorStep,
    RobotProcessorPipeline,
    make_default_processors,
)
from lerobot.processor.converters import (  # noqa: E402
    observation_to_transition,
    robot_action_observation_to_transition,
    transition_to_observation,
    transition_to_robot_action,
)
from lerobot.robots import RobotConfig  # noqa: E402
from lerobot.robots import robot as robot_module  # noqa: E402
from lerobot.teleoperators import teleoperator as teleoperator_module  # noqa: E402
from lerobot.utils.feature_utils import combine_feature_dicts  # noqa: E402
from lerobot_robot_bench import BenchArm, BenchArmConfig, BenchHand, BenchHandConfig  # noqa: E402

import aiorecord  # noqa: E402
from aiorecord import ConfigError, FakeClock, Recorder, SourceError, StateError, control_step  # noqa: E402
from aiorecord.cli import main  # noqa: E402
from aiorecord.lerobot.drivers.lerobot_devices import make_devices  # noqa: E402
from aiorecord.lerobot.drivers.processors import Processors  # noqa: E402
from aiorecord.lerobot.dropin.download import download_episode  # noqa: E402
from aiorecord.robots import ReplayTeleoperator, SimRobot, SimRobotConfig, SimTeleoperator  # noqa: E402
from aiorecord.session import SessionPlan  # noqa: E402


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    bench.CALLS.clear()
    bench.HOOKS.clear()
    monkeypatch.setattr(robot_module, "HF_LEROBOT_CALIBRATION", tmp_path / "calibration")
    monkeypatch.setattr(teleoperator_module, "HF_LEROBOT_CALIBRATION", tmp_path / "calibration")


DISCONNECTED = ["robot.disconnect", "teleop.disconnect"]
SIX = [
    f"{joint}.pos"
    for joint in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
]


def called(kind=""):
    return [name for name, _ in bench.CALLS if name.startswith(kind)]


def flags(root, **more):
    given = {
        "robot.type": "bench_arm",
        "teleop.type": "bench_hand",
        "dataset.repo_id": "me/bench",
        "dataset.root": root,
        "dataset.single_task": "Wave",
        "dataset.num_episodes": 1,
        "dataset.episode_time_s": 0.5,
        "dataset.reset_time_s": 0,
        "dataset.rgb_encoder.vcodec": "h264",
        "play_sounds": "false",
        "encode_workers": 1,
    } | {name.replace("__", "."): value for name, value in more.items()}
    return ["record", *(f"--{name}={value}" for name, value in given.items())]


def test_a_plugin_is_recorded_and_the_features_are_lerobots(tmp_path, capsys, steady_clock):
    assert main(flags(tmp_path / "set")) == 0, capsys.readouterr().err
    rows = rows_of(tmp_path / "set")
    assert len(rows) == 15
    # The robot clips to 50; what it sent is what it sees next, what was asked for is recorded.
    for n, row in enumerate(rows, 1):
        assert row["action"] == [n, 10 * n, -n]
    for n, row in enumerate(rows[1:], 1):
        assert row["observation.state"] == [n, min(50, 10 * n), -n]
    # The teleoperator first, so that the robot does not wait idle (lerobot's order).
    order = [name for name in called() if "connect" in name]
    assert order[:2] == ["teleop.connect", "robot.connect"]
    assert sorted(order[2:]) == DISCONNECTED
    turn = ["robot.get_observation", "teleop.get_action", "robot.send_action"]
    assert [name for name in called() if "connect" not in name] == turn * len(rows)
    # Every call of a device in one thread of its own, and not in the loop's.
    for kind in ("robot", "teleop"):
        threads = {thread for name, thread in bench.CALLS if name.startswith(kind)}
        assert len(threads) == 1
        assert threads.pop().startswith(f"aiorecord-{kind}-bench_")
    assert leaked_threads() == set()


def leaked_threads():
    return {
        t.name for t in threading.enumerate() if t.name.startswith(("aiorecord-robot", "aiorecord-teleop"))
    }


@pytest.mark.parametrize("use_videos", [True, False])
def test_features_equal_those_of_lerobots_record_script(use_videos):
    robot = BenchArm(BenchArmConfig())
    teleop_pipeline, _, observation_pipeline = make_default_processors()
    theirs = combine_feature_dicts(
        aggregate_pipeline_dataset_features(
            teleop_pipeline, create_initial_features(action=robot.action_features), use_videos=use_videos
        ),
        aggregate_pipeline_dataset_features(
            observation_pipeline,
            create_initial_features(observation=robot.observation_features),
            use_videos=use_videos,
        ),
    )
    ours = make_devices(robot, BenchHandConfig(), use_videos=use_videos)
    assert ours.features == theirs
    assert list(ours.features) == list(theirs)


def test_record_sent_action(tmp_path, capsys, steady_clock):
    assert main(flags(tmp_path / "set", record_sent_action="true")) == 0, capsys.readouterr().err
    rows = rows_of(tmp_path / "set")
    assert len(rows) == 15
    for n, row in enumerate(rows, 1):
        assert row["action"] == [n, min(50, 10 * n), -n]
    assert called("robot.send_action") == ["robot.send_action"] * len(rows)


@dataclass
class Scale(RobotActionProcessorStep):
    """Multiplies, and renames, so that features change too."""

    factor: float = 2.0
    prefix: str = ""
    seen: list | None = None

    def action(self, action):
        if self.seen is not None:
            self.seen.append(self.transition["observation"])
        return {self.prefix + name: self.factor * value for name, value in action.items()}

    def transform_features(self, features):
        actions = features[PipelineFeatureType.ACTION]
        for name in list(actions):
            actions.pop(name)
            actions[self.prefix + name] = PolicyFeature(type=FeatureType.ACTION, shape=(1,))
        return features


@dataclass
class Strip(RobotActionProcessorStep):
    prefix: str = ""

    def action(self, action):
        return {name.removeprefix(self.prefix): value for name, value in action.items()}

    def transform_features(self, features):
        return features


@dataclass
class AddSum(ObservationProcessorStep):
    def observation(self, observation):
        return {**observation, "sum.pos": sum(observation[name] for name in bench.JOINTS)}

    def transform_features(self, features):
        features[PipelineFeatureType.OBSERVATION]["sum.pos"] = float
        return features


def action_pipeline(*steps):
    return RobotProcessorPipeline(
        steps=list(steps),
        to_transition=robot_action_observation_to_transition,
        to_output=transition_to_robot_action,
    )


def observation_pipeline(*steps):
    return RobotProcessorPipeline(
        steps=list(steps), to_transition=observation_to_transition, to_output=transition_to_observation
    )


async def frames_of(devices, turns=3):
    """Frames of a few turns; the devices are disconnected after."""
    frames = []
    await devices.teleop.connect()
    await devices.robot.connect()
    try:
        for _ in range(turns):
            frames.append(await control_step(devices.robot, devices.teleop, devices.features))
    finally:
        await devices.robot.disconnect()
        await devices.teleop.disconnect()
    return frames


async def test_the_pipelines_stand_where_lerobot_has_them():
    seen = []
    processors = Processors(
        teleop_action=action_pipeline(Scale(2.0, "ee.", seen)),
        robot_action=action_pipeline(Strip("ee.")),
        robot_observation=observation_pipeline(AddSum()),
    )
    robot = BenchArm(BenchArmConfig(limit=1000))
    devices = make_devices(robot, BenchHand(BenchHandConfig()), processors=processors)
    assert devices.features["action"]["names"] == ["ee.pan.pos", "ee.lift.pos", "ee.grip.pos"]
    assert devices.features["observation.state"]["names"] == [*bench.JOINTS, "sum.pos"]
    frames = await frames_of(devices)
    assert frames[2]["action"].tolist() == [6, 60, -6]  # what is recorded: after the teleop pipeline
    assert robot.joints == {
        "pan.pos": 6,
        "lift.pos": 60,
        "grip.pos": -6,
    }  # what is sent: after the robot pipeline
    assert frames[2]["observation.state"].tolist() == [4, 40, -4, 40]
    assert all(
        "sum.pos" not in observation for observation in seen
    )  # action pipelines get the raw observation
    assert all("eye" in observation for observation in seen)

    sent = make_devices(
        BenchArm(BenchArmConfig()),
        BenchHand(BenchHandConfig()),
        processors=processors,
        record_sent_action=True,
    )
    assert sent.features["action"]["names"] == list(bench.JOINTS)  # the robot's, which no pipeline renames
    assert (await frames_of(sent))[2]["action"].tolist() == [6, 50, -6]


def test_pipelines_that_are_none():
    with pytest.raises(ConfigError, match="robot_action"):
        make_devices(BenchArmConfig(), BenchHandConfig(), processors=Processors(robot_action=lambda x: x))


@pytest.mark.parametrize("first", [True, False])
async def test_feedback_goes_where_lerobot_sends_it(monkeypatch, first):
    monkeypatch.setattr(BenchArm, "name", "unitree_g1")
    hand = BenchHand(BenchHandConfig())
    await frames_of(make_devices(BenchArm(BenchArmConfig()), hand, feedback_first=first), turns=2)
    turn = (
        ["teleop.send_feedback", "teleop.get_action"]
        if first
        else ["teleop.get_action", "teleop.send_feedback"]
    )
    assert called("teleop.")[1:-1] == turn * 2
    assert [set(feedback) for feedback in hand.feedback] == [{*bench.JOINTS, "eye"}] * 2


async def test_no_feedback_elsewhere():
    hand = BenchHand(BenchHandConfig())
    await frames_of(make_devices(BenchArm(BenchArmConfig()), hand))
    assert hand.feedback == []


class LeKiwiParts:
    """LeKiwi's client without its network, with a leader and a keyboard that need no hardware."""

    def __init__(self, monkeypatch):
        pytest.importorskip("zmq")
        from lerobot.robots.lekiwi import LeKiwiClient, LeKiwiClientConfig
        from lerobot.teleoperators.keyboard import KeyboardTeleop, KeyboardTeleopConfig, teleop_keyboard
        from lerobot.teleoperators.so_leader import SO100Leader

        class Client(LeKiwiClient):
            def connect(self):
                self._is_connected = True

            def disconnect(self):
                self._is_connected = False

            def get_observation(self):
                return {**dict.fromkeys(self._state_ft, 1.0), "observation.state": np.ones(9, np.float32)}

            def send_action(self, action):
                sent.append(dict(action))
                return action

        class Leader(SO100Leader):
            is_connected = True

            def __init__(self):
                self.id = "leader"

            def connect(self):
                pass

            disconnect = connect

            def get_action(self):
                return dict.fromkeys(SIX, 7.0)

        class Keyboard(KeyboardTeleop):
            is_connected = True

            def connect(self):
                pass

            disconnect = connect

            def get_action(self):
                return {"w": None, "r": None}

        monkeypatch.setattr(teleop_keyboard, "require_package", lambda *_, **__: None)
        sent = self.sent = []
        self.robot = Client(LeKiwiClientConfig(remote_ip="127.0.0.1", cameras={}))
        self.leader = Leader()
        self.keyboard = Keyboard(KeyboardTeleopConfig())


@pytest.mark.parametrize("swapped", [True, False])
async def test_lekiwis_arm_and_keyboard(monkeypatch, swapped):
    parts = LeKiwiParts(monkeypatch)
    teleops = [parts.keyboard, parts.leader] if swapped else [parts.leader, parts.keyboard]
    devices = make_devices(parts.robot, teleops)
    frames = await frames_of(devices, turns=1)
    names = devices.features["action"]["names"]
    action = dict(zip(names, frames[0]["action"].tolist(), strict=True))
    assert action["arm_gripper.pos"] == 7
    assert action["x.vel"] == pytest.approx(0.2)  # forward, one speed up
    assert parts.sent[0]["x.vel"] == pytest.approx(0.2)
    assert devices.teleop.name == "so_leader+keyboard"
    assert frames[0]["observation.state"].tolist() == [1] * 9


def test_several_teleoperators_are_lekiwis(monkeypatch):
    parts = LeKiwiParts(monkeypatch)
    for robot, teleops in (
        (BenchArm(BenchArmConfig()), [parts.leader, parts.keyboard]),
        (parts.robot, [parts.leader, parts.leader]),
        (parts.robot, [parts.leader, parts.keyboard, parts.keyboard]),
    ):
        with pytest.raises(ConfigError, match="lekiwi_client"):
            make_devices(robot, teleops)
    with pytest.raises(ConfigError, match="not a lerobot teleoperator"):
        make_devices(parts.robot, [parts.leader, SimTeleoperator()])


async def test_own_and_lerobots_devices_mix():
    """A lerobot robot under a replayed teleoperator, and a lerobot leader over the simulated arm."""

    class Three(SimTeleoperator):
        @property
        def action_features(self):
            return {"action": {"dtype": "float32", "shape": (3,), "names": list(reversed(bench.JOINTS))}}

        async def get_action(self):
            return {"action": np.array([3, 2, 1], np.float32)}

    robot = BenchArm(BenchArmConfig())
    frames = await frames_of(make_devices(robot, Three()), turns=1)
    assert robot.joints == {"pan.pos": 1, "lift.pos": 2, "grip.pos": 3}
    assert frames[0]["action"].tolist() == [3, 2, 1]

    with pytest.raises(ConfigError, match=r"shoulder_pan\.pos.*takes pan\.pos"):
        make_devices(robot, ReplayTeleoperator())

    class Six(BenchHand):
        @property
        def action_features(self):
            return dict.fromkeys(SIX, float)

        def get_action(self):
            return dict.fromkeys(SIX, 5.0)

    devices = make_devices(SimRobot(SimRobotConfig(cameras={})), Six(BenchHandConfig()))
    assert (await frames_of(devices, turns=1))[0]["action"].tolist() == [5] * 6


async def test_a_robot_alone():
    devices = make_devices(BenchArmConfig())
    assert devices.teleop is None
    assert devices.features["action"]["names"] == list(bench.JOINTS)

    async def run():
        await devices.robot.connect()
        await devices.robot.get_observation()
        sent = await devices.robot.send_action({"action": np.array([1, 2, 99], np.float32)})
        with pytest.raises(SourceError, match="2 numbers, the robot takes 3"):
            await devices.robot.send_action({"action": np.zeros(2)})
        await devices.robot.disconnect()
        return sent

    assert await run() == {"pan.pos": 1, "lift.pos": 2, "grip.pos": 50}


@pytest.mark.parametrize("kind", ["robot", "teleop"])
def test_a_driver_that_fails_in_connect(tmp_path, capsys, kind):
    assert main(flags(tmp_path / "set", **{f"{kind}.fail_in": "connect", f"{kind}.at": 1})) == 1
    err = capsys.readouterr().err
    assert "failed in connect(): OSError: no answer in connect" in err
    assert "Traceback" not in err
    assert not (tmp_path / "set").exists()
    # The one that was connected is let go of; the one that was not is asked too, and refuses.
    assert ("teleop.disconnect" in called()) == (kind == "robot")
    assert leaked_threads() == set()


AT_ONCE = {"on_source_error": "raise", "source_retries": 0}
"""What the driver raises ends the recording."""


@pytest.mark.parametrize("method", ["get_observation", "send_action", "get_action"])
def test_a_driver_that_fails_while_recording(tmp_path, capsys, method):
    kind = "teleop" if method == "get_action" else "robot"
    root = tmp_path / "set"
    assert main(flags(root, **{f"{kind}.fail_in": method, f"{kind}.at": 8, **AT_ONCE})) == 1
    captured = capsys.readouterr()
    assert f"failed in {method}(): OSError: no answer in {method}" in captured.err
    assert sorted(called()[-2:]) == DISCONNECTED
    # What was recorded until then waits in staging, and is finished by `aiorecord recover`.
    assert main(["recover", str(root)]) in (0, 3)
    assert len(rows_of(root)) == 7


@pytest.mark.parametrize("method", ["get_observation", "send_action", "get_action"])
def test_a_driver_that_fails_for_a_while_costs_no_frame(tmp_path, capsys, steady_clock, method):
    kind = "teleop" if method == "get_action" else "robot"
    root = tmp_path / "set"
    assert main(flags(root, **{f"{kind}.fail_in": method, f"{kind}.at": 8})) == 0
    assert "held in 8 of 15 frames" in capsys.readouterr().out
    assert len(rows_of(root)) == 15


def test_a_driver_that_fails_in_disconnect(tmp_path, capsys, steady_clock):
    assert main(flags(tmp_path / "set", **{"robot.fail_in": "disconnect", "robot.at": 1})) == 1
    assert "failed in disconnect(): OSError" in capsys.readouterr().err
    assert {*DISCONNECTED} <= {*called()}
    assert len(rows_of(tmp_path / "set")) == 15


def test_both_errors_are_told(tmp_path, capsys, monkeypatch):
    """The robot fails, and then the disconnecting, because the port is gone: the first one is the error."""

    def fail(self):
        self._connected = False
        raise OSError("port is gone")

    monkeypatch.setattr(BenchArm, "disconnect", fail)
    assert main(flags(tmp_path / "set", **{"robot.fail_in": "get_observation", **AT_ONCE})) == 1
    err = capsys.readouterr().err
    assert err.startswith("aiorecord: The robot 'bench_arm' failed in get_observation()")
    assert "while disconnecting: The robot 'bench_arm' failed in disconnect(): OSError: port is gone" in err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("command", ["record", "teleoperate"])
def test_ctrl_c_ends_in_order(tmp_path, capsys, command):
    bench.HOOKS["robot.send_action"] = lambda n: n == 6 and os.kill(os.getpid(), signal.SIGINT)
    root = tmp_path / "set"
    arguments = flags(root, **{"dataset.episode_time_s": 60})
    if command == "teleoperate":
        arguments = ["teleoperate", "--robot.type=bench_arm", "--teleop.type=bench_hand"]
    assert main(arguments) == 0, capsys.readouterr().err
    assert sorted(called()[-2:]) == DISCONNECTED
    assert leaked_threads() == set()
    if command == "record":
        assert 6 <= len(rows_of(root)) < 60


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("command", ["record", "teleoperate"])
def test_ctrl_c_while_a_driver_connects(tmp_path, command):
    """The driver waits without end, as a calibration does for the operator; then it is interrupted."""
    interrupted = []

    def wait_for_the_operator(count):
        os.kill(os.getpid(), signal.SIGINT)
        try:
            while True:
                threading.Event().wait(0.01)
        except KeyboardInterrupt:
            interrupted.append(True)
            raise

    bench.HOOKS["robot.connect"] = wait_for_the_operator
    arguments = flags(tmp_path / "set")
    if command == "teleoperate":
        arguments = ["teleoperate", "--robot.type=bench_arm", "--teleop.type=bench_hand"]
    assert main(arguments) == (130 if command == "record" else 0)
    assert interrupted
    assert sorted(called()[-2:]) == DISCONNECTED
    assert not (tmp_path / "set").exists()
    assert leaked_threads() == set()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
async def test_a_calibration_asks_on_the_terminal_and_can_be_left(tmp_path, monkeypatch):
    """Questions come before the keys are read; an answer is the driver's, and Ctrl-C ends the waiting."""
    import pty

    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "r", closefd=True) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        robot, hand = BenchArm(BenchArmConfig(ask=True)), BenchHand(BenchHandConfig(ask=True))
        devices = make_devices(robot, hand)

        async def answered():
            os.write(controller, b"no\n")
            await devices.teleop.connect()
            connecting = asyncio.create_task(devices.robot.connect())
            while "robot.calibrate" not in called():
                await asyncio.sleep(0.001)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await devices.robot.disconnect()
            await devices.teleop.disconnect()

        await answered()
    os.close(controller)
    assert hand.answer == "no"
    assert not hasattr(robot, "answer")
    assert sorted(called()[-2:]) == DISCONNECTED
    assert input.__module__ == "builtins" or input.__name__ == "input"  # the real one is back


def test_a_slow_call_is_reported_with_its_name_and_duration(tmp_path, capsys):
    more = {
        "slow_call_s": 0.1,
        "robot.slow_in": "get_observation",
        "robot.slow_s": 0.4,
        "dataset.episode_time_s": 1.5,
    }
    assert main(flags(tmp_path / "set", **more)) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("slow: ")]
    assert len(lines) == 1
    assert lines[0].startswith("slow: robot bench_arm: get_observation() took 0.4")


async def test_the_loop_lives_while_a_driver_blocks(tmp_path):
    """Other tasks run, and an episode that ended is saved, while a driver call blocks."""
    release = threading.Event()
    bench.HOOKS["robot.get_observation"] = lambda n: n == 4 and release.wait(30)
    devices = make_devices(BenchArmConfig(), BenchHandConfig())

    async def run():
        async with Recorder(
            "me/bench", root=tmp_path / "set", fps=FPS, features=devices.features, rgb_encoder=H264
        ) as recorder:
            await devices.teleop.connect()
            await devices.robot.connect()
            save = await recorder.record(devices.robot, devices.teleop, seconds=0.1, task="x")
            blocked = asyncio.create_task(devices.robot.get_observation())
            result = await save  # committed behind the blocked driver
            assert not blocked.done()
            release.set()
            await blocked
            await devices.robot.disconnect()
            await devices.teleop.disconnect()
        return result, leaked()

    result, left = await run()
    assert result.success
    assert result.length == 3
    assert left == (set(), set())


async def test_a_session_of_the_python_api(tmp_path):
    devices = make_devices(BenchArmConfig(), BenchHandConfig())

    async def run():
        async with Recorder(
            "me/bench",
            root=tmp_path / "set",
            fps=FPS,
            features=devices.features,
            robot_type=devices.robot.name,
            rgb_encoder=H264,
            clock=FakeClock(auto=True),
        ) as recorder:
            plan = SessionPlan("Wave", num_episodes=2, episode_time_s=0.5, reset_time_s=0.2)
            records = await aiorecord.Session(recorder, devices.robot, devices.teleop, plan).run()
        return [record.frames for record in records]

    assert await run() == [15, 15]


async def test_calls_at_the_wrong_time():
    devices = make_devices(BenchArmConfig(), BenchHandConfig())

    async def run():
        with pytest.raises(StateError, match="not connected"):
            await devices.robot.get_observation()
        with pytest.raises(StateError, match="not connected"):
            await devices.teleop.get_action()
        await devices.robot.disconnect()  # nothing to do
        await devices.teleop.disconnect()

    await run()
    assert called() == []


def test_a_device_that_cannot_be_made():
    @RobotConfig.register_subclass("ghost")
    @dataclass
    class GhostConfig(RobotConfig):
        """Of a driver that is nowhere."""

    with pytest.raises(ConfigError, match="The ghost cannot be made"):
        make_devices(GhostConfig())
    with pytest.raises(ConfigError, match="call_timeout_s"):
        make_devices(BenchArmConfig(), call_timeout_s=0)


def test_replay_downloads_what_is_not_here(tmp_path, capsys, monkeypatch):
    """lerobot fetches the episode; offline that is said in a line."""
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "home"))
    assert main(flags(tmp_path / "set")) == 0
    assert download_episode("me/bench", tmp_path / "set", 0) == tmp_path / "set"
    capsys.readouterr()
    arguments = ["replay", "--robot.type=bench_arm", "--dataset.episode=0", "--play_sounds=false"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main([*arguments, "--dataset.repo_id=me/nothing-here"]) == 2
    err = capsys.readouterr().err
    assert "me/nothing-here is not on this machine and cannot be downloaded" in err
    assert "Traceback" not in err

    bench.CALLS.clear()
    monkeypatch.setattr(download, "download_episode", lambda *_: tmp_path / "set")
    assert main([*arguments, "--dataset.repo_id=me/bench"]) == 0
    length = len(rows_of(tmp_path / "set"))
    assert f"played {length} of {length}" in capsys.readouterr().out
    assert called("robot.send_action") == ["robot.send_action"] * length
    assert called()[-1] == "robot.disconnect"
