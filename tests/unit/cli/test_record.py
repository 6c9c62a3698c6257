"""`aiorecord record` as users run it: in a process of its own, on a terminal or not."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import episodes_of, rows_of

from aiorecord.lerobot.drivers.device_flags import is_installed
from aiorecord.staging.folder import Staging
from aiorecord.system.installation import install_hint

BASE = [
    "--robot.type=sim",
    "--teleop.type=sim",
    "--robot.cameras={front: {width: 96, height: 64}}",
    "--dataset.repo_id=demo/test",
    "--dataset.single_task=Pick up the cube",
    "--dataset.rgb_encoder.vcodec=h264",
    "--play_sounds=false",
    "--encode_workers=1",
    "--encode=deferred",
]
TIMES = ["--dataset.num_episodes=2", "--dataset.episode_time_s=0.5", "--dataset.reset_time_s=0.2"]


def command(root, *flags):
    return [sys.executable, "-m", "aiorecord", "record", f"--dataset.root={root}", *BASE, *flags]


def record(root, *flags, **options):
    return subprocess.run(command(root, *flags), capture_output=True, text=True, timeout=120, **options)


def test_a_session_with_its_report(tmp_path):
    root, report_path = tmp_path / "set", tmp_path / "report.json"
    done = record(root, *TIMES, f"--report={report_path}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[-3].split() == ["dataset", str(root)]
    assert "LeRobotDataset('demo/test'" in lines[-1]
    assert not (root / ".aiorecord").exists()

    report = json.loads(report_path.read_text())
    assert [e["episode_index"] for e in report["episodes"]] == [0, 1]
    for episode in report["episodes"]:
        assert episode["stage"] == "committed"
        # A machine that is busy elsewhere makes a loop miss deadlines; each is a frame or counted as missed.
        frames = episode["frames"]
        assert frames + episode["lateness"]["missed"] == 15
        camera = episode["cameras"]["observation.images.front"]
        assert (camera["captured"], camera["lost"], camera["spilled"]) == (frames, 0, 0)
        assert {"late", "repeated", "stale", "longest_freeze_s"} <= camera.keys()
        assert 0 < episode["durable_s"] <= episode["encoded_s"] <= episode["committed_s"]
        assert episode["bytes"] > 0
        assert set(episode["lateness"]) == {
            "ticks",
            "p50_ms",
            "p99_ms",
            "max_ms",
            "worst_ms",
            "late",
            "missed",
        }
    frames = report["session"]["frames"]
    assert len(rows_of(root)) == frames
    assert f"2 episodes, {frames} frames" in lines[-2]
    assert report["episodes"][0]["dead_time_s"] is None
    assert report["episodes"][1]["dead_time_s"] >= 0
    assert report["session"]["peak_rss_bytes"] > 50e6
    plan = report["encode_plan"]["observation.images.front"]
    assert (plan["plan"], plan["codec"]) == ("deferred", "h264")
    assert plan["why"]


def test_resume_and_what_is_refused_without(tmp_path):
    root = tmp_path / "set"
    assert record(root, *TIMES).returncode == 0
    again = record(root, *TIMES)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert "Traceback" not in again.stderr
    assert record(root, *TIMES, "--resume=true").returncode == 0
    assert len(episodes_of(root)) == 4


def test_flags_from_a_file_and_images_instead_of_video(tmp_path):
    config = tmp_path / "record.yaml"
    config.write_text("dataset: {num_episodes: 1, episode_time_s: 0.2, video: false, fps: 20}\n")
    done = record(tmp_path / "set", f"--config_path={config}", "--display=none")
    assert done.returncode == 0, done.stderr
    assert "recording]" not in done.stdout
    assert f"dataset   {tmp_path / 'set'}" in done.stdout  # the summary stays
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert info["fps"] == 20
    assert info["features"]["observation.images.front"]["dtype"] == "image"
    assert rows_of(tmp_path / "set")[0]["observation.images.front"]["bytes"].startswith(b"\x89PNG")


def test_flags_of_lerobots_png_pipeline_are_accepted_with_a_line(tmp_path):
    flags = ["--dataset.num_image_writer_processes=2", "--dataset.streaming_encoding=true"]
    done = record(tmp_path / "set", *TIMES, *flags, "--dataset.async_saving=false")
    assert done.returncode == 0
    assert done.stderr.count("has no effect") == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset.fps=0"], "fps"),
        (["--dataset.fps=abc"], "dataset.fps"),
        (["--bogus=1"], "--bogus"),
        (["--robot.type=nope"], "nope"),
        (["--dataset.repo_id=../x"], "repo_id|name"),
        (["--dataset.num_episodes=0"], "num_episodes"),
        (["--dataset.rgb_encoder.vcodec=mpeg1"], "mpeg1"),
        (["--dataset.rgb_encoder.vcodec=h264_nvenc"], "h264_nvenc"),
        (["--robot.cameras={../x: {}}"], r"\.\./x"),
        (["--display=loud"], "display"),
        (["--config_path=/nope.yaml"], "nope.yaml"),
    ],
)
def test_what_cannot_work_is_said_in_a_line_and_nothing_is_written(tmp_path, flags, message):
    done = record(tmp_path / "set", *TIMES, *flags)
    assert done.returncode in (1, 2)
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "set").exists()


def test_help_has_examples_and_every_command():
    run = [sys.executable, "-m", "aiorecord"]
    out = subprocess.run([*run, "record", "--help"], capture_output=True, text=True, check=True).stdout
    for text in ("examples:", "--dataset.repo_id", "--robot.type"):
        assert text in out
    assert "record" in subprocess.run([*run], capture_output=True, text=True, check=True).stdout
    assert subprocess.run([*run, "dance"], capture_output=True, text=True).returncode == 2


@pytest.mark.skipif(is_installed(), reason="lerobot is installed here")
def test_lerobots_script_without_lerobot_says_how_to_install_it():
    run = [sys.executable, "-m", "aiorecord", "lerobot-record", "--robot.type=x"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 2
    assert install_hint("lerobot") in done.stderr
    assert "Traceback" not in done.stderr


def started(process):
    """Read plain output until the first episode is being recorded."""
    for line in process.stdout:
        if line.startswith("[recording]"):
            return
    raise AssertionError(process.communicate())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_episode_and_saves(tmp_path, name):
    root = tmp_path / "set"
    flags = ["--dataset.episode_time_s=100"]
    with subprocess.Popen(command(root, *flags), stdout=subprocess.PIPE, text=True) as process:
        started(process)
        wait_for_frames(root)
        process.send_signal(getattr(signal, name))
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert len(episodes_of(root)) == 1
    assert not (root / ".aiorecord").exists()


def wait_for_frames(root):
    """Wait until the running episode has been journaled: its manifest then knows the task."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        paths = Staging(root).episode_paths()
        if paths and b'"Pick up the cube"' in (paths[0] / "manifest.json").read_bytes():
            return
        os.sched_yield()
    raise AssertionError("no frames were journaled")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_kill_loses_nothing_that_ended(tmp_path):
    root = tmp_path / "set"
    flags = ["--dataset.num_episodes=9", "--dataset.episode_time_s=1.5", "--dataset.reset_time_s=0"]
    with subprocess.Popen(command(root, *flags), stdout=subprocess.PIPE, text=True) as process:
        kept = []
        for line in process.stdout:
            kept += map(int, re.findall(r"^episode \d+: (\d+) frames", line))
            if len(kept) == 2:
                break
        wait_for_durable(root)
        process.kill()
    recover = [sys.executable, "-m", "aiorecord", "recover", str(root)]
    done = subprocess.run(recover, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    lengths = [e["length"] for e in episodes_of(root)]
    assert lengths[:2] == kept
    assert not (root / ".aiorecord").exists()
    again = subprocess.run(recover, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert "nothing to recover" in again.stdout


def test_resuming_says_what_was_left(tmp_path):
    root = tmp_path / "set"
    flags = ["--dataset.num_episodes=9", "--dataset.episode_time_s=0.5", "--dataset.reset_time_s=0"]
    with subprocess.Popen(command(root, *flags), stdout=subprocess.PIPE, text=True) as process:
        next(line for line in process.stdout if re.match(r"episode 1: \d+ frames", line))
        process.kill()
    left = [path.name for path in Staging(root).episode_paths()]
    assert left
    flags = ["--dataset.num_episodes=1", "--dataset.episode_time_s=0.2", "--resume=true"]
    again = subprocess.run(command(root, *flags), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "Left in staging" in again.stdout
    assert any(name in again.stdout for name in left)


def wait_for_durable(root):
    """Wait until two episodes are complete on disk or committed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        info = json.loads((root / "meta/info.json").read_bytes())
        done = info["total_episodes"]
        for path in Staging(root).episode_paths():
            with contextlib.suppress(FileNotFoundError):  # committed meanwhile
                done += b'"state": "complete"' in (path / "manifest.json").read_bytes()
        if done >= 2:
            return
        os.sched_yield()
    raise AssertionError("the episodes did not become durable")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_keys_on_a_terminal(tmp_path):
    import pty

    root = tmp_path / "set"
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        command(
            root, "--dataset.episode_time_s=100", "--dataset.num_episodes=3", "--dataset.reset_time_s=100"
        ),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(terminal)
    screen = b""

    def until(text):
        nonlocal screen
        while text not in screen:
            screen += os.read(main, 65536)
        screen = b""

    until(b"RECORDING")
    wait_for_frames(root)
    os.write(main, b"\x1b[C")  # →: ends the episode
    until(b"RESETTING")
    os.write(main, b"n")  # ends the reset
    until(b"RECORDING")
    os.write(main, b"r")  # drops the episode
    until(b"RESETTING")
    os.write(main, b"n")
    until(b"RECORDING")
    until(b"frames ")
    os.write(main, b"\x1b")  # Esc: stop
    until(b"load ")
    assert process.wait(timeout=60) == 0
    os.close(main)
    assert 1 <= len(episodes_of(root)) <= 2
    assert not (root / ".aiorecord").exists()
