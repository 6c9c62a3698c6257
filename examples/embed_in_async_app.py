"""Record inside your own asyncio program, with your own robot.

    uv run python examples/embed_in_async_app.py [FOLDER]

The robot is a class of your own with async methods. Two episodes are recorded; the second one runs while the
first is still being saved.
"""

import asyncio
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

import aiorecord

FPS = 30


class PaintingRobot:
    """A two-joint plotter with a camera, in place of your program's robot."""

    name = "plotter"

    def __init__(self) -> None:
        self.observation_features: dict[str, Any] = {
            "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
            "observation.images.top": {
                "dtype": "video",
                "shape": (240, 320, 3),
                "names": ["height", "width", "channels"],
            },
        }
        self.action_features: dict[str, Any] = {
            "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
        }
        self.position = np.zeros(2, np.float32)
        self.paper = np.full((240, 320, 3), 235, np.uint8)

    async def get_observation(self) -> dict[str, Any]:
        x, y = (self.position * 90 + (160, 120)).astype(int)
        self.paper[y - 2 : y + 3, x - 2 : x + 3] = (30, 60, 160)
        return {"observation.state": self.position, "observation.images.top": self.paper}

    async def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self.position = self.position + 0.5 * (action["action"] - self.position)
        return action


async def record_one(
    recorder: aiorecord.Recorder, robot: PaintingRobot, task: str, frequency: float
) -> aiorecord.EpisodeSave:
    """One episode of two seconds; returns the handle of its save."""
    async with recorder.episode(task=task) as episode:
        async for tick in recorder.ticks(seconds=2):
            observation = await robot.get_observation()
            angle = frequency * tick.index / FPS
            action = {"action": np.array([math.cos(angle), math.sin(2 * angle)], np.float32)}
            await robot.send_action(action)
            episode.add_frame(observation, action)
    return episode.save


async def main(root: Path) -> None:
    robot = PaintingRobot()
    features = {**robot.observation_features, **robot.action_features}
    async with aiorecord.Recorder(
        "me/painting", root=root, fps=FPS, features=features, robot_type=robot.name
    ) as recorder:
        first = await record_one(recorder, robot, "Draw an eight", 3.0)
        second = await record_one(recorder, robot, "Draw a fast eight", 6.0)  # the first is saved meanwhile
        for save in (first, second):
            result = await save
            print(
                f"episode {result.episode_index}: {result.length} frames, "
                f"on disk after {result.durable_s:.2f} s, in the dataset after {result.committed_s:.2f} s"
            )
    print(f"load it: LeRobotDataset('me/painting', root={str(root)!r})")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/painting")))
