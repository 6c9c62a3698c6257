"""Compares the drop-in with lerobot's own writer: the time of a save, and how late the loop is.

    python benchmarks/dropin.py [--turns 2] [--seconds 4] [--cameras 2] [--size 640x480] [--codec libsvtav1]
        [--modes drop-in,streaming,png] [--json FILE]

Needs the lerobot extra. One synchronous loop per mode records the same frames at 30 fps; after each episode
it calls `save_episode_async` (drop-in) or `save_episode` (lerobot: streaming encoding, and PNG files that
the save encodes). The modes take turns, so that all have the same conditions. In its turn a mode records two
episodes in a row, the second while the first is saved, if the mode saves in the background, and finishes its
saves. At the end the frames of every video are decoded and counted against the rows.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets import LeRobotDataset

from aiorecord.lerobot import AsyncLeRobotDataset

FPS = 30
JOINTS = list("abcdef")
MODES = ("drop-in", "streaming", "png")
PICTURES = 60


def features(cameras, height, width):
    """As a robot with six joints has them."""
    vector = {"dtype": "float32", "shape": (len(JOINTS),), "names": JOINTS}
    camera = {"dtype": "video", "shape": (height, width, 3), "names": ["height", "width", "channels"]}
    images = {f"observation.images.{number}": camera for number in range(cameras)}
    return {"observation.state": vector, "action": vector, **images}


def pictures(height, width):
    """Moving, textured pictures: neither noise nor a plain colour."""
    rng = np.random.default_rng(0)
    texture = np.cumsum(rng.integers(-3, 4, (height, width, 3)), axis=1) + 128
    moving = [np.roll(texture, 3 * k, axis=1) + rng.integers(-2, 3, texture.shape) for k in range(PICTURES)]
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in moving]


class Run:
    """One mode's dataset and what was measured of it."""

    def __init__(self, mode, root, spec, codec):
        self.mode = mode
        self.root = root
        self.save_ms = []
        self.lateness = []
        self.add_ms = []
        kind = AsyncLeRobotDataset if mode == "drop-in" else LeRobotDataset
        self.dataset = kind.create(
            f"bench/{mode}",
            FPS,
            spec,
            root=root,
            streaming_encoding=mode == "streaming",
            image_writer_threads=0 if mode == "streaming" else 4 * len([k for k in spec if "images" in k]),
            rgb_encoder=RGBEncoderConfig(vcodec=codec),
        )
        self.behind = mode == "drop-in"
        if self.behind:
            self.dataset.enable_async_saving()

    def episode(self, images, seconds):
        """Record one episode and save it."""
        count = round(seconds * FPS)
        keys = [key for key in self.dataset.features if "images" in key]
        vector = np.zeros(len(JOINTS), np.float32)
        late, spent = [], []
        start = time.perf_counter()
        for k in range(count):
            due = start + k / FPS
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            began = time.perf_counter()
            late.append((began - due) * 1000)
            frame = {key: images[(k + 7 * n) % PICTURES] for n, key in enumerate(keys)}
            self.dataset.add_frame(
                {**frame, "observation.state": vector + k, "action": vector - k, "task": "Benchmark"}
            )
            spent.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        if not self.behind or not self.dataset.save_episode_async():
            self.dataset.save_episode()
        self.save_ms.append((time.perf_counter() - began) * 1000)
        self.lateness.append(late)
        self.add_ms.append(spent)

    def finish(self, expected_rows):
        """Finalize; the measurements, with rows, and frames of the camera that has the fewest."""
        began = time.perf_counter()
        self.dataset.finalize()
        finalize_s = time.perf_counter() - began
        rows = sum(pq.read_metadata(file).num_rows for file in (self.root / "data").glob("*/*.parquet"))
        late = np.concatenate(self.lateness)
        return {
            "mode": self.mode,
            "episodes": len(self.save_ms),
            "save_ms": [round(ms, 1) for ms in self.save_ms],
            "late_ms": percentiles(late),
            "add_frame_ms": percentiles(np.concatenate(self.add_ms)),
            "finalize_s": round(finalize_s, 2),
            "expected_rows": expected_rows,
            "rows": rows,
            "frames": {camera.name: frames(camera) for camera in sorted((self.root / "videos").iterdir())},
        }


def frames(camera):
    """Frames in all video files of a camera, decoded and counted."""
    total = 0
    for file in camera.glob("*/*.mp4"):
        with av.open(str(file)) as container:
            total += sum(1 for _ in container.decode(video=0))
    return total


def percentiles(values):
    """p50, p99 and maximum, rounded."""
    found = np.percentile(values, [50, 99, 100])
    return {name: round(float(v), 2) for name, v in zip(("p50", "p99", "max"), found, strict=True)}


def measure(options, folder):
    """Interleave the modes; a list of what each measured."""
    width, height = map(int, options.size.split("x"))
    spec = features(options.cameras, height, width)
    images = pictures(height, width)
    runs = [Run(mode, folder / mode, spec, options.codec) for mode in options.modes.split(",")]
    for _ in range(options.turns):
        for run in runs:
            for _ in range(2):
                run.episode(images, options.seconds)
            if run.behind:
                run.dataset.wait_for_async_saves()
    rows = 2 * options.turns * round(options.seconds * FPS)
    return [run.finish(rows) for run in runs]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=2, help="of each mode, of two episodes each")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--codec", default="libsvtav1")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--json", help="write the figures here")
    options = parser.parse_args()
    if unknown := set(options.modes.split(",")) - set(MODES):
        parser.error(f"unknown modes: {', '.join(sorted(unknown))}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    setting = {
        **{name: getattr(options, name) for name in ("cameras", "size", "codec", "seconds")},
        **{"cores": os.cpu_count(), "load": round(load, 1)},
    }
    if options.json:
        Path(options.json).write_text(json.dumps({"setting": setting, "modes": results}, indent=2))
    print(", ".join(f"{name} {value}" for name, value in setting.items()))
    print("mode       save p50     max ms  late p50     p99  max ms  finalize s   rows  frames")
    for result in results:
        save, late = percentiles(result["save_ms"]), result["late_ms"]
        fewest = min(result["frames"].values(), default=0)
        print(
            f"{result['mode']:10s} {save['p50']:8.1f} {save['max']:10.1f} {late['p50']:9.2f} "
            f"{late['p99']:7.2f} {late['max']:7.2f} {result['finalize_s']:11.2f} "
            f"{result['rows']:6d} {fewest:7d}"
            + ("" if fewest == result["rows"] == result["expected_rows"] else "  LOST")
        )


if __name__ == "__main__":
    main()
