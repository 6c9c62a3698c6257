"""What the quality record says of real recordings."""

import json
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from helpers import FEATURES, FPS, H264, make_frame, picture, record_episode

from aiorecord import Command, FakeClock, Phase, Recorder, Session, SessionEvents, SessionPlan
from aiorecord.cli import main
from aiorecord.dataset.format import quality_log
from aiorecord.errors import ConfigError, StateError
from aiorecord.robots.blocking.threaded import ThreadedRobot
from aiorecord.robots.guarding.device_reports import frame_times, layers
from aiorecord.staging.folder import Staging
from aiorecord.staging.lossless import LosslessWriter

FRONT = "observation.images.front"


def recorder_for(tmp_path, **options):
    settings = {
        "fps": FPS,
        "features": FEATURES,
        "rgb_encoder": H264,
        "encode_workers": 1,
        "encode": "deferred",
    }
    return Recorder("t/q", root=tmp_path / "set", **(settings | options))


def records_of(tmp_path):
    records, problems = quality_log.read(tmp_path / "set")
    assert problems == []
    return [records[index] for index in sorted(records)]


async def test_an_episode_of_ticks(tmp_path):
    async def record():
        clock = FakeClock(auto=True)
        async with recorder_for(tmp_path, clock=clock) as recorder:
            before = recorder.ticks(0.2)
            async with recorder.episode("Pick") as episode:
                async for _ in before:
                    clock.advance(0.03)  # late, but no tick of this episode
                async for tick in recorder.ticks(0.5):
                    episode.add_frame(make_frame(tick.index))
                    if tick.index == 4:
                        clock.advance(0.11)  # two deadlines go by, the next tick is 10 ms late
                    if tick.index == 9:
                        clock.advance(1 / FPS + 0.02)
                assert episode.cameras[FRONT].late == 2
                episode.annotate(lights="dim", operator="Ada")
                episode.annotate(lights="bright")
            await episode.save

    await record()
    [record] = records_of(tmp_path)
    late = record.lateness
    assert (late["ticks"], late["missed"], late["late"], late["source"]) == (record.length, 2, 2, "ticks")
    assert late["max_ms"] == pytest.approx(20, abs=0.01)
    assert late["worst_ms"] == pytest.approx(110 - 1000 / FPS, abs=0.01)
    assert record.facts == {"lights": "bright", "operator": "Ada"}
    assert (record.tasks, record.interrupted, len(record.flags)) == (["Pick"], False, 2)
    assert record.cameras[FRONT].captured == record.length == 13
    assert (record.cameras[FRONT].repeated, record.cameras[FRONT].late) == (0, 2)
    assert record.encode[FRONT]["plan"] == "deferred"
    assert record.encode[FRONT]["settings"]["crf"] == 18
    assert record.encode[FRONT]["worker_s"] > 0
    assert set(record.save) == {"durable_s", "encoded_s", "commit_s"}
    assert record.versions["aiorecord"]


async def test_an_episode_without_ticks_is_judged_by_its_rows(tmp_path):
    async def record():
        clock = FakeClock()
        async with recorder_for(tmp_path, clock=clock) as recorder:
            async with recorder.episode() as episode:
                for k, pause_s in enumerate([0.0, 0.05, 0.05, 0.4, 0.05]):
                    clock.advance(pause_s)
                    episode.add_frame(make_frame(min(k, 2)))
            await episode.save

    await record()
    [record] = records_of(tmp_path)
    assert record.lateness["source"] == "rows"
    assert record.lateness["worst_ms"] == pytest.approx(400 - 1000 / FPS, abs=0.001)
    assert record.effective_fps == pytest.approx(4 / 0.55, abs=0.001)
    assert (record.cameras[FRONT].repeated, record.cameras[FRONT].longest_freeze_s) == (2, 0.066667)


async def test_names_and_moments_that_facts_cannot_have(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        episode = recorder.episode()
        with pytest.raises(StateError, match="not open"):
            episode.annotate(lights="dim")
        async with episode:
            episode.add_frame(make_frame(0))
            with pytest.raises(ConfigError, match="'cameras'"):
                episode.annotate(cameras={})
            with pytest.raises(ConfigError, match="JSON-ready"):
                episode.annotate(robot=object())
        with pytest.raises(StateError, match="not open"):
            episode.annotate(lights="dim")
    assert records_of(tmp_path)[0].facts == {}


async def test_an_interrupted_episode_keeps_what_was_noted(tmp_path):
    with pytest.raises(RuntimeError, match="cable"):
        async with recorder_for(tmp_path, clock=FakeClock(auto=True)) as recorder:
            async with recorder.episode("Pick") as episode:
                episode.annotate(lights="dim")
                async for tick in recorder.ticks(0.3):
                    episode.add_frame(make_frame(0))
                    if tick.index == 5:
                        raise RuntimeError("cable")
    async with recorder_for(tmp_path, resume=True) as recorder:
        await recorder.drain()
        await record_episode(recorder)
    kept, whole = records_of(tmp_path)
    assert (kept.interrupted, whole.interrupted) == (True, False)
    assert (kept.length, kept.lateness["ticks"], kept.facts) == (6, 6, {"lights": "dim"})
    assert kept.cameras[FRONT].repeated == 5
    assert (kept.save, set(whole.save)) == ({}, {"durable_s", "encoded_s", "commit_s"})


CHILD = """
import asyncio, os, signal, sys
sys.path.insert(0, {tests!r})
from helpers import FEATURES, FPS, H264, make_frame
from aiorecord import Recorder
from aiorecord.staging.folder import EpisodeFolder, Staging

async def main():
    recorder = Recorder("t/q", root={root!r}, fps=FPS, features=FEATURES, rgb_encoder=H264, encode_workers=1)
    async with recorder:
        async with recorder.episode("Pick") as episode:
            episode.annotate(lights="dim")
            async for tick in recorder.ticks(60):
                episode.add_frame(make_frame(tick.index))
                [path, *_] = Staging(recorder.root).episode_paths()
                if "lights" in EpisodeFolder.load(path).manifest.quality:
                    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_killed_recording_is_recovered_with_what_is_known(tmp_path):
    script = CHILD.format(tests=str(Path(__file__).parents[2]), root=str(tmp_path / "set"))
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert main(["recover", str(tmp_path / "set")]) in (0, 3)
    [record] = records_of(tmp_path)
    assert record.interrupted
    assert record.facts["lights"] == "dim"
    assert record.versions["av"]
    assert record.lateness["source"] == "rows"
    camera = record.cameras[FRONT]
    assert camera.captured == record.length + camera.lost
    assert camera.repeated == 0


KILLED_WITH_MARKS = """
import asyncio, json, os, signal, sys
sys.path[:0] = [{tests!r}, {here!r}]
from test_counted_frames import Arm, FRONT, Hand, recorder_for
from pathlib import Path
from aiorecord import Session, SessionPlan
from aiorecord.capture import journal
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.robots.blocking.threaded import ThreadedRobot

journal.FLUSH_PERIOD_S = 0.1

class Failing(Arm):
    def get_observation(self):
        if 10 < self.calls <= 20:
            self.calls += 1
            raise OSError("unplugged")
        if self.calls > 25:
            first, *_ = Staging(Path({place!r}) / "set").episode_paths()
            noted = EpisodeFolder.load(first).manifest.quality
            camera = noted.get("cameras", {{}}).get(FRONT, {{}})
            held = noted.get("sources", {{}}).get("robot", {{}}).get("held", 0)
            marks = [camera.get("repeated") or 0, camera.get("stale") or 0, held]
            if all(marks):
                print(json.dumps(marks), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().get_observation()

async def main():
    async with recorder_for(Path({place!r})) as recorder:
        await Session(recorder, ThreadedRobot(Failing()), Hand(), SessionPlan("T", 1, 10, 0)).run()

asyncio.run(main())
"""


def test_marks_of_held_frames_outlive_a_kill(tmp_path):
    here = Path(__file__).parent
    script = KILLED_WITH_MARKS.format(tests=str(here.parents[1]), here=str(here), place=str(tmp_path))
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert child.returncode == -signal.SIGKILL, child.stderr
    repeated, stale, held = json.loads(child.stdout)
    assert main(["recover", str(tmp_path / "set")]) in (0, 3)
    [record] = records_of(tmp_path)
    camera = record.cameras[FRONT]
    assert camera.repeated is not None
    assert camera.stale is not None
    assert camera.repeated >= repeated
    assert camera.stale >= stale
    assert camera.captured == record.length + camera.lost
    arm = record.facts["sources"]["robot"]
    assert arm["held"] >= held
    assert sum(end - first for first, end in arm["held_frames"]) == arm["held"]


class Arm:
    """A blocking driver whose camera stands still on request, and tells the time of its frames."""

    name = "arm"
    is_connected = True
    observation_features: ClassVar = {key: FEATURES[key] for key in ("observation.state", FRONT)}
    action_features: ClassVar = {"action": FEATURES["action"]}

    def __init__(self):
        self.calls = self.k = 0
        self.frozen = lambda calls: False

    def connect(self):
        pass

    def disconnect(self):
        pass

    def get_observation(self):
        self.calls += 1
        self.k += not self.frozen(self.calls)
        return {"observation.state": np.full(3, self.k, np.float32), FRONT: picture(self.k)}

    def frame_times_ns(self):
        return {"front": self.k, "elsewhere": 7}

    def send_action(self, action):
        return action


class Hand:
    name = "hand"
    is_connected = True
    action_features = Arm.action_features

    async def connect(self):
        pass

    async def disconnect(self):
        pass

    async def get_action(self):
        return {"action": np.zeros(3, np.float32)}


async def session_of(tmp_path, plan, arm, **events):
    async with recorder_for(tmp_path, clock=FakeClock(auto=True)) as recorder:
        session = Session(recorder, ThreadedRobot(arm), Hand(), plan)
        session.events = SessionEvents(**{name: partial(call, session) for name, call in events.items()})
        await session.run()
    return session


async def test_a_session_counts_stale_frames_and_measures_its_driver(tmp_path):
    arm = Arm()
    arm.frozen = lambda calls: calls > 4
    session = await session_of(tmp_path, SessionPlan("T", 1, 0.4, 0), arm)
    [record] = records_of(tmp_path)
    assert record.length == 12
    camera = record.cameras[FRONT]
    assert (camera.stale, camera.repeated, camera.lost) == (8, 8, 0)
    assert camera.longest_freeze_s == pytest.approx(8 / FPS, abs=1e-6)
    timing = record.calls["robot.get_observation"]
    assert timing["count"] == record.calls["robot.send_action"]["count"] == 12
    assert 0 <= timing["p50_ms"] <= timing["p99_ms"] <= timing["max_ms"]
    assert record.flags == session.records[0].flags == []


async def test_calls_are_those_of_the_episode(tmp_path):
    await session_of(tmp_path, SessionPlan("T", 2, 0.2, 0.3), Arm())
    assert [r.calls["robot.get_observation"]["count"] for r in records_of(tmp_path)] == [6, 6]


async def test_an_episode_over_a_limit_is_flagged_and_the_operator_takes_it_back(tmp_path):
    """Also the last one: then the plan's reset follows it."""
    arm, seen = Arm(), []
    arm.frozen = lambda calls: 4 <= calls < 10  # of the first episode's twelve

    def on_phase(session, phase):
        seen.append(phase.value)
        if phase is Phase.RESETTING and session.records[-1].flags:
            session.command(Command.RERECORD)

    def on_tick(session, ticker):
        """The loop of this test is far faster than a real one; let the camera's thread keep up."""
        pause = threading.Event()
        while (status := session.recorder.get_status().episode) and status.cameras[FRONT].queued_frames:
            pause.wait(0.001)

    session = await session_of(
        tmp_path,
        SessionPlan("T", 1, 0.4, 0.2, max_repeats=5),
        arm,
        on_phase=on_phase,
        on_tick=on_tick,
        on_episode=lambda s, record: seen.append(list(record.flags)),
        on_flagged=lambda s, record: seen.append("flagged"),
        on_dropped=lambda s, number: seen.append(f"dropped {number}"),
    )
    flag = "front repeated 6 frames, the limit is 5"
    assert seen == [
        *("connecting", "recording", [flag], "flagged", "resetting", "dropped 1"),
        *("recording", [], "saving"),
    ]
    assert [record.repeats for record in session.records] == [1]
    assert [record.flags for record in records_of(tmp_path)] == [[]]
    assert not Staging(tmp_path / "set").episode_paths()


async def test_a_flagged_last_episode_is_kept_unless_it_is_taken_back(tmp_path):
    arm = Arm()
    arm.frozen = lambda calls: calls > 1
    phases = []
    await session_of(
        tmp_path,
        SessionPlan("T", 1, 0.4, 0.2, max_repeats=0, max_late_ms=0),
        arm,
        on_phase=lambda s, phase: phases.append(phase.value),
        on_tick=lambda s, ticker: s.recorder.clock.advance(0.04),
    )
    assert phases[-2:] == ["resetting", "saving"]
    [record] = records_of(tmp_path)
    assert [flag.split()[0] for flag in record.flags] == ["a", "it", "front"]


async def test_flags_that_come_with_the_last_frames(tmp_path, monkeypatch):
    """Frames still wait for the camera's thread when the episode ends: the flag follows them."""
    gate, seen = threading.Event(), []
    write = LosslessWriter.write

    def slow(self, frame):
        assert gate.wait(30)
        write(self, frame)

    monkeypatch.setattr(LosslessWriter, "write", slow)
    arm = Arm()
    arm.frozen = lambda calls: calls > 1

    def on_episode(session, record):
        seen.append(list(record.flags))
        gate.set()

    session = await session_of(
        tmp_path,
        SessionPlan("T", 1, 0.3, 0, max_repeats=2, max_late_ms=1000),
        arm,
        on_episode=on_episode,
        on_flagged=lambda s, record: seen.append("flagged"),
    )
    assert seen == [[], "flagged"]
    assert session.records[0].flags == ["front repeated 8 frames, the limit is 2"]
    assert records_of(tmp_path)[0].flags == session.records[0].flags


async def test_a_late_episode_is_flagged(tmp_path):
    seen = []

    clock = FakeClock(auto=True)
    async with recorder_for(tmp_path, clock=clock) as recorder:
        plan = SessionPlan("T", 2, 0.3, 0, max_late_ms=50)
        session = Session(recorder, ThreadedRobot(Arm()), Hand(), plan)

        def on_tick(ticker):
            if len(session.records) == 1 and len(ticker.lateness) == 3:
                clock.advance(0.2)

        session.events = SessionEvents(on_tick=on_tick, on_flagged=lambda r: seen.append(r.number))
        await session.run()
    assert seen == [2]
    first, second = records_of(tmp_path)
    assert first.flags == []
    assert second.flags[0] == "a tick was 166.7 ms late, the limit is 50 ms"
    assert [flag.split(",")[0] for flag in second.flags[1:]] == [
        "it was recorded at 11.25 fps",
        "5 of 9 deadlines were missed",
    ]


@pytest.mark.parametrize("limit", [{"max_late_ms": -1.0}, {"max_repeats": -1}])
def test_a_plan_with_a_limit_that_makes_no_sense(limit):
    with pytest.raises(ConfigError, match="must be 0 or more"):
        SessionPlan("T", **limit)


async def test_recording_by_one_call_measures_too(tmp_path):
    async def record():
        robot = ThreadedRobot(Arm())
        async with recorder_for(tmp_path, clock=FakeClock(auto=True)) as recorder:
            await robot.connect()
            await robot.get_observation()  # before the episode: not one of its calls
            await (await recorder.record(robot, Hand(), seconds=0.2, task="Pick"))
            await robot.disconnect()

    await record()
    [record] = records_of(tmp_path)
    assert record.calls["robot.get_observation"]["count"] == 6
    assert (record.cameras[FRONT].stale, record.lateness["ticks"]) == (0, 6)


def test_what_is_wrapped_is_found_and_what_wraps_itself_ends():
    class Wrapper:
        def __init__(self, inner):
            self.inner = inner

    arm = Arm()
    wrapped = Wrapper(Wrapper(ThreadedRobot(arm)))
    assert list(layers(wrapped))[-1] is arm
    assert frame_times(wrapped, FEATURES)() == {FRONT: 0}
    loop = Wrapper(None)
    loop.inner = loop
    assert list(layers(loop)) == [loop]
    assert frame_times(loop, FEATURES) is None
