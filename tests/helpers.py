"""Small episodes with a known content, for tests of every room."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from aiorecord import RGBEncoderConfig

FPS = 30
H264 = RGBEncoderConfig(vcodec="h264", crf=18, preset="ultrafast")
"""A codec that costs little, for tests that are not about codecs."""

FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
    "observation.images.front": {
        "dtype": "video",
        "shape": (48, 64, 3),
        "names": ["height", "width", "channels"],
    },
    "action": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
}
STATES = {key: spec for key, spec in FEATURES.items() if spec["dtype"] != "video"}


def picture(k: int, episode: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth, and different for every frame and episode: (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 3 + 5 * k, y * 4 + 40 * episode, (x + y) * 2 + 3 * k]
    return np.stack([np.abs((c % 256) * 2 - 255) for c in channels], axis=-1).astype(np.uint8)


def make_frame(k: int, episode: int = 0, features: dict = FEATURES) -> dict:
    """Frame k of an episode."""
    frame = {}
    for key, spec in features.items():
        if spec["dtype"] == "video":
            height, width, _ = spec["shape"]
            frame[key] = picture(k, episode, height, width)
        else:
            frame[key] = np.array([k, episode, k / FPS], np.float32) + (key == "action")
    return frame


async def record_episode(recorder, length: int = 10, episode: int = 0, task: str = "Test", **options):
    """Record one episode as fast as it goes; returns its `Episode`."""
    async with recorder.episode(task, **options) as recording:
        for k in range(length):
            recording.add_frame(make_frame(k, episode, dict(recorder.schema.as_dict(defaults=False))))
    return recording


def rows_of(root: Path) -> list[dict]:
    """Every row of a dataset, in order."""
    files = sorted((root / "data").glob("*/*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def episodes_of(root: Path) -> list[dict]:
    """Every episode of a dataset's metadata, in order."""
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def videos_of(root: Path) -> list[Path]:
    """The videos in which the episodes of a dataset are; those that packing has replaced are left out."""
    keys = [path.name for path in root.glob("videos/*")]
    names = {
        f"videos/{key}/chunk-{row[f'videos/{key}/chunk_index']:03d}"
        f"/file-{row[f'videos/{key}/file_index']:03d}.mp4"
        for row in episodes_of(root)
        for key in keys
    }
    return sorted(root / name for name in names)


def leaked() -> tuple[set[str], set[str]]:
    """Names of tasks and threads of aiorecord that are still there."""
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    threads = {thread.name for thread in threading.enumerate()}
    return {n for n in tasks if "aiorecord" in n}, {n for n in threads if "aiorecord" in n}
