"""Importing what a recorder needs does not hold up the event loop it is used on."""

import json
import subprocess
import sys

PROGRAM = """
import asyncio, json, sys, threading

imported, phase = {}, ["import"]

class Watch:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            imported.setdefault(phase[0], []).append(name)

sys.meta_path.insert(0, Watch())
import aiorecord

FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
    "observation.images.front": {"dtype": "video", "shape": (48, 64, 3), "names": ["h", "w", "channels"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
}

class Device:
    name, is_connected = "device", True
    observation_features = {key: FEATURES[key] for key in list(FEATURES)[:2]}
    action_features = {"action": FEATURES["action"]}
    async def connect(self): pass
    async def disconnect(self): pass
    async def get_action(self): return {"action": [1.0, 2.0]}
    async def send_action(self, action): return action
    async def get_observation(self):
        import numpy

        picture = numpy.zeros((48, 64, 3), numpy.uint8)
        return {"observation.state": [1.0, 2.0], "observation.images.front": picture}

async def main():
    phase[0] = "make"
    recorder = aiorecord.Recorder(
        "me/x", root=sys.argv[1], fps=30, features=FEATURES, encode_workers=1, encode="deferred",
        rgb_encoder=aiorecord.RGBEncoderConfig(vcodec="h264", preset="ultrafast"),
        clock=aiorecord.FakeClock(auto=True),
    )
    phase[0] = "early"
    from aiorecord.robots import Fault, FaultyRobot, ThreadedRobot

    robot = Device()
    aiorecord.dataset_features(robot.observation_features, robot.action_features)
    aiorecord.guarded(robot, robot, FEATURES, aiorecord.SourcePolicy(), fps=30)
    plan = aiorecord.SessionPlan("x", num_episodes=2, episode_time_s=0.2, reset_time_s=0.1)
    session = aiorecord.Session(recorder, robot, robot, plan, aiorecord.SessionEvents())
    recorder.get_status()
    phase[0] = "open"
    async with recorder:
        phase[0] = "record"
        async with recorder.episode("x") as episode:
            async for tick in recorder.ticks(seconds=0.2):
                episode.add_frame(await robot.get_observation(), await robot.get_action())
        await episode.save
        await session.run()
        aiorecord.StatusView(recorder)._repr_html_()
        await recorder.drain()
        await recorder.pack()
    phase[0] = "end"

asyncio.run(main())
print(json.dumps(imported))
"""


def test_nothing_heavy_is_imported_on_the_loop_and_nothing_at_all_once_it_is_open(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "set")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout)
    for phase in ("import", "make", "early", "open"):
        heavy = {name.split(".")[0] for name in imported.get(phase, [])} & {"av", "numpy", "pyarrow", "PIL"}
        assert not heavy, phase
    own = [name for name in imported.get("open", []) if name.startswith("aiorecord")]
    assert own == ["aiorecord.preload"] * len(own), "but for asking whether it is there"
    assert imported.get("record", []) == []
