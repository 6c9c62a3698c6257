"""Reading back: a dataset that aiorecord packed beside one that lerobot wrote of the same frames.

    uv run --extra lerobot python benchmarks/reading.py [--episodes 20] [--frames 150] [--size 320x240]

Opening and random access are measured in turns, one dataset after the other, several times.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

import aiorecord

CAMERA_KEY = "observation.images.front"


def features(size):
    width, height = size
    vector = {"dtype": "float32", "shape": (6,), "names": list("abcdef")}
    camera = {"dtype": "video", "shape": (height, width, 3), "names": ["height", "width", "channels"]}
    return {"observation.state": vector, "action": vector, CAMERA_KEY: camera}


def frames(size, count):
    """Frames of a picture that drifts under grain."""
    width, height = size
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    picture = coarse.repeat(16, 0).repeat(16, 1)[:height, :width]
    for k in range(count):
        grain = rng.integers(0, 4, (height, width, 3), np.uint8)
        vector = np.full(6, k, np.float32)
        yield {"observation.state": vector, "action": vector, CAMERA_KEY: np.roll(picture, k, 1) + grain}


async def record_ours(root, options):
    async with aiorecord.Recorder(
        "bench/ours", root=root, fps=30, features=features(options.size)
    ) as recorder:
        for _ in range(options.episodes):
            async with recorder.episode("Benchmark") as episode:
                for frame in frames(options.size, options.frames):
                    episode.add_frame(frame)
            await episode.save


def record_theirs(root, options):
    dataset = LeRobotDataset.create(
        "bench/theirs",
        30,
        features(options.size),
        root=root,
        streaming_encoding=True,
        encoder_queue_maxsize=10_000,
    )
    for _ in range(options.episodes):
        for frame in frames(options.size, options.frames):
            dataset.add_frame({**frame, "task": "Benchmark"})
        dataset.save_episode()
    dataset.finalize()


def measure(root, options, order):
    """Seconds to open, and milliseconds per item at random."""
    before = time.perf_counter()
    dataset = LeRobotDataset("bench/set", root=root, video_backend=options.backend)
    opened_s = time.perf_counter() - before
    before = time.perf_counter()
    for index in order:
        dataset[int(index)]
    return opened_s, (time.perf_counter() - before) * 1000 / len(order)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--size", default="320x240", type=lambda text: tuple(map(int, text.split("x"))))
    parser.add_argument("--items", type=int, default=300, help="read at random in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default=None, help="torchcodec or pyav; default: lerobot's choice")
    options = parser.parse_args()
    total = options.episodes * options.frames
    with tempfile.TemporaryDirectory() as folder:
        roots = {"aiorecord": Path(folder) / "ours", "lerobot": Path(folder) / "theirs"}
        asyncio.run(record_ours(roots["aiorecord"], options))
        record_theirs(roots["lerobot"], options)
        results = {name: [] for name in roots}
        for round_number in range(options.rounds):
            order = np.random.default_rng(round_number).integers(0, total, options.items)
            for name, root in roots.items():
                results[name].append(measure(root, options, order))
        sizes = {
            name: sum(p.stat().st_size for p in r.rglob("*") if p.is_file()) for name, r in roots.items()
        }
        counts = {name: len(list(r.rglob("*.mp4"))) for name, r in roots.items()}
    print("             open s   ms per item   video files   MB")
    for name, rounds in results.items():
        opened = statistics.median(r[0] for r in rounds)
        item = statistics.median(r[1] for r in rounds)
        print(f"{name:10s} {opened:8.3f} {item:13.2f} {counts[name]:13d} {sizes[name] / 1e6:8.2f}")


if __name__ == "__main__":
    main()
