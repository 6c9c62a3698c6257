"""The same episodes, saved in the foreground and behind the robot: how long does the operator wait?

    uv run python examples/demo_async_saving.py [FOLDER]

Prints the waiting time after each episode, and a picture of both timelines:
`#` recording, `.` waiting for a save, `-` saving behind the robot.
"""

import asyncio
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path

import aiorecord
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator

EPISODES, SECONDS, FPS = 3, 2.0, 30
COLUMNS = 72


async def record(root, async_saving):
    """Record the episodes; returns (recording spans, total time) in seconds from the first frame."""
    robot, teleop = SimRobot(SimRobotConfig(seed=1)), SimTeleoperator(SimTeleopConfig(seed=1))
    features = aiorecord.dataset_features(robot.observation_features, teleop.action_features)
    spans = []
    async with aiorecord.Recorder(
        "demo/saving", root=root, fps=FPS, features=features, async_saving=async_saving
    ) as recorder:
        await robot.connect()
        await teleop.connect()
        start = time.perf_counter()
        for _ in range(EPISODES):
            async with recorder.episode(task="Pick up the cube") as episode:
                begun = time.perf_counter() - start
                async for _ in recorder.ticks(seconds=SECONDS):
                    episode.add_frame(await aiorecord.control_step(robot, teleop, recorder.features))
                ended = time.perf_counter() - start
            spans.append((begun, ended))
        await recorder.drain()
        total = time.perf_counter() - start
        await robot.disconnect()
        await teleop.disconnect()
    return spans, total


def timeline(spans, total, scale, idle):
    """One line of text for one run."""
    line = list((idle * round(total * scale)).ljust(COLUMNS))
    for begun, ended in spans:
        for column in range(round(begun * scale), max(round(begun * scale) + 1, round(ended * scale))):
            line[min(column, COLUMNS - 1)] = "#"
    return "".join(line).rstrip()


async def main(root):
    runs = {}
    for name, async_saving in (("in the foreground", False), ("behind the robot", True)):
        folder = root / name.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        runs[name] = await record(folder, async_saving)
    scale = (COLUMNS - 1) / max(total for _, total in runs.values())
    for name, (spans, total) in runs.items():
        waits = [later[0] - earlier[1] for earlier, later in pairwise(spans)]
        shown = ", ".join(f"{wait * 1000:.0f} ms" for wait in waits)
        print(f"saved {name}: waited {shown} between episodes; all in the dataset after {total:.1f} s")
        print("  " + timeline(spans, total, scale, "-" if "behind" in name else "."))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/demo-async-saving")))
