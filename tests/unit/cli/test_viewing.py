"""`--display_data`: every frame of a session is offered, and the session ends whatever the viewer does."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import FPS, STATES, rows_of

from aiorecord import FakeClock, Recorder, Session, SessionEvents, SessionPlan
from aiorecord.cli.viewing import viewing
from aiorecord.dataset.format import quality_log
from aiorecord.monitor.viewer import Viewer


class Device:
    name = "device"

    async def connect(self):
        pass

    async def disconnect(self):
        pass

    async def get_observation(self):
        return {"observation.state": np.zeros(3, np.float32)}

    async def get_action(self):
        return {"action": np.ones(3, np.float32)}

    async def send_action(self, action):
        return action


async def test_a_session_offers_every_frame(tmp_path):
    seen = []
    plan = SessionPlan("Test", num_episodes=2, episode_time_s=0.2, reset_time_s=0.1)

    options = {"fps": FPS, "features": STATES, "clock": FakeClock(auto=True), "encode_workers": 1}
    async with Recorder("t/s", root=tmp_path / "set", **options) as recorder:
        events = SessionEvents(on_frame=lambda frame, recording: seen.append((recording, *frame)))
        await Session(recorder, Device(), Device(), plan, events).run()
    keys = ("observation.state", "action")
    assert seen == [(True, *keys)] * 6 + [(False, *keys)] * 3 + [(True, *keys)] * 6
    assert len(rows_of(tmp_path / "set")) == 12


class Flags:
    display_data = True
    display_mode = "rerun"
    display_ip = None
    display_port = None
    display_compressed_images = False


async def test_what_a_viewer_could_not_show_is_said(monkeypatch, capsys):
    class Slow:
        note, hint, shown, dropped, closed = "it is dark", "look there", 3, 2, False

        def close(self):
            self.closed = True

    slow, opened = Slow(), []
    monkeypatch.setattr(Viewer, "open", lambda *arguments: opened.append(arguments) or slow)

    async with viewing(Flags(), "session") as viewer:
        assert viewer is slow
        print("inside", file=sys.stderr)
    flags = Flags()
    flags.display_data = False
    async with viewing(flags, "session") as viewer:
        assert viewer is None
    assert slow.closed
    assert opened == [("session", "rerun", None, None, False)]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "note: it is dark"
    assert lines[1:3] == ["note: look there", "inside"]
    assert "too slow for 2 of 5 views" in lines[3]


def record(root, *flags):
    command = [
        *(sys.executable, "-m", "aiorecord", "record", "--robot.type=sim", "--teleop.type=sim"),
        *("--dataset.repo_id=demo/test", f"--dataset.root={root}", "--dataset.single_task=Test"),
        *("--robot.cameras={front: {width: 96, height: 64}}", "--dataset.rgb_encoder.vcodec=h264"),
        *("--dataset.num_episodes=2", "--dataset.episode_time_s=0.3", "--dataset.reset_time_s=0.1"),
        *("--play_sounds=false", "--encode_workers=1", "--display_data=true", *flags),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def check_every_tick(root):
    """Each of the 18 ticks is a row, but for deadlines that a busy machine missed and that were counted."""
    records, problems = quality_log.read(root)
    assert not problems
    missed = sum(record.lateness["missed"] for record in records.values())
    assert len(rows_of(root)) + missed == 18


@pytest.mark.skipif(importlib.util.find_spec("foxglove") is None, reason="needs foxglove-sdk")
def test_record_with_foxglove(tmp_path):
    done = record(tmp_path / "set", "--display_mode=foxglove", "--display_port=0")
    assert done.returncode == 0, done.stderr
    assert re.search(r"note: Foxglove: .* ws://127\.0\.0\.1:[1-9]\d* ", done.stderr)
    check_every_tick(tmp_path / "set")


@pytest.mark.skipif(importlib.util.find_spec("rerun") is None, reason="needs rerun-sdk")
def test_record_with_a_rerun_viewer_that_is_not_there(tmp_path):
    done = record(tmp_path / "set", "--display_ip=127.0.0.1", "--display_port=1")
    assert done.returncode == 0, done.stderr
    assert "note: No viewer listens at 127.0.0.1:1 yet" in done.stderr
    check_every_tick(tmp_path / "set")


def test_an_unknown_viewer_starts_nothing(tmp_path):
    done = record(tmp_path / "set", "--display_mode=vnc")
    assert done.returncode == 2
    assert "--display_mode is rerun or foxglove" in done.stderr
    assert not (tmp_path / "set").exists()
