"""What a notebook shows of a recorder and its devices."""

import asyncio
import os
from pathlib import Path

import numpy as np
from helpers import FEATURES, FPS, H264, make_frame, picture

import aiorecord
from aiorecord import FakeClock, Recorder, Session, SessionEvents, SessionPlan, StatusView
from aiorecord.staging import lossless
from aiorecord.staging.lossless import LosslessWriter

FRONT = "observation.images.front"


class Arm:
    """Fails in some of its calls, and gives a picture of the wrong shape in others."""

    name, is_connected, calls = "arm", True, 0
    observation_features = {key: FEATURES[key] for key in ("observation.state", FRONT)}  # noqa: RUF012
    action_features = {"action": FEATURES["action"]}  # noqa: RUF012

    async def connect(self):
        pass

    async def disconnect(self):
        pass

    async def get_observation(self):
        self.calls += 1
        if self.calls == 4:
            raise OSError("the <bus> is gone")
        image = picture(self.calls) if self.calls < 8 else np.zeros((3, 3, 3), np.uint8)
        return {"observation.state": np.full(3, self.calls, np.float32), FRONT: image}

    async def send_action(self, action):
        return action


class Hand:
    name, is_connected = "hand", True
    action_features = Arm.action_features

    async def connect(self):
        pass

    async def disconnect(self):
        pass

    async def get_action(self):
        return {"action": np.zeros(3, np.float32)}


def recorder_for(tmp_path, **options):
    settings = {"fps": FPS, "features": FEATURES, "rgb_encoder": H264, "encode": "deferred"}
    settings |= {"encode_workers": 1, "clock": FakeClock(auto=True)}
    return Recorder("t/view", root=tmp_path / "set", **(settings | options))


def show(name, html):
    """Keep a page to look at, where a folder is named for it."""
    if folder := os.environ.get("AIORECORD_PAGES"):
        page = f"<!doctype html><meta charset=utf-8><body style='font-family:sans-serif'>{html}"
        Path(folder, name).write_text(page)
    return html


async def test_a_session_shows_what_failed_and_what_is_held(tmp_path):
    seen = []

    async with recorder_for(tmp_path) as recorder:
        session = Session(recorder, Arm(), Hand(), SessionPlan("T", 1, 0.5, 0))
        view = StatusView(session)
        assert "no failures" in view._repr_html_()
        session.events = SessionEvents(on_tick=lambda ticker: seen.append(view._repr_html_()))
        await session.run()
    shown = show("sources.html", seen[-1])
    for part in ("recording: 15 frames", "<td>robot</td>", "<td>front</td>", "held for"):
        assert part in shown, part
    assert "the &lt;bus&gt; is gone" in shown
    assert "<bus>" not in shown
    assert "held for" not in seen[0]


async def test_devices_are_shown_beside_a_recorder(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        guards = aiorecord.guarded(Arm(), Hand(), recorder.schema, clock=recorder.clock, fps=FPS)
        await recorder.record(guards.robot, guards.teleop, seconds=0.2)
        plain = StatusView(recorder)._repr_html_()
        shown = StatusView(recorder, guards.robot, guards.teleop)._repr_html_()
    assert "bus" not in plain
    assert "the &lt;bus&gt; is gone" in shown


async def test_a_capture_encoder_that_failed_is_shown(tmp_path, monkeypatch):
    class Broken(LosslessWriter):
        def write(self, frame):
            raise RuntimeError("x264 <died>")

    monkeypatch.setattr(lossless, "LosslessWriter", Broken)

    async with recorder_for(tmp_path) as recorder:
        async with recorder.episode("T") as episode:
            episode.add_frame(make_frame(0))
            while episode.cameras[FRONT].encoder_error is None:
                await asyncio.sleep(0.001)
            assert "x264 &lt;died&gt;" in show("encoder.html", StatusView(recorder)._repr_html_())
