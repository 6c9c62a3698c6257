"""The documented command lines of lerobot's arms, over servos and cameras faked at their lowest level.

What runs is lerobot's own drivers, motor buses and camera threads, and the Feetech SDK; fake are
`serial.Serial`, with an emulated chain of servos behind it, and `cv2.VideoCapture`.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import episodes_of, rows_of

for needed in ("lerobot", "serial", "scservo_sdk", "deepdiff", "cv2"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.lerobot
BENCH = Path(__file__).parent / "bench"
sys.path.insert(0, str(BENCH))

import bench_hardware as hardware  # noqa: E402
from lerobot.datasets import LeRobotDataset  # noqa: E402
from lerobot.robots import robot as robot_module  # noqa: E402
from lerobot.teleoperators import teleoperator as teleoperator_module  # noqa: E402

from aiorecord.cli import main  # noqa: E402

FOLLOWER, LEADER = "/dev/tty.follower", "/dev/tty.leader"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
CAMERAS = "{ front: {type: opencv, index_or_path: 0, width: 320, height: 240, fps: 30, warmup_s: 0}}"
OFF, ON = [0] * 6, [1] * 6


def calibrate(folder, *names):
    """Calibration files that agree with the fake servos."""
    values = {
        joint: {
            "id": i,
            "drive_mode": 0,
            "homing_offset": 0,
            "range_min": hardware.RANGE[0],
            "range_max": hardware.RANGE[1],
        }
        for i, joint in enumerate(JOINTS, 1)
    }
    for name in names:
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


@pytest.fixture(autouse=True)
def bench(tmp_path, monkeypatch):
    hardware.reset()
    hardware.install(monkeypatch.setattr)
    calibration = tmp_path / "calibration"
    calibrate(calibration, *(f"robots/so_follower/{name}" for name in ("black", "two_left", "two_right")))
    calibrate(calibration, *(f"teleoperators/so_leader/{name}" for name in ("blue", "two_left", "two_right")))
    monkeypatch.setattr(robot_module, "HF_LEROBOT_CALIBRATION", calibration)
    monkeypatch.setattr(teleoperator_module, "HF_LEROBOT_CALIBRATION", calibration)
    yield calibration
    hardware.reset()


def arms(kind="so101", cameras=CAMERAS):
    """The devices of the documented command lines (lerobot's docs: `il_robots`)."""
    return [
        f"--robot.type={kind}_follower",
        f"--robot.port={FOLLOWER}",
        "--robot.id=black",
        *([f"--robot.cameras={cameras}"] if cameras else []),
        f"--teleop.type={kind}_leader",
        f"--teleop.port={LEADER}",
        "--teleop.id=blue",
    ]


def dataset(root, episodes=1, seconds=0.5):
    return [
        "--dataset.repo_id=me/record-test",
        f"--dataset.root={root}",
        f"--dataset.num_episodes={episodes}",
        f"--dataset.episode_time_s={seconds}",
        "--dataset.reset_time_s=0",
        "--dataset.single_task=Grab the black cube",
        "--dataset.push_to_hub=false",
        "--dataset.rgb_encoder.vcodec=h264",
        "--play_sounds=false",
    ]


def happened(*event):
    return [e[:-1] for e in hardware.EVENTS if e[: len(event)] == event]


@pytest.mark.parametrize("kind", ["so100", "so101"])
def test_record(tmp_path, capsys, kind):
    root = tmp_path / "set"
    flags = ["--dataset.streaming_encoding=true", "--dataset.encoder_threads=2"]
    assert main(["record", *arms(kind), *dataset(root, episodes=2), *flags]) == 0, capsys.readouterr().err
    assert "--dataset.streaming_encoding has no effect" in capsys.readouterr().err
    lengths = [episode["length"] for episode in episodes_of(root)]
    assert len(lengths) == 2
    assert all(5 <= length <= 15 for length in lengths)  # a busy machine misses deadlines
    rows = rows_of(root)
    info = json.loads((root / "meta/info.json").read_text())
    assert info["robot_type"] == "so_follower"
    assert info["features"]["action"]["names"] == [f"{joint}.pos" for joint in JOINTS]
    # The follower is where the leader was one turn before.
    for before, after in pairwise(rows[2 : lengths[0] - 2]):
        np.testing.assert_allclose(after["observation.state"], before["action"], atol=0.2)
    assert np.ptp([row["action"][0] for row in rows[:15]]) > 1
    frame = LeRobotDataset("me/record-test", root=root, video_backend="pyav")[20]["observation.images.front"]
    assert frame.shape == (3, 240, 320)
    assert frame[2].mean() > 0.6  # blue came as blue
    # Torque off and everything closed, in the devices' own threads.
    assert (hardware.torque(FOLLOWER), hardware.torque(LEADER)) == (OFF, OFF)
    assert {e[1] for e in happened("close")} == {FOLLOWER, LEADER}
    assert happened("camera", "0")[-1] == ("camera", "0", "release")
    # Driver calls and camera times are in the quality record.
    lines = (root / "meta/aiorecord/episodes.jsonl").read_text().splitlines()
    for line, length in zip(lines, lengths, strict=True):
        quality = json.loads(line)
        assert quality["calls"]["robot.get_observation"]["count"] >= length
        assert quality["calls"]["teleop.get_action"]["p50_ms"] >= 0
        camera = quality["cameras"]["observation.images.front"]
        assert (camera["captured"], camera["lost"]) == (length, 0)
        assert 0 <= camera["stale"] <= camera["repeated"] < length
    threads = {e[1]: e[-1] for e in hardware.EVENTS if e[0] in ("torque", "open", "close")}
    assert threads[FOLLOWER].startswith("aiorecord-robot-so_follower")
    assert threads[LEADER].startswith("aiorecord-teleop-so_leader")


def test_what_lerobots_own_script_records_is_the_same(tmp_path, monkeypatch):
    """lerobot-record with the same command line: the same info.json, but for the number of frames."""
    from lerobot.scripts import lerobot_record

    flags = [*arms(), *dataset(tmp_path / "theirs", seconds=0.4), "--dataset.no_stamp=true"]
    monkeypatch.setattr(sys, "argv", ["lerobot-record", *flags])
    monkeypatch.setattr(lerobot_record, "init_logging", lambda: None)
    lerobot_record.record()
    hardware.reset()
    assert main(["record", *(f.replace("theirs", "ours") for f in flags)]) == 0
    theirs, ours = (
        json.loads((tmp_path / name / "meta/info.json").read_text()) for name in ("theirs", "ours")
    )
    for info in (theirs, ours):
        del info["total_frames"]
    assert ours == theirs
    assert list(ours["features"]) == list(theirs["features"])


def test_two_arms(tmp_path, capsys):
    flags = [
        "--robot.type=bi_so_follower",
        "--robot.left_arm_config.port=/dev/tty.left_follower",
        "--robot.right_arm_config.port=/dev/tty.right_follower",
        "--robot.id=two",
        "--robot.left_arm_config.cameras={wrist: {type: opencv, index_or_path: 1, width: 64, height: 48, "
        "fps: 30, warmup_s: 0}}",
        "--teleop.type=bi_so_leader",
        "--teleop.left_arm_config.port=/dev/tty.left_leader",
        "--teleop.right_arm_config.port=/dev/tty.right_leader",
        "--teleop.id=two",
    ]
    root = tmp_path / "set"
    assert main(["record", *flags, *dataset(root)]) == 0, capsys.readouterr().err
    info = json.loads((root / "meta/info.json").read_text())
    assert info["features"]["action"]["shape"] == [12]
    assert "observation.images.left_wrist" in info["features"]
    for port in ("left_follower", "right_follower", "left_leader", "right_leader"):
        assert hardware.torque(f"/dev/tty.{port}") == OFF


def test_teleoperate_and_replay(tmp_path, capsys):
    assert main(["teleoperate", *arms(), "--teleop_time_s=0.5"]) == 0, capsys.readouterr().err
    turns, missed = map(int, re.search(r"(\d+) turns.* (\d+) missed", capsys.readouterr().out).groups())
    assert turns + missed == 30
    assert hardware.torque(FOLLOWER) == OFF

    root = tmp_path / "set"
    assert main(["record", *arms(cameras=""), *dataset(root)]) == 0, capsys.readouterr().err
    rows = rows_of(root)
    hardware.reset()
    flags = [*arms(cameras="")[:3], "--dataset.repo_id=me/record-test", f"--dataset.root={root}"]
    assert main(["replay", *flags, "--dataset.episode=0", "--play_sounds=false"]) == 0
    length = len(rows_of(root))
    assert f"played {length} of {length}" in capsys.readouterr().out
    assert hardware.torque(FOLLOWER) == OFF
    # Where the last action sent it: degrees about the middle of the range, 4096 counts a turn less one.
    position = hardware.get(hardware.motors(FOLLOWER)[1], hardware.POSITION)
    assert (position - 2000) * 360 / 4095 == pytest.approx(rows[-1]["action"][0], abs=0.2)


def test_the_page_about_lerobot(tmp_path, monkeypatch, capsys):
    """The command line and the program in docs/lerobot.md, with shorter times."""
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    page = (Path(__file__).parents[2] / "docs/lerobot.md").read_text(encoding="utf-8")
    (line,) = [b for b in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "aiorecord record" in b]
    words = shlex.split(line.replace("\\\n", " "))
    assert words[:3] == ["uv", "run", "aiorecord"]
    arguments = words[3:]
    short = ["--dataset.episode_time_s=0.3", "--dataset.reset_time_s=0.1", "--dataset.num_episodes=2"]
    codec = ["--dataset.rgb_encoder.vcodec=h264", "--dataset.root=" + str(tmp_path / "line")]
    bench_port = {"/dev/ttyACM0": FOLLOWER, "/dev/ttyACM1": LEADER}
    for real, fake in bench_port.items():
        arguments = [argument.replace(real, fake) for argument in arguments]
    assert main([*arguments, *short, *codec, "--play_sounds=false"]) == 0, capsys.readouterr().err
    assert len(rows_of(tmp_path / "line")) == 18
    hardware.reset()

    (program,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "make_devices(" in b]
    for real, fake in bench_port.items():
        program = program.replace(real, fake)
    program = program.replace("episode_time_s=10", "episode_time_s=0.2").replace("time_s=5", "time_s=0.1")
    exec(compile(program, "docs/lerobot.md", "exec"), {"__name__": "page"})
    assert len(rows_of(tmp_path / "me/record-test")) == 5 * 6
    assert hardware.torque(FOLLOWER) == OFF


def test_the_flags_of_a_config_file(tmp_path, capsys, steady_clock):
    config = tmp_path / "arms.yaml"
    config.write_text(
        f"robot: {{type: so101_follower, port: {FOLLOWER}, id: black}}\n"
        f"teleop: {{type: so101_leader, port: {LEADER}, id: blue}}\n"
    )
    root = tmp_path / "set"
    assert main(["record", f"--config_path={config}", *dataset(root)]) == 0, capsys.readouterr().err
    assert len(rows_of(root)) == 15


@pytest.mark.parametrize("kept", [True, False])
def test_torque_stays_only_where_the_configuration_wants_it(capsys, kept):
    flags = ["--robot.disable_torque_on_disconnect=false"] if kept else []
    assert main(["teleoperate", *arms(cameras=""), *flags, "--teleop_time_s=0.1"]) == 0
    assert hardware.torque(FOLLOWER) == (ON if kept else OFF)


# Each of these leaves torque on with a plain disconnect() of lerobot's driver.


def test_a_camera_that_is_unplugged(tmp_path, capsys):
    """The driver then says it is not connected, and refuses to disconnect."""
    hardware.ON_READ.append(lambda port, n: n == 6 and hardware.DEAD_CAMERAS.add("0"))
    root = tmp_path / "set"
    assert main(["record", *arms(), *dataset(root, seconds=5), "--on_source_error=raise"]) == 1
    err = capsys.readouterr().err
    assert "DeviceNotConnectedError" in err or "TimeoutError" in err
    assert "failed in get_observation()" in err
    assert hardware.torque(FOLLOWER) == OFF
    assert {e[1] for e in happened("close")} == {FOLLOWER, LEADER}
    assert main(["recover", str(root)]) in (0, 3)
    assert 1 <= len(rows_of(root)) < 100


# lerobot's camera thread ends with an error of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_camera_that_is_unplugged_ends_the_episode_and_the_take_is_kept(tmp_path, capsys):
    hardware.ON_READ.append(lambda port, n: n == 6 and hardware.DEAD_CAMERAS.add("0"))
    root = tmp_path / "set"
    assert main(["record", *arms(), *dataset(root, seconds=5)]) == 0
    out = capsys.readouterr().out
    assert "ended early, kept" in out
    assert "robot was lost" in out
    assert hardware.torque(FOLLOWER) == OFF
    assert {e[1] for e in happened("close")} == {FOLLOWER, LEADER}
    assert 1 <= len(rows_of(root)) < 150


def test_a_camera_that_is_missing(tmp_path, capsys):
    hardware.DEAD_CAMERAS.add("0")
    assert main(["record", *arms(), *dataset(tmp_path / "set")]) == 1
    assert "failed in connect(): ConnectionError: Failed to open OpenCVCamera(0)" in capsys.readouterr().err
    assert {e[1] for e in happened("close")} == {FOLLOWER, LEADER}  # the bus was open already
    assert not (tmp_path / "set").exists()


def test_a_port_that_is_missing(tmp_path, capsys):
    flags = [f.replace(FOLLOWER, "/dev/missing") for f in arms()]
    assert main(["record", *flags, *dataset(tmp_path / "set")]) == 1
    assert "Could not connect on port '/dev/missing'" in capsys.readouterr().err
    assert {e[1] for e in happened("close")} == {LEADER}


def test_a_motor_that_dies_does_not_keep_the_others_powered(capsys):
    def kill(port, n):
        if port == FOLLOWER and n == 6:
            hardware.DEAD_MOTORS.add((FOLLOWER, 3))

    hardware.ON_READ.append(kill)
    assert main(["teleoperate", *arms(cameras=""), "--teleop_time_s=20"]) == 1
    err = capsys.readouterr().err
    assert "The robot 'so_follower' failed in get_observation()" in err
    assert "The robot 'so_follower' failed in disconnect()" in err
    assert hardware.torque(FOLLOWER) == [0, 0, 1, 0, 0, 0]
    assert {e[1] for e in happened("close")} == {FOLLOWER, LEADER}


def test_a_leader_that_goes_silent(capsys):
    def kill(port, n):
        if port == LEADER and n == 6:
            hardware.DEAD_PORTS.add(LEADER)

    hardware.ON_READ.append(kill)
    assert main(["teleoperate", *arms(cameras=""), "--teleop_time_s=20"]) == 1
    assert "teleop 'so_leader' failed in get_action()" in capsys.readouterr().err
    assert hardware.torque(FOLLOWER) == OFF
    assert {e[1] for e in happened("close")} == {FOLLOWER, LEADER}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_process_of_its_own_stopped_by_ctrl_c(tmp_path, bench):
    """As a user runs it: the plugin package is found by its name, Ctrl-C ends the episode and saves it."""
    root = tmp_path / "set"
    environment = os.environ | {
        "PYTHONPATH": str(BENCH),
        "BENCH_HARDWARE": "1",
        "HF_LEROBOT_CALIBRATION": str(bench),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "aiorecord", "record", *arms(), *dataset(root, seconds=100)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("[recording]") and "fps" in line:  # it has run for some seconds
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(episodes_of(root)) == 1
    assert len(rows_of(root)) > 30


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_an_arm_that_is_not_calibrated_is_calibrated_first(tmp_path, bench):
    """The driver's questions come on a plain terminal, before the view and the keys; Enter answers them."""
    import pty

    root = tmp_path / "set"
    environment = os.environ | {
        "PYTHONPATH": str(BENCH),
        "BENCH_HARDWARE": "1",
        "HF_LEROBOT_CALIBRATION": str(bench),
        "HF_HUB_OFFLINE": "1",
        "TERM": "xterm",
    }
    flags = [
        flag.replace("--robot.id=black", "--robot.id=new").replace(FOLLOWER, "/dev/tty.swept")
        for flag in arms(cameras="")
    ]
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aiorecord", "record", *flags, *dataset(root, seconds=1)],
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    screen = b""

    def until(text):
        nonlocal screen
        while text not in screen:
            screen += os.read(controller, 65536)
        screen = b""

    until(b"middle of its range of motion and press ENTER")
    os.write(controller, b"\n")
    until(b"Press ENTER to stop")
    until(b"gripper")
    until(b"gripper")  # the table of ranges, drawn again after the joints moved
    os.write(controller, b"\n")
    until(b"Calibration saved")
    until(b"RECORDING")
    until(b"load ")
    assert process.wait(timeout=60) == 0
    os.close(controller)
    assert len(rows_of(root)) == 30
    saved = json.loads((bench / "robots/so_follower/new.json").read_text())
    assert saved["gripper"]["range_min"] < saved["gripper"]["range_max"]
