"""What info.json says of videos is what was recorded, whatever the features came with."""

import asyncio
import json
import shutil

import numpy as np
import pytest
from damaged import codes
from helpers import FPS, H264

from aiorecord import DatasetError, DepthEncoderConfig, Recorder
from aiorecord.cli import main as command
from aiorecord.staging.folder import Staging
from aiorecord.staging.sealed_json import read_sealed, write_sealed

DEPTH, COLOUR = "observation.images.depth", "observation.images.front"
OTHERS = {
    "video.codec": "av1", "video.height": 480, "video.width": 640, "video.pix_fmt": "yuv444p", "video.fps": 7,
    "video.depth_min": 0.05, "video.depth_max": 8.0, "video.shift": 2.5, "video.use_log": False,
    "depth_unit": "m", "has_audio": True, "video.extra_options": {"x264-params": "pass=1"}, "video.crf": 1,
}  # fmt: skip
OWN = DepthEncoderConfig(depth_min=0.2, depth_max=4.0, shift=1.0)
AXES = ["height", "width", "channels"]


def features(info=None):
    info = {} if info is None else {"info": info}
    return {
        DEPTH: {"dtype": "video", "shape": (64, 96, 1), "names": AXES, **info},
        COLOUR: {"dtype": "video", "shape": (64, 96, 3), "names": AXES, **info},
    }


async def record(root, *, episodes=1, given=None, abandon=False, **options):
    recorder = Recorder(
        "test/set", root=root, fps=FPS, features=features(given), rgb_encoder=H264, encode_workers=1,
        min_free_gb=0, **options,
    )  # fmt: skip
    await recorder.open()
    try:
        for _ in range(episodes):
            async with recorder.episode(task="t", hold=abandon) as episode:
                for k in range(3):
                    depth = np.linspace(500, 1500, 64 * 96).reshape(64, 96, 1).astype(np.uint16)
                    episode.add_frame({DEPTH: depth, COLOUR: np.full((64, 96, 3), 40 * k, np.uint8)})
    finally:
        await recorder.aclose(drain=not abandon)


def info_of(root, key):
    return json.loads((root / "meta/info.json").read_text())["features"][key]["info"]


def said(root):
    info = info_of(root, DEPTH)
    return {name: info[f"video.{name}"] for name in ("depth_min", "depth_max", "shift", "use_log")}


def settings(encoder):
    return {name: getattr(encoder, name) for name in ("depth_min", "depth_max", "shift", "use_log")}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    root = tmp_path_factory.mktemp("begun") / "set"
    asyncio.run(record(root, depth_encoder=OWN))
    return root


@pytest.fixture
def dataset(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "set")


async def test_features_of_another_dataset(tmp_path):
    root = tmp_path / "set"
    await record(root, given=OTHERS, depth_encoder=OWN)
    assert said(root) == settings(OWN)
    depth, colour = info_of(root, DEPTH), info_of(root, COLOUR)
    assert (depth["depth_unit"], depth["is_depth_map"], depth["video.codec"]) == ("mm", True, "hevc")
    expected = {"codec": "h264", "height": 64, "width": 96, "pix_fmt": "yuv420p", "fps": FPS, "crf": H264.crf}
    assert {name: colour[f"video.{name}"] for name in expected} == expected
    assert "depth_unit" not in colour
    assert not colour["is_depth_map"]
    assert not colour["has_audio"]
    assert codes(root) == set()


async def test_continuing_takes_the_datasets_depth_settings(dataset):
    await record(dataset, resume=True)
    assert said(dataset) == settings(OWN)
    assert codes(dataset) == set()  # its statistics are recomputed with the dataset's settings


async def test_continuing_with_other_depth_settings_is_refused(dataset):
    before = (dataset / "meta/info.json").read_bytes()
    with pytest.raises(DatasetError, match=r"depth_max is 4\.0 in the dataset, 6\.0"):
        await record(dataset, resume=True, depth_encoder=DepthEncoderConfig(depth_max=6.0))
    assert (dataset / "meta/info.json").read_bytes() == before
    assert not (dataset / ".aiorecord").exists()


async def test_depth_settings_that_cannot_be_are_refused(dataset):
    path = dataset / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"][DEPTH]["info"]["video.depth_max"] = "far"
    path.write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="depth_max is a number of metres"):
        await record(dataset, resume=True)
    assert "depth-settings" in codes(dataset)


@pytest.mark.parametrize("how", ["resume", "recover"])
def test_staged_depth_is_encoded_with_the_datasets_settings(dataset, how):
    asyncio.run(record(dataset, resume=True, abandon=True))  # the command has a loop of its own, too
    path = Staging(dataset).episode_paths()[0] / "manifest.json"
    manifest = read_sealed(path)
    manifest["depth_encoder"] |= {"depth_min": 0.05, "depth_max": 8.0}
    write_sealed(path, manifest)
    if how == "resume":
        asyncio.run(record(dataset, resume=True, episodes=0))
    else:
        assert command(["recover", str(dataset)]) == 0
    assert json.loads((dataset / "meta/info.json").read_text())["total_episodes"] == 2
    assert said(dataset) == settings(OWN)
    assert codes(dataset) == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [("video.codec", "av1"), ("video.pix_fmt", "yuv444p"), ("video.width", 640), ("video.fps", 7)],
)
def test_check_compares_the_info_with_the_files(dataset, name, value):
    path = dataset / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"][COLOUR]["info"][name] = value
    path.write_text(json.dumps(info))
    assert codes(dataset) == {"video-info"}


def test_check_says_which_depth_settings_are_missing(dataset):
    path = dataset / "meta/info.json"
    info = json.loads(path.read_text())
    del info["features"][DEPTH]["info"]["video.shift"]
    path.write_text(json.dumps(info))
    assert "depth-settings" in codes(dataset)
