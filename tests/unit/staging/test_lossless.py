from __future__ import annotations

import gc
import resource
import sys

import av
import numpy as np
import pytest
from captured import direct, noise, values_of

from aiorecord.capture.camera_plan import plan_camera
from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.errors import CodecUnavailableError, EncodeError, StorageError
from aiorecord.features import Schema
from aiorecord.media.pixels import PixelConverter, new_rgb_frame
from aiorecord.staging import lossless
from aiorecord.staging.folder import EpisodeFolder
from aiorecord.staging.histograms import histogram, sampling_stride
from aiorecord.staging.live import LiveWriter
from aiorecord.staging.lossless import EXACT_PIX_FMTS, LosslessWriter, encoder_threads, read_lossless
from aiorecord.staging.manifest import Camera, Manifest
from aiorecord.staging.reader import read_frames


def camera(pix_fmt: str, height: int = 48, width: int = 64) -> Camera:
    capture = "rgb" if pix_fmt == "rgb24" else "lossless"
    return Camera(capture, "f.frames", pix_fmt, height, width, "f.spill", None)


def frames_of(path, settings: Camera):
    features = {"f": {"dtype": "image", "shape": (settings.height, settings.width, 3)}}
    manifest = Manifest(30, features, {"f": settings}, RGBEncoderConfig(), DepthEncoderConfig())
    return read_frames(EpisodeFolder(path, manifest), "f")


def write(path, settings: Camera, count: int, fps: int = 30) -> LosslessWriter:
    writer = LosslessWriter(path, settings, fps)
    for k in range(count):
        frame, pixels = new_rgb_frame(settings.height, settings.width)
        pixels[:] = noise(k, pixels.shape)
        writer.write(frame)
        assert writer.frames == k + 1  # no frame is held back
    writer.close()
    return writer


@pytest.mark.parametrize("size", [(48, 64), (38, 50)])
@pytest.mark.parametrize("pix_fmt", sorted(EXACT_PIX_FMTS))
def test_every_bit_of_a_direct_conversion_comes_back(tmp_path, pix_fmt, size):
    settings = camera(pix_fmt, *size)
    write(tmp_path / "f.frames", settings, 5)
    found = list(frames_of(tmp_path, settings))
    assert len(found) == 5
    for k, frame in enumerate(found):
        assert values_of(frame) == values_of(direct(noise(k, (*size, 3)), pix_fmt))


@pytest.mark.parametrize("size", [(48, 64), (31, 37), (2, 2)])
def test_every_bit_of_rgb_comes_back(tmp_path, size):
    settings = camera("rgb24", *size)
    write(tmp_path / "f.frames", settings, 5)
    for k, frame in enumerate(frames_of(tmp_path, settings)):
        np.testing.assert_array_equal(frame, noise(k, (*size, 3)))
    assert k == 4


def test_more_threads_change_nothing(tmp_path):
    settings = camera("yuv420p", 1080, 1920)
    write(tmp_path / "f.frames", settings, 2, fps=120)
    for k, frame in enumerate(read_lossless(tmp_path / "f.frames", settings)):
        assert values_of(frame) == values_of(direct(noise(k, (1080, 1920, 3)), "yuv420p"))
    assert k == 1


@pytest.mark.parametrize("fps", [1, 7, 1000, 5000])
def test_every_rate_keeps_every_frame(tmp_path, fps):
    write(tmp_path / "f.frames", camera("yuv420p"), 12, fps)
    assert len(list(read_lossless(tmp_path / "f.frames", camera("yuv420p")))) == 12


def test_an_encoder_gets_threads_by_its_pixels():
    assert encoder_threads(480, 640, 30) == 1
    assert encoder_threads(720, 1280, 30) == 1
    assert 1 <= encoder_threads(2160, 3840, 60) <= 8


def test_the_plan_follows_the_feature_and_its_final_encoder():
    schema = Schema(
        {
            "rgb": {"dtype": "video", "shape": (48, 64, 3)},
            "first": {"dtype": "video", "shape": (3, 48, 64)},
            "still": {"dtype": "image", "shape": (31, 37, 3)},
            "depth": {"dtype": "video", "shape": (30, 40, 1)},
            "still.depth": {"dtype": "image", "shape": (30, 40, 1)},
        }
    )
    rgb = RGBEncoderConfig(pix_fmt="yuv422p")
    plans = {k: plan_camera(f, DepthEncoderConfig() if f.is_depth else rgb) for k, f in schema.items()}
    assert plans["rgb"] == Camera("lossless", "rgb.frames", "yuv422p", 48, 64, "rgb.spill", "rgb.hist")
    assert (plans["first"].height, plans["first"].width) == (48, 64)
    assert plans["still"] == Camera("rgb", "still.frames", "rgb24", 31, 37, "still.spill", "still.hist")
    assert plans["depth"] == Camera("raw", "depth.raw", "", 30, 40, "depth.spill", None)
    assert plans["still.depth"].capture == "raw"
    for pix_fmt in ("gray", "gbrp", "yuv440p", "yuv420p10le", "yuvj420p", "nv12"):
        plan = plan_camera(schema["rgb"], RGBEncoderConfig(pix_fmt=pix_fmt))
        assert (plan.capture, plan.pix_fmt) == ("rgb", "rgb24")


def test_what_the_codec_cannot_open_is_said_at_once(tmp_path):
    with pytest.raises(CodecUnavailableError):
        LosslessWriter(tmp_path / "g.frames", camera("gray12le"), 30)
    assert not list(tmp_path.iterdir())


def test_a_libav_without_the_codec_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lossless, "CODEC", "libnothing")
    with pytest.raises(CodecUnavailableError, match="libnothing"):
        LosslessWriter(tmp_path / "f.frames", camera("yuv420p"), 30)


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError):
        LosslessWriter(tmp_path / "none" / "f.frames", camera("yuv420p"), 30)


def test_a_frame_of_another_size_is_refused(tmp_path):
    writer = LosslessWriter(tmp_path / "f.frames", camera("yuv420p"), 30)
    frame, _ = new_rgb_frame(24, 32)
    with pytest.raises(EncodeError):
        writer.write(frame)
    writer.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_a_storage_error(tmp_path):
    settings = camera("yuv444p")
    writer = LosslessWriter(tmp_path / "f.frames", settings, 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError):
            for k in range(50):
                frame, pixels = new_rgb_frame(48, 64)
                pixels[:] = noise(k, (48, 64, 3))
                writer.write(frame)
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    found = list(read_lossless(tmp_path / "f.frames", settings))
    assert len(found) == writer.frames > 0
    for k, frame in enumerate(found):
        assert values_of(frame) == values_of(direct(noise(k, (48, 64, 3)), "yuv444p"))


@pytest.mark.parametrize("size", [(48, 64), (299, 299), (300, 200), (480, 640), (640, 480), (720, 1280)])
def test_histograms_count_what_lerobot_samples(size):
    pixels = noise(1, (*size, 3))
    stride = sampling_stride(*size)
    found = histogram(pixels)
    assert found.shape == (3, 256)
    assert found.dtype == np.uint32
    for channel in range(3):
        values, counts = np.unique(pixels[::stride, ::stride, channel], return_counts=True)
        assert found[channel].sum() == counts.sum()
        np.testing.assert_array_equal(found[channel][values], counts)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv420p"])
def test_a_conversion_gives_the_same_every_time(pix_fmt):
    frame = av.VideoFrame.from_ndarray(noise(0, (240, 98, 3)), format="rgb24")
    assert len({values_of(PixelConverter(pix_fmt).convert(frame)) for _ in range(300)}) == 1


def living_encoders() -> int:
    return sum(isinstance(found, av.VideoCodecContext) for found in gc.get_objects())


def test_a_finished_capture_holds_no_encoder(tmp_path):
    # Saves that wait keep their capture: with its encoder each would cost megabytes.
    gc.collect()
    before = living_encoders()
    kept = [write(tmp_path / f"{n}.frames", camera("yuv420p"), 2) for n in range(5)]
    assert living_encoders() == before
    assert [writer.frames for writer in kept] == [2] * 5


def test_a_finished_live_capture_holds_no_encoder(tmp_path):
    gc.collect()
    before = living_encoders()
    kept = []
    for n in range(3):
        settings = Camera("live", f"{n}.frames", "yuv420p", 48, 64, "f.spill", None)
        encoder = RGBEncoderConfig(vcodec="h264")
        writer = LiveWriter(tmp_path / settings.file, settings, 30, encoder=encoder, threads=1)
        frame, pixels = new_rgb_frame(48, 64)
        pixels[:] = noise(n, pixels.shape)
        writer.write(frame)
        writer.close()
        kept.append(writer)
    assert living_encoders() == before
    assert [writer.frames for writer in kept] == [1] * 3
