"""Record with capture encoders that have ten times the work, and compare with a recording without.

    uv run python benchmarks/overload.py --rounds 2 --seconds 60

`aiorecord record` with the simulated robot, in a process of its own, in turns: once as it is ("plain"), once
with every frame encoded nine times more in the capture thread, for nothing ("slowed"). Printed: frames
captured, lost and spilled, how late the ticks were, the ratio of both, and the peak memory of all processes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def child(slow, arguments):
    """The command, in this process; does not return."""
    from aiorecord.cli import main
    from aiorecord.staging import lossless
    from aiorecord.staging.lossless import LosslessWriter

    class Slowed(LosslessWriter):
        def __init__(self, path, settings, fps):
            super().__init__(path, settings, fps)
            names = [f"waste{n}-{path.name}" for n in range(slow - 1)]
            self._waste = [LosslessWriter(path.with_name(name), settings, fps) for name in names]

        def write(self, frame):
            super().write(frame)
            for waste in self._waste:
                waste.write(frame)

        def close(self):
            super().close()
            for waste in self._waste:
                waste.close()
                waste.path.unlink()

    if slow > 1:
        lossless.LosslessWriter = Slowed
    raise SystemExit(main(arguments))


def record(options, slow, folder):
    """One recording; returns its report."""
    width, height = options.size.split("x")
    names = ["front", "wrist", "side", "top"][: options.cameras]
    cameras = ", ".join(f"{name}: {{width: {width}, height: {height}}}" for name in names)
    report = folder / "report.json"
    arguments = ["record", "--robot.type=sim", f"--robot.cameras={{{cameras}}}", "--teleop.type=sim"]
    arguments += ["--dataset.repo_id=bench/set", f"--dataset.root={folder / 'set'}"]
    arguments += ["--dataset.single_task=Benchmark", f"--dataset.num_episodes={options.episodes}"]
    arguments += [f"--dataset.episode_time_s={options.seconds}", "--dataset.reset_time_s=0"]
    arguments += [f"--dataset.rgb_encoder.vcodec={options.codec}", "--encode=deferred"]
    arguments += [f"--buffer_mb={options.buffer_mb}"]
    arguments += ["--display=none", "--play_sounds=false", f"--report={report}"]
    subprocess.run([sys.executable, __file__, "--child", str(slow), *arguments], check=True)
    return json.loads(report.read_text())


TITLE = "round  which    captured  lost  spilled  late p50    p99  max ms  missed  peak MB"


def line(number, which, report):
    """One recording: a line of the table, and its figures (lateness as the mean over the episodes)."""
    cameras = [camera for episode in report["episodes"] for camera in episode["cameras"].values()]
    late = [episode["lateness"] for episode in report["episodes"]]
    captured, lost, spilled = (sum(c[name] for c in cameras) for name in ("captured", "lost", "spilled"))
    p50, p99 = (statistics.mean(one[name] for one in late) for name in ("p50_ms", "p99_ms"))
    most, missed = max(one["max_ms"] for one in late), sum(one["missed"] for one in late)
    memory = report["session"]["peak_rss_bytes"] / 1e6
    text = (
        f"{number:5d}  {which:7s} {captured:9d} {lost:5d} {spilled:8d} {p50:9.2f} {p99:6.2f} {most:7.2f} "
        f"{missed:7d} {memory:8.0f}"
    )
    return text, {"p50": p50, "p99": p99, "max": most, "memory": memory, "lost": lost, "spilled": spilled}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often both are recorded")
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="of each episode; 60 is lerobot's default")
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--slow", type=int, default=10, help="times the work of the capture encoder")
    parser.add_argument("--buffer_mb", type=float, default=256)
    parser.add_argument("--json", help="keep all figures here")
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    setting = f"{options.cameras}x{options.size}@30 {options.codec}, buffer {options.buffer_mb:g} MB"
    print(f"{setting}, {os.cpu_count()} cores, load {load:.1f}")
    print(TITLE, flush=True)
    found = {"plain": [], "slowed": []}
    for number in range(1, options.rounds + 1):
        for which, slow in (("plain", 1), ("slowed", options.slow)):
            with tempfile.TemporaryDirectory() as folder:
                text, figures = line(number, which, record(options, slow, Path(folder)))
            found[which].append(figures)
            print(text, flush=True)
    names = ("p50", "p99", "max", "memory")
    middle = {
        which: {name: statistics.median(one[name] for one in all_) for name in names}
        for which, all_ in found.items()
    }
    for name in ("p50", "p99", "max"):
        plain, slowed = middle["plain"][name], middle["slowed"][name]
        ratio = slowed / plain
        print(f"late {name}: {plain:.2f} ms plain, {slowed:.2f} ms slowed, ratio {ratio:.2f} (medians)")
    more = middle["slowed"]["memory"] - middle["plain"]["memory"]
    print(f"peak memory: {more:+.0f} MB, the budget is {options.buffer_mb:g} MB")
    print(f"frames lost, all rounds: {sum(one['lost'] for all_ in found.values() for one in all_)}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), sys.argv[3:])
    main()
