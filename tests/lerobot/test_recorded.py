"""What the recorder wrote, read row by row through the real `LeRobotDataset`."""

import asyncio
import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import FEATURES, FPS, H264, make_frame, record_episode
from lerobot.datasets import LeRobotDataset

import aiorecord
from aiorecord import DepthEncoderConfig, Recorder, RGBEncoderConfig

BACKENDS = ["pyav"]
if importlib.util.find_spec("torchcodec") and shutil.which("ffmpeg"):
    BACKENDS.append("torchcodec")

LENGTHS = (12, 7, 15)


def psnr(a, b):
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


def pixels(item, key):
    """An image of a row as (H, W, C) uint8."""
    return np.rint(item[key].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)


async def record(root, features=FEATURES, frames=make_frame, lengths=LENGTHS, **options):
    async with Recorder("test/set", root=root, fps=FPS, features=features, **options) as recorder:
        for e, length in enumerate(lengths):
            async with recorder.episode(f"Task {e}") as episode:
                for k in range(length):
                    episode.add_frame(frames(k, e))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("encoder", "least_db"),
    [(RGBEncoderConfig(), 24), (RGBEncoderConfig(vcodec="h264", crf=10), 28), (H264, 24)],
)
async def test_every_row_of_every_camera(tmp_path, encoder, least_db, packed, backend):
    root = tmp_path / "set"
    await record(root, rgb_encoder=encoder, pack=packed)
    dataset = LeRobotDataset("test/set", root=root, video_backend=backend)
    assert len(dataset) == sum(LENGTHS)
    assert dataset.num_episodes == len(LENGTHS)
    index = 0
    for e, length in enumerate(LENGTHS):
        for k in range(length):
            item, given = dataset[index], make_frame(k, e)
            assert int(item["index"]) == index
            assert (int(item["episode_index"]), int(item["frame_index"])) == (e, k)
            assert float(item["timestamp"]) == pytest.approx(k / FPS)
            assert item["task"] == f"Task {e}"
            np.testing.assert_array_equal(item["observation.state"].numpy(), given["observation.state"])
            np.testing.assert_array_equal(item["action"].numpy(), given["action"])
            image = given["observation.images.front"]
            quality = psnr(pixels(item, "observation.images.front"), image)
            assert quality > least_db
            # The picture is this frame's, not its neighbour's.
            for other in (k - 1, k + 1):
                if 0 <= other < length:
                    neighbour = make_frame(other, e)["observation.images.front"]
                    assert quality > psnr(pixels(item, "observation.images.front"), neighbour)
            index += 1


async def test_images_depth_strings_and_every_number(tmp_path):
    rng = np.random.default_rng(0)
    dtypes = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64"]
    features = {
        "observation.images.photo": {
            "dtype": "image",
            "shape": (32, 48, 3),
            "names": ["height", "width", "channels"],
        },
        "observation.images.depth": {
            "dtype": "video",
            "shape": (64, 64, 1),
            "names": ["height", "width", "channels"],
        },
        "observation.images.range": {
            "dtype": "video",
            "shape": (64, 64, 1),
            "names": ["height", "width", "channels"],
        },
        "observation.images.raw": {
            "dtype": "image",
            "shape": (32, 48, 1),
            "names": ["height", "width", "channels"],
        },
        "observation.matrix": {"dtype": "float32", "shape": (2, 3), "names": None},
        "observation.cube": {"dtype": "float32", "shape": (2, 2, 2), "names": None},
        "note": {"dtype": "string", "shape": (1,), "names": None},
        **{f"one.{d}": {"dtype": d, "shape": (1,), "names": None} for d in dtypes},
        **{f"two.{d}": {"dtype": d, "shape": (2,), "names": None} for d in dtypes},
    }

    def value(dtype, shape):
        return rng.integers(0, 100, shape).astype(dtype) if dtype != "bool" else rng.integers(0, 2, shape) > 0

    # x265's lossless mode is not quite lossless for 12-bit noise, which no depth camera gives.
    slope = np.add.outer(np.arange(64), 2 * np.arange(64))

    frames = [
        {
            "observation.images.photo": rng.integers(0, 256, (32, 48, 3), np.uint8),
            "observation.images.depth": (slope * 40 + 100 * k + 50).astype(np.uint16),
            "observation.images.range": (slope * 0.04 + 0.1 * k + 0.05).astype(np.float32),
            "observation.images.raw": rng.integers(0, 65535, (32, 48, 1), np.uint16),
            "observation.matrix": rng.normal(size=(2, 3)).astype(np.float32),
            "observation.cube": rng.normal(size=(2, 2, 2)).astype(np.float32),
            "note": f"Nr. {k} - ünï",
            **{f"one.{d}": value(d, (1,)) for d in dtypes},
            **{f"two.{d}": value(d, (2,)) for d in dtypes},
        }
        for k in range(6)
    ]
    root = tmp_path / "set"
    await record(root, features, lambda k, e: frames[k], lengths=(6, 6))
    dataset = LeRobotDataset("test/set", root=root, video_backend="pyav")
    encoder = DepthEncoderConfig()
    for index in range(12):
        item, given = dataset[index], frames[index % 6]
        np.testing.assert_array_equal(
            pixels(item, "observation.images.photo"), given["observation.images.photo"]
        )
        np.testing.assert_array_equal(
            item["observation.images.raw"].numpy()[0],
            given["observation.images.raw"][..., 0].astype(np.float32),
        )
        for key, scale in (("depth", 1), ("range", 1000)):
            metres = given[f"observation.images.{key}"].astype(float) * scale / 1000
            # One quantum of the logarithmic code, at this depth, and half a millimetre of rounding.
            quantum = (metres + encoder.shift) * np.log(13.5 / 3.51) / 4095
            got = item[f"observation.images.{key}"].numpy()[0] / 1000
            assert np.all(np.abs(got - metres) < quantum + 0.0006)
        np.testing.assert_array_equal(item["observation.matrix"].numpy(), given["observation.matrix"])
        np.testing.assert_array_equal(item["observation.cube"].numpy(), given["observation.cube"])
        assert item["note"] == given["note"]
        for d in dtypes:
            assert item[f"one.{d}"].item() == given[f"one.{d}"].item()
            assert item[f"two.{d}"].tolist() == given[f"two.{d}"].tolist()


async def test_it_opens_in_another_process_between_commits_and_never_fails(tmp_path):
    root = tmp_path / "set"
    reader = (
        "import sys\n"
        "from lerobot.datasets import LeRobotDataset\n"
        "for line in sys.stdin:\n"
        "    d = LeRobotDataset('test/set', root=sys.argv[1], video_backend='pyav')\n"
        "    assert len(d) == 8 * d.num_episodes, (len(d), d.num_episodes)\n"
        "    for i in (0, len(d) - 1):\n"
        "        assert int(d[i]['index']) == i\n"
        "    print(d.num_episodes, flush=True)\n"
    )

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", reader, str(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    async def opened():
        process.stdin.write(b"open\n")
        return int(await process.stdout.readline())

    async with Recorder("test/set", root=root, fps=FPS, features=FEATURES, rgb_encoder=H264) as recorder:
        await (await record_episode(recorder, 8)).save
        assert await opened() == 1
        # Openings run all the time while episodes are committed.
        pending = [(await record_episode(recorder, 8, e)).save for e in range(1, 9)]
        seen = []
        while not all(save.done() for save in pending):
            before = recorder.get_status().episodes
            seen.append(await opened())
            assert before <= seen[-1] <= recorder.get_status().episodes
        for save in pending:
            await save
        assert await opened() == 9
        await recorder.pack()
        assert await opened() == 9
    assert await opened() == 9
    process.stdin.close()
    assert await process.wait() == 0


async def test_lerobot_resumes_ours_and_we_resume_lerobots(tmp_path):
    root = tmp_path / "set"
    await record(root, rgb_encoder=H264, lengths=(5,))
    for turn in range(2):
        dataset = LeRobotDataset.resume("test/set", root=root)
        for k in range(4):
            dataset.add_frame(make_frame(k, 10 + turn) | {"task": "lerobot"})
        dataset.save_episode()
        dataset.finalize()

        async def ours(turn=turn):
            async with Recorder(
                "test/set", root=root, fps=FPS, features=FEATURES, rgb_encoder=H264, resume=True
            ) as recorder:
                await record_episode(recorder, 6, 20 + turn, task="ours")

        await ours()
    dataset = LeRobotDataset("test/set", root=root, video_backend="pyav")
    episodes = [(5, 0), (4, 10), (6, 20), (4, 11), (6, 21)]
    assert len(dataset) == sum(length for length, _ in episodes)
    index = 0
    for e, (length, content) in enumerate(episodes):
        for k in range(length):
            item = dataset[index]
            given = make_frame(k, content)
            assert int(item["episode_index"]) == e
            np.testing.assert_array_equal(item["action"].numpy(), given["action"])
            assert psnr(pixels(item, "observation.images.front"), given["observation.images.front"]) > 22
            index += 1


def test_the_public_names_do_not_pull_in_lerobot():
    code = "import sys, aiorecord; aiorecord.Recorder, aiorecord.Session; assert 'lerobot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert aiorecord.__version__
