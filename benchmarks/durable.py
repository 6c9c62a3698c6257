"""Measures how long after its end an episode is durable: when idle, beside busy programs, on a slow disk.

    uv run python benchmarks/durable.py [--episodes 20] [--seconds 3] [--cameras 2] [--size 640x480]
        [--codec libsvtav1] [--encode deferred] [--load 2] [--fsync_ms 100] [--realtime] [--json FILE]

Episodes are recorded one right after another, each save running during the next episode, as in
sessions. "ended" is the moment in which the episode's block is left (its last frame was added just before),
"durable" the one in which its save reports that stage: from then on neither `kill -9` nor power loss destroys
any of it. Load is the number of programs per core that compute all the time; on a slow disk each fsync takes
that much longer.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiorecord
from aiorecord.bench.benchmark_images import make_ring
from aiorecord.bench.cell import Cell


def slow_down_fsync(delay_s):
    """Let every fsync of this process take this much longer."""
    fsync = os.fsync

    def slow(descriptor):
        fsync(descriptor)
        time.sleep(delay_s)

    os.fsync = slow


@contextlib.contextmanager
def busy(count):
    """Run this many computing programs inside the block."""
    command = [sys.executable, "-c", "while True: pass"]
    programs = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


async def measure(options, cell, ring, folder):
    """Seconds from the end of each episode to durable."""
    vector = {"dtype": "float32", "shape": (6,), "names": [f"joint{n}" for n in range(6)]}
    image = {
        "dtype": "video",
        "shape": (cell.height, cell.width, 3),
        "names": ["height", "width", "channels"],
    }
    features = dict.fromkeys(("observation.state", "action"), vector)
    features |= {f"observation.images.{name}": image for name in cell.camera_names}
    recorder = await aiorecord.open(
        "bench/durable",
        root=folder / "set",
        fps=30,
        features=features,
        rgb_encoder=aiorecord.RGBEncoderConfig(vcodec=options.codec),
        encode=options.encode,
        min_free_gb=0,
    )
    saves = []
    try:
        with aiorecord.realtime() if options.realtime else contextlib.nullcontext():
            for _ in range(options.episodes):
                async with recorder.episode("Benchmark") as episode:
                    async for tick in recorder.ticks(options.seconds):
                        episode.add_frame(ring.frame(tick.index), copy=False)
                saves.append(episode.save)
            for save in saves:
                await save.durable()
    finally:
        await recorder.aclose(drain=False)  # what is not encoded is of no use here
    return [save.times.seconds_to("durable") for save in saves]


def run(options, load, fsync_ms):
    """One setting, in a process of its own; seconds per episode."""
    arguments = [f"--{name}={getattr(options, name)}" for name in ("episodes", "seconds", "cameras", "size")]
    arguments += [f"--codec={options.codec}", f"--encode={options.encode}", f"--fsync_ms={fsync_ms}"]
    arguments += ["--realtime"] if options.realtime else []
    with busy(load * (os.cpu_count() or 1)):
        command = [sys.executable, __file__, "--child", *arguments]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def row(name, seconds):
    """A line of the table, in milliseconds."""
    ordered = sorted(seconds)
    picked = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0, 0.5, 0.9)]
    figures = "".join(f"{1000 * value:9.0f}" for value in (*picked, ordered[-1]))
    return f"{name:28s}{len(ordered):9d}{figures}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--codec", default="libsvtav1")
    parser.add_argument("--encode", default="deferred", choices=["deferred", "live", "auto"])
    parser.add_argument("--load", type=int, default=2, help="busy programs per core")
    parser.add_argument("--fsync_ms", type=float, default=100, help="of the slow disk")
    parser.add_argument("--realtime", action="store_true", help="as `aiorecord record` has it where it may")
    parser.add_argument("--json", help="keep all figures here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if options.fsync_ms:
            slow_down_fsync(options.fsync_ms / 1000)
        width, height = map(int, options.size.split("x"))
        cell = Cell(options.cameras, width, height, seconds=options.seconds)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(asyncio.run(measure(options, cell, make_ring(cell), Path(folder)))))
        return
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{options.cameras}x{options.size}@30, {options.encode}, {os.cpu_count()} cores, load {load:.1f}")
    print(f"{'ms from ended to durable':28s}{'episodes':>9s}{'least':>9s}{'p50':>9s}{'p90':>9s}{'most':>9s}")
    found = {}
    busy_text = f"{options.load} busy per core"
    slow_text = f"fsync +{options.fsync_ms:g} ms"
    for name, count, fsync_ms in (
        ("quiet", 0, 0),
        (busy_text, options.load, 0),
        (slow_text, 0, options.fsync_ms),
        (f"{busy_text}, {slow_text}", options.load, options.fsync_ms),
    ):
        found[name] = run(options, count, fsync_ms)
        print(row(name, found[name]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
