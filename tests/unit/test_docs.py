"""The code in the pages runs as it stands there."""

import re
import textwrap
from pathlib import Path

import pytest
from helpers import episodes_of

import aiorecord
from aiorecord.robots import CameraSpec, SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator

ROOT = Path(__file__).parents[2]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


async def execute(code, names):
    """Run code with top-level await, as a notebook does; episodes last a tenth of what the page says."""
    code = re.sub('root="data/[^"]*"', "root=root", code.replace("seconds=10", "seconds=1"))
    code = code.replace("_s=10", "_s=1").replace("_s=3", "_s=0.2")
    body = textwrap.indent(code, "    ")
    space = {"aiorecord": aiorecord, **names}
    exec(f"async def main():\n{body}\n    return locals()", space)

    robot = names["robot"]
    teleop = names["teleop"]
    await robot.connect()
    await teleop.connect()
    try:
        return await space["main"]()
    finally:
        await robot.disconnect()
        await teleop.disconnect()


@pytest.fixture
def names(tmp_path, steady_clock):
    robot = SimRobot(SimRobotConfig(cameras={"front": CameraSpec(width=96, height=64)}))
    teleop = SimTeleoperator(SimTeleopConfig())
    features = {**robot.observation_features, **teleop.action_features}
    return {"robot": robot, "teleop": teleop, "features": features, "root": tmp_path / "set"}


@pytest.mark.parametrize("page", ["README.md", "docs/python-api.md"])
async def test_the_recorder_example(page, names):
    (code,) = [block for block in blocks(page) if "aiorecord.Recorder(" in block]
    result = (await execute(code, names))["result"]
    assert (result.episode_index, result.length) == (0, 30)
    assert episodes_of(names["root"])[0]["length"] == 30


async def test_the_frame_lines(names):
    (code,) = [block for block in blocks("docs/python-api.md") if "control_step" in block]
    opened = """
async with aiorecord.Recorder("me/x", root=root, fps=30, features=features) as recorder:
"""
    await execute(opened + textwrap.indent(code.replace("150", "20"), "    "), names)
    assert episodes_of(names["root"])[0]["tasks"] == ["Pick up", "Put down"]


async def test_the_notebook_lines(names):
    (code,) = [block for block in blocks("docs/python-api.md") if "aiorecord.open" in block]
    await execute(code, names)
    assert episodes_of(names["root"])[0]["length"] == 30


async def test_the_session_lines(names):
    (code,) = [block for block in blocks("docs/python-api.md") if "SessionPlan" in block]
    opened = """
async with aiorecord.Recorder("me/x", root=root, fps=30, features=features) as recorder:
"""
    records = (await execute(opened + textwrap.indent(code, "    "), names))["records"]
    assert [record.frames for record in records] == [30] * 5
    assert [e["length"] for e in episodes_of(names["root"])] == [30] * 5


def test_every_link_of_the_pages_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
