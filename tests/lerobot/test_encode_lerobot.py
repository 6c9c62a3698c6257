"""What aiorecord encodes, seen through the real lerobot."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from lerobot.configs.video import DepthEncoderConfig as TheirDepth
from lerobot.configs.video import RGBEncoderConfig as TheirRGB
from lerobot.datasets.compute_stats import compute_episode_stats
from lerobot.datasets.depth_utils import quantize_depth
from lerobot.datasets.image_writer import write_image
from lerobot.datasets.video_utils import (
    decode_video_frames,
    encode_video_frames,
    get_video_info,
)
from numpy.typing import NDArray

from aiorecord.capture.camera_plan import plan_camera
from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig, VideoEncoderConfig
from aiorecord.encoding.camera_encoding import EncodeJob, encode_camera
from aiorecord.media.depth import DepthQuantizer
from aiorecord.media.image_files import png_bytes, tiff_bytes
from aiorecord.media.pixels import new_rgb_frame
from aiorecord.media.remux import concat_videos
from aiorecord.media.video_file import VideoOutput, probe_video
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.histograms import HistogramWriter
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.manifest import Manifest
from aiorecord.staging.raw import RawWriter

pytestmark = pytest.mark.lerobot

KEY = "observation.images.front"
RGB_SETTINGS: list[dict[str, Any]] = [
    {},
    {"vcodec": "h264", "g": None, "crf": 23, "preset": "fast"},
    {"vcodec": "hevc", "g": 10, "extra_options": {"x265-params": "log-level=none"}},
    {"vcodec": "libsvtav1", "preset": 10, "g": 5, "fast_decode": 1},
]


def scene(k: int, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(k).integers(0, 6, (height, width, 3))
    shades = np.stack([x + 9 * k, y + 7 * k, x + y - 8 * k], axis=-1) % 240
    return (shades + noise).astype(np.uint8)


def depth(k: int, dtype: str, height: int = 96, width: int = 128) -> NDArray[Any]:
    y, x = np.mgrid[:height, :width]
    millimetres = 700 + 20 * x + 9 * y + 30 * k
    return (millimetres if dtype == "uint16" else millimetres / 1000).astype(dtype)


def stage(root: Path, frames: list[NDArray[Any]], kind: str, settings: dict[str, Any]) -> EpisodeFolder:
    height, width = frames[0].shape[:2]
    is_depth = frames[0].ndim == 2
    spec: dict[str, Any] = {
        "dtype": kind,
        "shape": (height, width, 1 if is_depth else 3),
        "names": ["height", "width", "channels"],
    }
    encoder = RGBEncoderConfig(**settings)
    manifest = Manifest(
        30, {KEY: spec}, {}, encoder, DepthEncoderConfig(), state="complete", length=len(frames)
    )
    camera = manifest.cameras[KEY] = plan_camera(manifest.schema()[KEY], encoder)
    folder = Staging(root).create(manifest)
    if is_depth:
        with closing(RawWriter(folder.path / camera.file)) as raw:
            for frame in frames:
                raw.write(frame)
        return folder
    lossless = LosslessWriter(folder.path / camera.file, camera, 30)
    histograms = HistogramWriter(folder.path / f"{KEY}.hist")
    for frame in frames:
        video_frame, pixels = new_rgb_frame(height, width)
        pixels[:] = frame
        lossless.write(video_frame)
        histograms.write(frame)
    lossless.close()
    histograms.close()
    return folder


def write_files(folder: Path, frames: list[NDArray[Any]], suffix: str) -> list[str]:
    folder.mkdir()
    paths = [folder / f"frame-{k:06d}.{suffix}" for k in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        write_image(frame, path)
    return [str(path) for path in paths]


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def make(path: Path, encoder: VideoEncoderConfig, count: int, first: int = 0, fps: int = 30) -> Path:
    with VideoOutput(path, encoder, 128, 96, fps) as output:
        for k in range(first, first + count):
            output.add(av.VideoFrame.from_ndarray(scene(k), format="rgb24"))
    return path


@pytest.mark.parametrize("settings", RGB_SETTINGS)
@pytest.mark.parametrize("fps", [30, 25, 60])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_probe_is_lerobots(tmp_path: Path, settings: dict[str, Any], fps: int, count: int) -> None:
    ours, theirs = RGBEncoderConfig(**settings), TheirRGB(**settings)
    path = make(tmp_path / "a.mp4", ours, count, fps=fps)
    assert probe_video(path, ours) == get_video_info(path, theirs)
    assert probe_video(path) == get_video_info(path)
    parts = [path, make(tmp_path / "b.mp4", ours, 3, fps=fps)]
    concat_videos(parts, tmp_path / "c.mp4", fps)
    assert probe_video(tmp_path / "c.mp4", ours) == get_video_info(tmp_path / "c.mp4", theirs)


def test_probe_of_depth_is_lerobots(tmp_path: Path) -> None:
    ours, theirs = DepthEncoderConfig(depth_max=4.0), TheirDepth(depth_max=4.0)
    with VideoOutput(tmp_path / "d.mp4", ours, 128, 96, 30) as output:
        for k in range(5):
            output.add(DepthQuantizer(ours).frame(depth(k, "uint16")))
    assert probe_video(tmp_path / "d.mp4", ours) == get_video_info(tmp_path / "d.mp4", theirs)


# lerobot's own quantiser warns of numbers that it cannot use.
@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"use_log": False},
        {"depth_min": 0.2, "depth_max": 3.0, "shift": 0.5},
        {"depth_min": 0.0, "depth_max": 70.0, "use_log": False},
    ],
)
def test_depth_codes_are_lerobots_bit_by_bit(parameters: dict[str, Any]) -> None:
    quantizer = DepthQuantizer(DepthEncoderConfig(**parameters))
    every = np.arange(1 << 16, dtype=np.uint16)
    random = np.random.default_rng(0)
    metres = random.uniform(-1, 12, (480, 641)).astype(np.float32)
    metres[0, :9] = 0, np.inf, -np.inf, np.nan, 0.01, 10, 3.4e38, 1e-38, -0.0
    images = [every.reshape(256, 256), random.permutation(every).reshape(128, 512), metres]
    images += [every.reshape(256, 256).astype(np.float32) / 1000, every[:33].reshape(3, 11)]
    for image in images:
        with np.errstate(all="ignore"):
            theirs = quantize_depth(image, **parameters, video_backend=None)
        assert (quantizer.codes(image) == theirs).all()
    plane = quantize_depth(metres[:, :640], **parameters).to_ndarray(format="gray12le")
    assert (quantizer.frame(metres[:, :640]).to_ndarray(format="gray12le") == plane).all()


@pytest.mark.parametrize("settings", RGB_SETTINGS)
def test_a_deferred_encode_is_what_lerobot_encodes(tmp_path: Path, settings: dict[str, Any]) -> None:
    frames = [scene(k) for k in range(20)]
    folder = stage(tmp_path, frames, "video", settings)
    result = encode_camera(EncodeJob(folder.path, KEY))
    write_files(tmp_path / "png", frames, "png")
    encode_video_frames(tmp_path / "png", tmp_path / "theirs.mp4", 30, TheirRGB(**settings))
    assert packets(folder.path / result.file) == packets(tmp_path / "theirs.mp4")
    assert result.info == get_video_info(tmp_path / "theirs.mp4", TheirRGB(**settings))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deferred_depth_is_what_lerobot_encodes(tmp_path: Path, dtype: str) -> None:
    frames = [depth(k, dtype) for k in range(12)]
    folder = stage(tmp_path, frames, "video", {})
    result = encode_camera(EncodeJob(folder.path, KEY))
    write_files(tmp_path / "tiff", frames, "tiff")
    encode_video_frames(tmp_path / "tiff", tmp_path / "theirs.mp4", 30, TheirDepth())
    read = [
        decode_video_frames(path, [k / 30 for k in range(12)], 1e-4, is_depth=True)
        for path in (folder.path / result.file, tmp_path / "theirs.mp4")
    ]
    assert torch.equal(*read)
    assert result.info == get_video_info(tmp_path / "theirs.mp4", TheirDepth())


@pytest.mark.parametrize("backend", ["torchcodec", "pyav"])
@pytest.mark.parametrize("settings", RGB_SETTINGS)
def test_lerobot_reads_every_frame_of_joined_videos(
    tmp_path: Path, settings: dict[str, Any], backend: str
) -> None:
    encoder = RGBEncoderConfig(**settings)
    lengths = (5, 1, 2, 30, 3)
    parts, total = [], 0
    for number, length in enumerate(lengths):
        parts.append(make(tmp_path / f"{number}.mp4", encoder, length, total))
        total += length
    output = tmp_path / "joined.mp4"
    assert concat_videos(parts, output, 30) == total
    expected = []
    for part in parts:
        with av.open(str(part)) as container:
            expected += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    start = 0
    for length in lengths:
        # As its dataset reader asks: an offset from meta/episodes plus float32 timestamps of the rows.
        stamps = [start / 30 + float(np.float32(k / 30)) for k in range(length)]
        frames = decode_video_frames(output, stamps, 1e-4, backend=backend, return_uint8=True)
        for k in range(length):
            image = frames[k].permute(1, 2, 0).numpy()
            near = {i: expected[i] for i in range(start + k - 1, start + k + 2) if 0 <= i < total}
            distance = {i: np.abs(image - other.astype(int)).mean() for i, other in near.items()}
            assert distance[start + k] == min(distance.values())
            assert distance[start + k] < 1, "the decoders round colours differently"
        start += length


def test_pictures_are_read_by_pillow_and_datasets() -> None:
    images = {
        "RGB": (scene(0), png_bytes(scene(0))),
        "I;16": (depth(0, "uint16"), tiff_bytes(depth(0, "uint16"))),
        "F": (depth(0, "float32"), tiff_bytes(depth(0, "float32"))),
    }
    for mode, (array, data) in images.items():
        with PIL.Image.open(io.BytesIO(data)) as image:
            assert image.mode == mode
            assert np.array_equal(np.array(image), array)
        read = datasets.Image().decode_example({"bytes": data, "path": None})
        assert np.array_equal(np.array(read), array)


@pytest.mark.parametrize("size", [(96, 128), (304, 400), (480, 640)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_statistics_are_lerobots(tmp_path: Path, size: tuple[int, int], dtype: str) -> None:
    frames: list[NDArray[Any]] = [
        scene(k, *size) if dtype == "uint8" else depth(k, dtype, *size) for k in range(5)
    ]
    folder = stage(tmp_path, frames, "image", {})
    ours = encode_camera(EncodeJob(folder.path, KEY)).stats
    paths = write_files(tmp_path / "files", frames, "png" if dtype == "uint8" else "tiff")
    spec = {"dtype": "image", "info": {"is_depth_map": dtype != "uint8"}}
    theirs = compute_episode_stats({KEY: paths}, {KEY: spec})[KEY]
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        # lerobot adds up millions of float32; ours are exact.
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-6, err_msg=name)
