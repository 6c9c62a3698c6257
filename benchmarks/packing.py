"""Measures how often a dataset does not open, or is read wrongly, while another process packs it.

uv run --extra lerobot python benchmarks/packing.py [--packs 60] [--readers lerobot,lerobot,strict,info]

One process records short episodes of two cameras and packs after every other one, in sessions of several
packs, closing and reopening the dataset in between. Readers, each in a process of its own, meanwhile open
it again and again. A `lerobot` reader opens it with `LeRobotDataset`, reads rows and images of both ends
and some others at once, and again after `--hold` seconds; every other time it asks for some episodes only.
A `strict` reader reads every table and a frame of each of some episodes, with nothing but pyarrow and PyAV.
`info` and `check` are the commands. What is read is compared with what was recorded: the image says the
episode.
"""

import argparse
import asyncio
import collections
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

SIZE = 64
LENGTH = 8
FPS = 30
CAMERAS = ("observation.images.front", "observation.images.wrist")
STATE = {"dtype": "float32", "shape": (2,), "names": ["episode", "frame"]}
CAMERA = {"dtype": "video", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
FEATURES = {"observation.state": STATE, "action": STATE} | dict.fromkeys(CAMERAS, CAMERA)


def grey(episode):
    return 20 + 37 * episode % 200


def frames_of(episode):
    image = np.full((SIZE, SIZE, 3), grey(episode), np.uint8)
    for frame in range(LENGTH):
        state = np.array([episode, frame], np.float32)
        yield {"observation.state": state, "action": state} | dict.fromkeys(CAMERAS, image)


async def record(root, packs, per_session, pause):
    """Record two episodes for each pack; returns the seconds that each pack took."""
    import aiorecord

    encoder = aiorecord.RGBEncoderConfig(vcodec="h264", preset="ultrafast", crf=18)
    info = root / "meta/info.json"
    took, episodes = [], json.loads(info.read_text())["total_episodes"] if info.exists() else 0
    while len(took) < packs:
        async with aiorecord.Recorder(
            "bench/packing",
            root=root,
            fps=FPS,
            features=FEATURES,
            rgb_encoder=encoder,
            resume=episodes > 0,
            pack=False,
        ) as recorder:
            for _ in range(per_session):
                for _ in range(2):
                    async with recorder.episode("Benchmark") as episode:
                        for frame in frames_of(episodes):
                            episode.add_frame(frame)
                    await episode.save
                    episodes += 1
                await asyncio.sleep(random.uniform(0, pause))
                before = time.perf_counter()
                await recorder.pack()
                took.append(time.perf_counter() - before)
                await asyncio.sleep(random.uniform(0, pause))
    return took


class WrongError(Exception):
    """What was read is not what was recorded."""


def expect(found, wanted, what):
    if found != wanted:
        raise WrongError(f"{what}: {found} instead of {wanted}")


def lerobot_reader(root, hold, turn):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    total = json.loads((root / "meta/info.json").read_text())["total_episodes"]
    episodes = sorted(random.sample(range(total), min(total, 3))) if turn % 2 else None
    dataset = LeRobotDataset("bench/packing", root=root, episodes=episodes, return_uint8=True)
    yield "opened"
    expect(len(dataset) % LENGTH, 0, "frames")
    if episodes is not None:
        expect(len(dataset), LENGTH * len(episodes), "frames of some episodes")
    for when in ("read", "read later"):
        last = len(dataset) - 1
        for index in {0, last, *(random.randint(0, last) for _ in range(3))}:
            item = dataset[index]
            number = index if episodes is None else episodes[index // LENGTH] * LENGTH + index % LENGTH
            expect(int(item["index"]), number, "index")
            expect(item["observation.state"].tolist(), [*map(float, divmod(number, LENGTH))], "state")
            for camera in CAMERAS:
                level = float(item[camera].float().mean())
                expect(abs(level - grey(number // LENGTH)) < 8, True, f"image {level} of {number}")
        yield when
        time.sleep(hold if when == "read" else 0)


def strict_reader(root, hold, turn):
    import av
    import pyarrow as pa
    import pyarrow.parquet as pq

    info = json.loads((root / "meta/info.json").read_text())
    total, count = info["total_frames"], info["total_episodes"]
    listed = sorted((root / "meta/episodes").glob("*/*.parquet"))
    rows = pa.concat_tables([pq.read_table(path) for path in listed]).slice(0, count).to_pylist()
    expect([row["episode_index"] for row in rows], list(range(count)), "episodes")
    listed = sorted((root / "data").glob("*/*.parquet"))
    data = pa.concat_tables([pq.read_table(path, columns=["index"]) for path in listed])
    expect(data["index"].to_pylist()[:total], list(range(total)), "rows")
    yield "opened"
    for row in random.sample(rows, min(count, 4)):
        for key in CAMERAS:
            place = {n: row[f"videos/{key}/{n}"] for n in ("chunk_index", "file_index")}
            path = root / info["video_path"].format(video_key=key, **place)
            frame_at = round(row[f"videos/{key}/from_timestamp"] * FPS)
            with av.open(str(path)) as container:
                for number, frame in enumerate(container.decode(video=0)):
                    if number == frame_at:
                        level = frame.to_ndarray(format="rgb24").mean()
                        expect(abs(level - grey(row["episode_index"])) < 8, True, f"image {level}")
                        break
                else:
                    raise WrongError(f"no frame {frame_at} in {path}")
    yield "read"


def command_reader(name):
    def reader(root, hold, turn):
        done = subprocess.run(
            [sys.executable, "-m", "aiorecord", name, str(root)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise WrongError(f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
        yield "opened"

    return reader


READERS = {
    "lerobot": lerobot_reader,
    "strict": strict_reader,
    "info": command_reader("info"),
    "check": command_reader("check"),
}


def read_on(name, number, root, hold, stop, results):
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="bench-packing-hf-")
    random.seed(number)
    counts, errors, turn = collections.Counter(), collections.Counter(), 0
    while not stop.is_set():
        turn += 1
        stage = "start"
        try:
            for stage in READERS[name](root, hold, turn):
                counts[stage] += 1
        except Exception as error:  # noqa: BLE001 - every kind counts
            kind = "wrong" if isinstance(error, WrongError) else "failed"
            counts[f"{kind} after {stage}"] += 1
            text = str(error).strip().splitlines()[-1].replace(str(root), "")[-120:]
            errors[f"{type(error).__name__}: {re.sub('[0-9.]+', 'N', text)}"] += 1
            if os.environ.get("BENCH_TRACE"):
                traceback.print_exc()
    results.put((name, number, dict(counts), dict(errors)))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packs", type=int, default=60)
    parser.add_argument("--per-session", type=int, default=5, help="packs before the dataset is reopened")
    parser.add_argument("--pause", type=float, default=3.0, help="longest wait around a pack, in s")
    parser.add_argument("--hold", type=float, default=1.0, help="s until a reader reads again")
    parser.add_argument("--readers", default="lerobot,lerobot,strict,info")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root, stop, results = Path(folder) / "set", context.Event(), context.Queue()
        asyncio.run(record(root, 2, 2, 0))
        names = [name for name in options.readers.split(",") if name]
        readers = [
            context.Process(target=read_on, args=(name, number, root, options.hold, stop, results))
            for number, name in enumerate(names)
        ]
        for reader in readers:
            reader.start()
        time.sleep(10)  # lerobot takes long to import
        begun = time.perf_counter()
        took = asyncio.run(record(root, options.packs, options.per_session, options.pause))
        duration = time.perf_counter() - begun
        stop.set()
        for name, number, counts, errors in sorted(results.get() for _ in readers):
            print(f"{name} {number}: {counts}")
            for error, count in collections.Counter(errors).most_common(6):
                print(f"    {count} x {error}")
        for reader in readers:
            reader.join()
        check = subprocess.run([sys.executable, "-m", "aiorecord", "check", str(root)], check=False)
        packs = (
            f"{len(took)} packs in {duration:.0f} s, {np.median(took):.2f} s each (longest {max(took):.2f} s)"
        )
        print(f"{packs}; check afterwards: {check.returncode}")


if __name__ == "__main__":
    main()
