"""Every Python block of the pages is run by a test: here, beside, or with lerobot."""

import asyncio
import re
import textwrap

import pytest
from command_blocks import ROOT, fences
from helpers import FEATURES, FPS, H264
from jpegs import jpeg

import aiorecord
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleoperator

RUN_BY = {
    "aiorecord.Recorder(\n": "test_docs",
    "control_step(": "test_docs",
    "aiorecord.open(": "test_docs",
    "SessionPlan(": "test_docs",
    "recorder.events()": "test_docs_python",
    "aiorecord.guarded(": "test_docs_python",
    "aiorecord.EncodedImage(": "test_docs_python",
    "make_devices(": "test_devices_hardware",
    'LeRobotDataset("demo/': "test_docs_dropin",
    "AsyncLeRobotDataset.create(": "test_docs_dropin",
    "aiorecord.lerobot.install(": "test_docs_dropin",
    "temporary_recorder(": "test_fakes",
    "aiorecord_recorder(": "test_fakes",
}
"""What is in a block, and the file of the test that runs it."""


def python_blocks():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        name = page.relative_to(ROOT).as_posix()
        yield from ((name, text) for kind, text in fences(name) if kind == "python")


def test_each_is_run():
    assert len(list(python_blocks())) > 10
    for page, text in python_blocks():
        assert any(mark in text for mark in RUN_BY), f"{page}: no test runs this block:\n{text}"
    for mark, test in RUN_BY.items():
        assert any(mark in text for _, text in python_blocks()), f"{mark} is in no page"
        (file,) = ROOT.glob(f"tests/**/{test}.py")
        assert mark.split("(")[0] in file.read_text(), f"{test} has no {mark}"


def block(mark):
    (found,) = [text for page, text in python_blocks() if mark in text and page == "docs/python-api.md"]
    return re.sub(r"seconds=10\b", "seconds=0.3", found)


async def run(code, names):
    body = textwrap.indent(code, "    ")
    space = {"aiorecord": aiorecord, **names}
    exec(f"async def page():\n{body}\n    return locals()", space)
    return await space["page"]()


@pytest.fixture
def devices():
    return SimRobot(SimRobotConfig(cameras={})), SimTeleoperator()


def recorder_for(root, robot, teleop):
    features = aiorecord.dataset_features(robot.observation_features, teleop.action_features)
    clock = aiorecord.FakeClock(auto=True)
    options = {"rgb_encoder": H264, "encode_workers": 1, "clock": clock}
    return aiorecord.Recorder("me/x", root=root / "set", fps=FPS, features=features, **options)


def test_the_events(tmp_path, devices, capsys):
    async def main():
        robot, teleop = devices
        async with recorder_for(tmp_path, robot, teleop) as recorder:
            show = (await run(block("recorder.events()"), {}))["show"]
            showing = asyncio.create_task(show(recorder))
            await asyncio.sleep(0)
            plan = aiorecord.SessionPlan("x", num_episodes=1, episode_time_s=0.2, reset_time_s=0)
            await aiorecord.Session(recorder, robot, teleop, plan).run()
        await showing

    asyncio.run(main())
    out = capsys.readouterr().out
    for line in (f"{round(0.2 * FPS)} frames: saved", "x: committed", "recording: episode 1 of 1"):
        assert line in out


def test_the_guards(tmp_path, devices):
    async def main():
        robot, teleop = devices
        await robot.connect()
        await teleop.connect()
        try:
            async with recorder_for(tmp_path, robot, teleop) as recorder:
                names = {"robot": robot, "teleop": teleop, "recorder": recorder}
                save = (await run(block("aiorecord.guarded("), names))["save"]
                return await save
        finally:
            await robot.disconnect()
            await teleop.disconnect()

    assert asyncio.run(main()).length == round(0.3 * FPS)


async def test_the_compressed_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "front.jpg").write_bytes(jpeg(0))
    async with aiorecord.Recorder(
        "me/x", root=tmp_path / "set", fps=FPS, features=FEATURES, rgb_encoder=H264
    ) as recorder:
        episode = (await run(block("aiorecord.EncodedImage("), {"recorder": recorder}))["episode"]
        assert (await episode.save).length == 1
