"""Record with the simulated or the replayed robot and print what matters: lateness, dead time, memory, saves.

    uv run python benchmarks/recording.py [--episodes 5] [--seconds 10] [--cameras 2] [--size 640x480]
        [--codec libsvtav1] [--video FILE] [--json FILE]

Runs `aiorecord record` as users do, in a process of its own, and reads its report. With `--video` every
camera plays that file instead of the simulation.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def record(options, folder):
    """Run the command; returns its report."""
    width, height = options.size.split("x")
    names = ["front", "wrist", "side", "top"][: options.cameras]
    report = folder / "report.json"
    if options.video:
        videos = ", ".join(f"{name}: {options.video}" for name in names)
        robot = ["--robot.type=replay", f"--robot.videos={{{videos}}}", "--teleop.type=replay"]
        robot += [f"--robot.width={width}", f"--robot.height={height}"]
    else:
        cameras = ", ".join(f"{name}: {{width: {width}, height: {height}}}" for name in names)
        robot = ["--robot.type=sim", f"--robot.cameras={{{cameras}}}", "--teleop.type=sim"]
    command = [sys.executable, "-m", "aiorecord", "record", *robot]
    command += [
        "--dataset.repo_id=bench/set",
        f"--dataset.root={folder / 'set'}",
        "--dataset.single_task=Benchmark",
    ]
    command += [f"--dataset.num_episodes={options.episodes}", f"--dataset.episode_time_s={options.seconds}"]
    command += ["--dataset.reset_time_s=0", f"--dataset.rgb_encoder.vcodec={options.codec}"]
    command += ["--display=none", "--play_sounds=false", f"--report={report}"]
    subprocess.run(command, check=True)
    return json.loads(report.read_text())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--codec", default="libsvtav1")
    parser.add_argument("--video", help="a video file to play instead of the simulation")
    parser.add_argument("--json", help="keep the report here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = record(options, Path(folder))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    setting = f"{options.cameras}x{options.size}@30 {options.codec}, {options.video or 'sim'}"
    print(f"{setting}, {os.cpu_count()} cores, load {load:.1f}")
    print(TITLE)
    for episode in report["episodes"]:
        print(line(episode))
    session = report["session"]
    memory, wall_s = session["peak_rss_bytes"] / 1e6, session["total_wall_s"]
    print(f"peak memory of all processes {memory:.0f} MB, wall {wall_s:.1f} s")


TITLE = "episode  frames  lost  late p50    p99  max ms  missed  dead ms  durable s  encoded s  committed s"


def line(episode):
    """One episode of the report."""
    late, dead_s = episode["lateness"], episode["dead_time_s"]
    lost = sum(camera["lost"] for camera in episode["cameras"].values())
    return (
        f"{episode['number']:7d} {episode['frames']:7d} {lost:5d} "
        f"{late['p50_ms']:9.2f} {late['p99_ms']:6.2f} {late['max_ms']:7.2f} {late['missed']:7d} "
        f"{'-' if dead_s is None else f'{dead_s * 1000:.1f}':>8s} "
        f"{episode['durable_s']:10.2f} {episode['encoded_s']:10.2f} {episode['committed_s']:12.2f}"
    )


if __name__ == "__main__":
    main()
