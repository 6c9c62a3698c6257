"""`aiorecord record` in a process of its own, while its robot, cameras and teleoperator fail."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import episodes_of

STUCK = [sys.executable, str(Path(__file__).parent / "stuck_robot.py")]
BASE = [
    "--teleop.type=sim",
    "--dataset.repo_id=demo/test",
    "--dataset.single_task=Pick up the cube",
    "--dataset.rgb_encoder.vcodec=h264",
    "--play_sounds=false",
    "--encode_workers=1",
]
SIM = ["--robot.type=sim", "--robot.cameras={front: {width: 96, height: 64}}"]


def command(root, *flags, robot=SIM, program=(sys.executable, "-m", "aiorecord")):
    return [
        *program,
        "record",
        f"--dataset.root={root}",
        f"--report={root}.json",
        *BASE,
        *robot,
        *flags,
    ]


def record(root, faults, *flags, episodes=2, seconds=1.0, reset=0.2, **options):
    times = (episodes, seconds, reset)
    names = ("num_episodes", "episode_time_s", "reset_time_s")
    plan = [f"--dataset.{name}={value}" for name, value in zip(names, times, strict=True)]
    run = command(root, *plan, f"--robot.faults={json.dumps(faults)}", *flags, **options)
    return subprocess.run(run, capture_output=True, text=True, timeout=120)


def report_of(root):
    return json.loads(Path(f"{root}.json").read_text())


def check_saved(root, report):
    """Every episode of the report is in the dataset, with all its frames, and nothing is left in staging."""
    assert [e["length"] for e in episodes_of(root)] == [e["frames"] for e in report["episodes"]]
    assert all(e["stage"] == "committed" for e in report["episodes"])
    assert all(c["lost"] == 0 for e in report["episodes"] for c in e["cameras"].values())
    assert not (root / ".aiorecord").exists()


FRONT = "observation.images.front"


@pytest.mark.parametrize(
    "faults",
    [
        [("front", kind, 4 + 5 * n, 2) for n, kind in enumerate(("none", "missing", "shape", "dtype"))],
        [("robot", "raise", 5, 4), ("robot", "returns_none", 15, 4), ("robot.send_action", "raise", 24, 4)],
        [("robot", "hang", 5, 1), ("robot.send_action", "hang", 18, 1)],
    ],
    ids=["camera", "calls", "hangs"],
)
def test_what_fails_for_a_moment_is_held_and_marked(tmp_path, faults):
    root = tmp_path / "set"
    schedule = [dict(zip(("source", "kind", "at", "calls"), fault, strict=True)) for fault in faults]
    done = record(root, schedule, "--source_timeout_s=0.1")
    assert done.returncode == 0, done.stderr
    report = report_of(root)
    check_saved(root, report)
    first, second = report["episodes"]
    # A deadline that passed while the driver did not answer is counted as missed; every other is a frame.
    assert first["frames"] + first["lateness"]["missed"] == 30
    assert (first["end_reason"], second["end_reason"]) == (None, None)
    assert second["sources"] == {}
    for source in {source for source, *_ in faults}:
        name = FRONT if source == "front" else source
        ats = [at for other, _, at, _ in faults if other == source]
        facts = first["sources"][name]
        assert len(facts["held_frames"]) == len(ats)
        assert facts["held_frames"][0][0] <= ats[0]
        assert facts["held"] == sum(stop - start for start, stop in facts["held_frames"])
        assert report["sources"][name]["held"] == facts["held"]
        assert f"{source}: " in done.stdout
        assert f"{source} is back" in done.stdout
    if faults[0][0] == "front":
        assert first["sources"][FRONT]["held_frames"] == [[4, 6], [9, 11], [14, 16], [19, 21]]


def test_a_call_that_raises_once_leaves_no_mark_on_the_frames(tmp_path):
    root = tmp_path / "set"
    done = record(root, [{"source": "robot", "kind": "raise", "at": 8}], episodes=1)
    assert done.returncode == 0, done.stderr
    (episode,) = report_of(root)["episodes"]
    facts = episode["sources"]["robot"]
    assert (facts["errors"], facts["retries"], facts["held"]) == (1, 1, 0)


def test_a_teleoperator_that_fails(tmp_path):
    root = tmp_path / "set"
    done = record(root, [], '--teleop.faults=[{"source": "action", "kind": "nan", "at": 5, "calls": 3}]')
    assert done.returncode == 0, done.stderr
    report = report_of(root)
    check_saved(root, report)
    sources = report["episodes"][0]["sources"]
    assert sources["action"]["held_frames"] == [[5, 8]]
    assert sources["robot.send_action"]["held_frames"] == [[5, 8]]  # nothing was sent meanwhile
    assert report["session"]["nonfinite_frames"] == 0


def test_a_robot_that_is_unplugged_and_comes_back(tmp_path):
    root = tmp_path / "set"
    faults = [{"source": "robot", "kind": "disconnect", "at": 10, "calls": 2}]
    done = record(root, faults, "--max_hold_s=0.2", episodes=2)
    assert done.returncode == 0, done.stderr
    report = report_of(root)
    check_saved(root, report)
    first, second = report["episodes"]
    assert 10 <= first["frames"] <= 20
    assert "robot was lost" in first["end_reason"]
    assert second["frames"] + second["lateness"]["missed"] == 30
    assert second["sources"] == {}
    assert report["sources"]["robot"]["reconnects"] == 1
    assert "ended early, kept: robot was lost" in done.stdout
    assert "attempt 2" in done.stdout
    assert "robot is back" in done.stdout


def test_a_robot_that_never_comes_back(tmp_path):
    root = tmp_path / "set"
    faults = [{"source": "robot", "kind": "disconnect", "at": 45, "calls": 1000}]
    done = record(root, faults, "--max_hold_s=0.2", "--reconnect_s=0.6", episodes=5)
    assert done.returncode == 1
    assert "did not come back within 0.6 s" in done.stderr
    assert "Traceback" not in done.stderr
    report = report_of(root)
    check_saved(root, report)
    assert len(report["episodes"]) == 2
    assert "did not come back" in report["error"]
    assert "dataset" in done.stdout


def test_raise_ends_the_recording_and_recover_finishes_the_episode(tmp_path):
    root = tmp_path / "set"
    faults = [{"source": "robot", "kind": "raise", "at": 40, "calls": 9}]
    done = record(root, faults, "--on_source_error=raise", reset=0)
    assert done.returncode == 1
    assert "fails on schedule" in done.stderr
    run = [sys.executable, "-m", "aiorecord", "recover", str(root)]
    assert subprocess.run(run, capture_output=True, timeout=120).returncode in (0, 3)
    lengths = [e["length"] for e in episodes_of(root)]
    assert len(lengths) == 2
    assert lengths[1] < 30


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_signal_is_heard_while_a_call_hangs(tmp_path):
    root = tmp_path / "set"
    faults = json.dumps([{"source": "robot", "kind": "hang", "at": 10, "calls": 100000}])
    flags = [f"--robot.faults={faults}", "--max_hold_s=1000", "--dataset.episode_time_s=1000"]
    with subprocess.Popen(command(root, *flags), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "does not return" in line:
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    report = report_of(root)
    check_saved(root, report)
    assert report["episodes"][0]["frames"] >= 10


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_keys_and_view_live_while_a_driver_is_stuck_in_its_thread(tmp_path):
    import pty

    root = tmp_path / "set"
    times = ["--dataset.episode_time_s=1000", "--dataset.reset_time_s=1000", "--max_hold_s=1000"]
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        command(root, *times, "--source_timeout_s=0.2", robot=["--robot.type=stuck"], program=STUCK),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "160", "LINES": "50"},
    )
    os.close(terminal)
    screen = b""

    def until(text):
        nonlocal screen
        while text not in screen:
            screen += os.read(main, 65536)
        screen = screen[screen.index(text) + len(text) :]

    until(b"RECORDING")
    until(b"last failure")  # the view has the row of the source that fails
    os.write(main, b"n")  # ends the episode
    until(b"RESETTING")
    os.write(main, b"q")
    until(b"load ")
    until(b"does not return from get_observation")
    # The thread that is stuck does not keep the process from ending.
    assert process.wait(timeout=60) == 1
    os.close(main)
    report = report_of(root)
    check_saved(root, report)
    (episode,) = report["episodes"]
    assert episode["frames"] > 10
    assert episode["sources"]["robot"]["held_frames"][0][0] == 10


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--on_source_error=ignore", "on_source_error"),
        ("--max_hold_s=-1", "max_hold_s"),
        ("--max_hold_s_of={front: -2}", "max_hold_s_of"),
        ("--source_retries=-1", "retries"),
        ("--source_timeout_s=0", "call_timeout_s"),
        ("--robot.faults=[{source: front, kind: explode}]", "explode"),
        ("--robot.faults=[{source: teleop, kind: raise}]", "teleop"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(tmp_path, flag, message):
    root = tmp_path / "set"
    done = subprocess.run(command(root, flag), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not root.exists()
