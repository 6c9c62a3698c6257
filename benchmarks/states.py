"""Fast loops of states only: how late ticks are at 200 and 500 Hz, while earlier episodes are saved.

uv run python benchmarks/states.py [--rates 200,500] [--episodes 3] [--seconds 10]
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import aiorecord

VECTOR = {"dtype": "float32", "shape": (14,), "names": [f"joint{n}" for n in range(14)]}
FEATURES = {"observation.state": VECTOR, "observation.velocity": VECTOR, "action": VECTOR}


async def measure(root, rate, episodes, seconds):
    """Lateness and add_frame durations in ms, missed ticks."""
    late, added, missed = [], [], 0
    with aiorecord.realtime():  # where it is allowed, as `aiorecord record` does
        async with aiorecord.Recorder("bench/states", root=root, fps=rate, features=FEATURES) as recorder:
            for _ in range(episodes):
                async with recorder.episode("Benchmark") as episode:
                    async for tick in recorder.ticks(seconds):
                        state = np.full(14, tick.index, np.float32)
                        before_ns = time.perf_counter_ns()
                        episode.add_frame(dict.fromkeys(FEATURES, state))
                        added.append((time.perf_counter_ns() - before_ns) / 1e6)
                        late.append(tick.late_s * 1000)
                        missed += tick.missed
    return late, added, missed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", default="200,500")
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{os.cpu_count()} cores, load {load:.1f}")
    print("   Hz   ticks  missed  late p50    p99     max ms  add_frame p50    p99 ms")
    for rate in map(int, options.rates.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            run = measure(Path(folder) / "set", rate, options.episodes, options.seconds)
            late, added, missed = asyncio.run(run)
        p50, p99 = np.percentile(late, [50, 99])
        add50, add99 = np.percentile(added, [50, 99])
        print(
            f"{rate:5d} {len(late):7d} {missed:7d} {p50:9.3f} {p99:6.3f} {max(late):10.3f} "
            f"{add50:14.3f} {add99:6.3f}"
        )


if __name__ == "__main__":
    main()
