"""What a save costs as a dataset grows: commits of many short episodes, the fifth against the two-hundredth.

    uv run python benchmarks/save_cost.py [--episodes 210] [--window 15]

Episodes of five frames and two small cameras are recorded one after another; each is awaited, so that the
time from encoded to committed is that of its commit alone.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import aiorecord

CAMERA = {"dtype": "video", "shape": (64, 96, 3), "names": ["height", "width", "channels"]}
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (6,), "names": list("abcdef")},
    "observation.images.front": CAMERA,
    "observation.images.wrist": CAMERA,
    "action": {"dtype": "float32", "shape": (6,), "names": list("abcdef")},
}


def frame(k):
    image = np.full((64, 96, 3), 10 * k, np.uint8)
    vector = np.full(6, k, np.float32)
    return {
        "observation.state": vector,
        "observation.images.front": image,
        "observation.images.wrist": image,
        "action": vector,
    }


def open_files():
    """How many files this process has open; 0 where the system does not tell."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


async def measure(root, episodes):
    """Milliseconds of each commit, open files before and after."""
    encoder = aiorecord.RGBEncoderConfig(vcodec="h264", preset="ultrafast")
    costs, files = [], []
    async with aiorecord.Recorder(
        "bench/cost", root=root, fps=30, features=FEATURES, rgb_encoder=encoder
    ) as recorder:
        for _ in range(episodes):
            async with recorder.episode("Benchmark") as episode:
                for k in range(5):
                    episode.add_frame(frame(k))
            result = await episode.save
            costs.append((result.committed_s - result.encoded_s) * 1000)
            files.append(open_files())
        started = time.perf_counter()
        await recorder.pack()
        packing_s = time.perf_counter() - started
    return costs, files, packing_s


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=210)
    parser.add_argument(
        "--window",
        type=int,
        default=15,
        help="episodes around each point; the fastest counts: others met a busy disk",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs, files, packing_s = asyncio.run(measure(Path(folder) / "set", options.episodes))
    half = options.window // 2
    points = [half, options.episodes // 2, options.episodes - 1 - half]
    fastest = [min(costs[max(0, p - half) : p + half + 1]) for p in points]
    for point, cost in zip(points, fastest, strict=True):
        print(f"episode {point:4d}: commit {cost:6.1f} ms, {files[point]} open files")
    print(f"last against first: {fastest[-1] / fastest[0]:.2f}; packing everything took {packing_s:.1f} s")


if __name__ == "__main__":
    main()
