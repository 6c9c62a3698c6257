"""A session's commands, and a live capture, from where they do not belong: another thread, a forked child."""

import asyncio
import os

import pytest
from helpers import FEATURES, FPS, H264, STATES, make_frame

from aiorecord import Command, Recorder, Session, SessionPlan, StateError
from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.clock import FakeClock
from aiorecord.encoders import DepthEncoderConfig
from aiorecord.features import Schema
from aiorecord.staging.folder import Staging


class Device:
    """Robot and teleoperator of states only."""

    name = "counter"

    async def connect(self):
        pass

    async def disconnect(self):
        pass

    async def get_observation(self):
        return {"observation.state": make_frame(0, features=STATES)["observation.state"]}

    async def get_action(self):
        return {"action": make_frame(0, features=STATES)["action"]}

    async def send_action(self, action):
        return action


async def test_a_command_from_another_thread_is_refused_and_one_handed_over_is_taken(tmp_path):
    clock = FakeClock(auto=True)
    async with Recorder("a/b", root=tmp_path / "set", fps=FPS, features=STATES, clock=clock) as recorder:
        session = Session(recorder, Device(), Device(), SessionPlan("T", 3, 1e6, 0))
        reached = asyncio.Event()
        session.events.on_tick = lambda ticker: reached.set()
        running = asyncio.create_task(session.run())
        await reached.wait()
        with pytest.raises(StateError, match="call_soon_threadsafe"):
            await asyncio.to_thread(session.command, Command.STOP)
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(loop.call_soon_threadsafe, session.command, Command.STOP)
        assert len(await running) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_adds_nothing_to_a_live_capture_and_deletes_nothing_of_it(tmp_path):
    schema = Schema(FEATURES)
    capture = EpisodeCapture.prepare(
        Staging(tmp_path), schema=schema, fps=FPS, rgb_encoder=H264, depth_encoder=DepthEncoderConfig(),
        budget=ByteBudget(64 << 20),
    )  # fmt: skip
    capture.add_frame(schema.check(make_frame(0)), "Task", 0)
    calls = (
        lambda: capture.add_frame(schema.check(make_frame(1)), "Task", 1),
        capture.finish,
        capture.keep,
        capture.discard,
        capture.let_go,
    )
    pid = os.fork()
    if not pid:
        refused = 0
        for call in calls:
            try:
                call()
            except StateError as error:
                refused += "forked" in str(error)
            except BaseException:  # noqa: BLE001, S110 - counted as not refused
                pass
        os._exit(len(calls) - refused)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    capture.add_frame(schema.check(make_frame(1)), "Task", 1)
    assert capture.finish().manifest.length == 2
