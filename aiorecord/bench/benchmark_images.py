"""Makes a benchmark's pictures before the measurement, so that making them is not measured."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..robots.connecting import connected
from ..robots.replay.film import probe
from ..robots.replay.video_source import Clip, endless_frames, rgb_converter
from ..robots.sim.sim_robot import CameraSpec, SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator
from .cell import Cell

RING_BYTES = 96 << 20
"""Memory for the pictures of all cameras together."""

MOST_FRAMES = 90


class FrameRing:
    """A few seconds of pictures, played forwards and backwards, so that motion never jumps.

    Args:
        pictures: by feature key, the same number for each camera, (H, W, 3) uint8.
    """

    def __init__(self, pictures: dict[str, list[NDArray[np.uint8]]]) -> None:
        self._pictures = pictures
        self._count = min(len(frames) for frames in pictures.values())
        self.nbytes = sum(frame.nbytes for frames in pictures.values() for frame in frames)

    def frame(self, index: int) -> dict[str, Any]:
        """The dataset's frame for a tick, values for every feature."""
        joints = np.sin(np.arange(6, dtype=np.float32) + index / 30)
        images = {key: self.picture(key, index) for key in self._pictures}
        return {"observation.state": joints, "action": joints, **images}

    def picture(self, key: str, index: int) -> NDArray[np.uint8]:
        """One camera's picture at a tick."""
        period = max(1, 2 * self._count - 2)
        place = index % period
        return self._pictures[key][min(place, period - place)]


def make_ring(cell: Cell) -> FrameRing:
    """Render or decode the pictures of a cell. Takes seconds.

    Raises:
        ConfigError: there is no such video.
        SourceError: the video cannot be decoded.
    """
    size = cell.width * cell.height * 3 * cell.cameras
    count = max(2, min(MOST_FRAMES, cell.frames_per_episode, RING_BYTES // size))
    if cell.source == "sim":
        return FrameRing(asyncio.run(_render(cell, count)))
    return FrameRing(_decode(cell, count))


async def _render(cell: Cell, count: int) -> dict[str, list[NDArray[np.uint8]]]:
    cameras = {name: CameraSpec(cell.width, cell.height, cell.fps) for name in cell.camera_names}
    robot = SimRobot(SimRobotConfig(fps=cell.fps, cameras=cameras))
    teleop = SimTeleoperator(SimTeleopConfig(fps=cell.fps))
    pictures: dict[str, list[NDArray[np.uint8]]] = {f"observation.images.{n}": [] for n in cameras}
    async with connected(robot, teleop):
        for _ in range(count):
            observation = await robot.get_observation()
            for key, frames in pictures.items():
                frames.append(observation[key])
            await robot.send_action(await teleop.get_action())
    return pictures


def check_source(source: str) -> None:
    """Check that there are pictures, before anything is measured with them.

    Args:
        source: see `Cell`.

    Raises:
        ConfigError: the file is missing, or is not a video.
    """
    if source.startswith("video:"):
        probe(Path(source.removeprefix("video:")).expanduser(), "source")


def _decode(cell: Cell, count: int) -> dict[str, list[NDArray[np.uint8]]]:
    path = Path(cell.source.removeprefix("video:")).expanduser()
    check_source(cell.source)
    pictures = {}
    for number, name in enumerate(cell.camera_names):
        frames = endless_frames([Clip(path)], rgb_converter(cell.width, cell.height))
        # Each camera starts a little later in the video, so that no two encode the same pictures.
        shown = itertools.islice(frames, number * 7, number * 7 + count)
        pictures[f"observation.images.{name}"] = [np.ascontiguousarray(frame) for frame in shown]
        frames.close()
    return pictures
