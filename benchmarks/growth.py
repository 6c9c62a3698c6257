"""Measures the cost of a save as a dataset grows: a thousand short episodes.

    uv run --extra bench python benchmarks/growth.py [--episodes 1000] [--frames 8] [--size 96x64]
        [--codec h264] [--plot growth.svg] [--json growth.json]

Episodes of a few frames and two small cameras are recorded one after another. Each is awaited, so that the
time from encoded to committed is that of its commit alone. Bytes are those that the processes handed to the
operating system.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import aiorecord
from aiorecord.bench.resource_usage import tree_rss_bytes
from aiorecord.bench.svg import shrink

CAMERAS = ("observation.images.front", "observation.images.wrist")


def features(size):
    width, height = size
    vector = {"dtype": "float32", "shape": (6,), "names": list("abcdef")}
    camera = {"dtype": "video", "shape": (height, width, 3), "names": ["height", "width", "channels"]}
    return {"observation.state": vector, "action": vector, **dict.fromkeys(CAMERAS, camera)}


def make_frames(size, count):
    """Frames of a noisy picture that drifts: neither still nor pure noise."""
    width, height = size
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    picture = coarse.repeat(16, 0).repeat(16, 1)[:height, :width]
    grain = rng.integers(0, 4, (4, height, width, 3), np.uint8)
    frames = []
    for k in range(count):
        image = np.roll(picture, k, 1) + grain[k % 4]
        vector = np.full(6, k, np.float32)
        images = dict.fromkeys(CAMERAS, image)
        frames.append({"observation.state": vector, "action": vector, **images})
    return frames


def open_files():
    """How many files this process has open; 0 where the system does not tell."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def written(pids):
    """Bytes written by this process and others, by any means."""
    total = 0
    for pid in ("self", *pids):
        try:
            lines = Path(f"/proc/{pid}/io").read_text().split("\n")
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("wchar"))
    return total


def size_of(folder, suffixes=()):
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files if not suffixes or path.suffix in suffixes)


async def measure(root, episodes, codec, size, count):
    """One point per episode, and the totals."""
    encoder = aiorecord.RGBEncoderConfig(vcodec=codec, preset=None if codec == "libsvtav1" else "ultrafast")
    points, captured, frames = [], 0, make_frames(size, count)
    async with aiorecord.Recorder(
        "bench/growth", root=root, fps=30, features=features(size), rgb_encoder=encoder, encode="deferred"
    ) as recorder:
        last_ns, before = None, written(recorder.saver.executor.pids())
        for _ in range(episodes):
            async with recorder.episode("Benchmark") as episode:
                begun_ns = time.perf_counter_ns()
                for frame in frames:
                    episode.add_frame(frame)
            await episode.save.durable()
            captured += size_of(episode.save.job.folder.path, (".frames", ".mkv", ".arrows", ".hist"))
            result = await episode.save
            points.append(
                {
                    "commit_ms": (result.committed_s - result.encoded_s) * 1000,
                    "begin_ms": 0.0 if last_ns is None else (begun_ns - last_ns) / 1e6,
                    "memory_mb": tree_rss_bytes() / 2**20,
                    "open_files": open_files(),
                }
            )
            last_ns = time.perf_counter_ns()
        pids = recorder.saver.executor.pids()
        started = time.perf_counter()
        await recorder.pack()
        packing_s = time.perf_counter() - started
        total = written(pids) - before
    final = size_of(root)
    return points, {
        "episodes": episodes,
        "packing_s": packing_s,
        "final_bytes": final,
        "captured_bytes": captured,
        "written_bytes": total,
        "times_written": (total - captured) / final,
    }


def window(points, name, middle, half, best=min):
    return best(point[name] for point in points[max(0, middle - half) : middle + half + 1])


def draw(points, path):
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(4, 1, figsize=(8, 8), sharex=True, layout="constrained")
    names = {
        "commit_ms": "commit, ms",
        "begin_ms": "begin of the\nnext episode, ms",
        "memory_mb": "memory, MB",
        "open_files": "open files",
    }
    for panel, (name, title) in zip(panels, names.items(), strict=True):
        panel.plot([point[name] for point in points], ".", markersize=2)
        panel.set_ylabel(title)
        panel.set_ylim(bottom=0)
    panels[-1].set_xlabel("episode")
    figure.savefig(path)
    shrink(path)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=8, help="of each episode")
    parser.add_argument("--size", default="96x64")
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--plot", type=Path, help="draw it here (needs the extra `bench`)")
    parser.add_argument("--json", type=Path, help="keep the points here")
    parser.add_argument(
        "--window",
        type=int,
        default=25,
        help="episodes around each point; the fastest counts: others met a busy disk",
    )
    options = parser.parse_args()
    size = tuple(int(part) for part in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        points, totals = asyncio.run(
            measure(Path(folder) / "set", options.episodes, options.codec, size, options.frames)
        )
    if options.json:
        options.json.write_text(json.dumps({"points": points, **totals}))
    if options.plot:
        draw(points, options.plot)
    half = options.window // 2
    places = [min(half, options.episodes - 1), options.episodes // 2, max(0, options.episodes - 1 - half)]
    print("episode  commit ms  begin ms  memory MB  open files")
    for place in places:
        begin = window(points, "begin_ms", place, half, best=lambda values: sorted(values)[half // 2])
        print(
            f"{place:7d} {window(points, 'commit_ms', place, half):10.1f} {begin:9.2f} "
            f"{points[place]['memory_mb']:10.0f} {points[place]['open_files']:11d}"
        )
    print(
        f"packing took {totals['packing_s']:.1f} s; {totals['final_bytes'] / 1e6:.1f} MB in the dataset, "
        f"{totals['captured_bytes'] / 1e6:.1f} MB captured, {totals['written_bytes'] / 1e6:.1f} MB written: "
        f"the dataset {totals['times_written']:.2f} times, and the captures"
    )


if __name__ == "__main__":
    main()
