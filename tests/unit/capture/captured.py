"""Known frames, gates for the capture threads, and comparisons, for the tests of this folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.camera import CameraCapture
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.features import CheckedFrame, Schema
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.manifest import Camera, Manifest
from aiorecord.staging.raw import RawWriter
from aiorecord.staging.reader import read_frames

TIMEOUT_S = 30.0
"""Far more than anything here takes; a test that waits so long has failed."""

FRONT, DEPTH, STILL = "observation.images.front", "observation.images.depth", "observation.images.still"
STATE = {"observation.state": {"dtype": "float32", "shape": (3,)}}
VIDEO = {**STATE, FRONT: {"dtype": "video", "shape": (48, 64, 3)}}
EVERYTHING = {
    **VIDEO,
    DEPTH: {"dtype": "video", "shape": (30, 40, 1)},
    STILL: {"dtype": "image", "shape": (31, 37, 3)},
    "note": {"dtype": "string", "shape": (1,)},
}


def noise(k: int, shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    """The k-th frame: hard to compress, so that no mistake hides."""
    values = np.random.default_rng(k).integers(0, 256, shape)
    return values.astype(dtype)


def frame_of(schema: Schema, k: int) -> dict[str, Any]:
    """Frame k for any schema."""
    out: dict[str, Any] = {}
    for number, (key, feature) in enumerate(schema.items()):
        if feature.is_depth:
            out[key] = noise(k + 1000 * number, feature.size_hwc[:2], np.uint16)
        elif feature.is_visual:
            out[key] = noise(k + 1000 * number, feature.size_hwc)
        elif feature.dtype == "string":
            out[key] = f"note {k}"
        else:
            out[key] = np.full(feature.shape, k, feature.dtype)
    return out


def checked(schema: Schema, k: int) -> CheckedFrame:
    return schema.check(frame_of(schema, k))


def prepare(root: Path, features: dict[str, Any] = VIDEO, limit: int = 64 << 20, **options: Any) -> Any:
    """A prepared capture and its schema."""
    schema = Schema(features)
    arguments = {
        "fps": 30,
        "rgb_encoder": RGBEncoderConfig(),
        "depth_encoder": DepthEncoderConfig(),
        "budget": ByteBudget(limit),
        **options,
    }
    return EpisodeCapture.prepare(Staging(root), schema=schema, **arguments), schema


def one_camera(path: Path, settings: Camera) -> EpisodeFolder:
    """The folder of an episode that has one camera, ``cam``, and no files yet."""
    shape = (settings.height, settings.width, 1 if settings.capture == "raw" else 3)
    features = {"cam": {"dtype": "video", "shape": shape}}
    manifest = Manifest(30, features, {"cam": settings}, RGBEncoderConfig(), DepthEncoderConfig())
    return EpisodeFolder(path, manifest)


class Capture(CameraCapture):
    """The capture of the camera of `one_camera`, which takes and queues an image in one call."""

    def put(self, image: np.ndarray) -> None:
        self.enqueue(self.take(image))


def start(path: Path, settings: Camera, budget: ByteBudget | None = None, open_writer: Any = None) -> Capture:
    """A capture whose files are open."""
    capture = Capture("cam", one_camera(path, settings), budget or ByteBudget(), open_writer)
    capture.start()
    capture.wait_open()
    return capture


def expected(schema: Schema, key: str, k: int, pix_fmt: str = "yuv420p") -> Any:
    """What `read_frames` must give for frame k."""
    pixels = frame_of(schema, k)[key]
    feature = schema[key]
    if feature.is_depth or feature.is_image:
        return pixels
    return direct(pixels, pix_fmt)


def direct(pixels: np.ndarray, pix_fmt: str) -> av.VideoFrame:
    """What an encoder that gets the original converts it to."""
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    one_thread = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
    return VideoReformatter().reformat(frame, format=pix_fmt, **one_thread)


def values_of(frame: Any) -> bytes:
    """The visible samples of a frame, without the padding of its lines."""
    if isinstance(frame, np.ndarray):
        return f"{frame.shape}{frame.dtype}".encode() + frame.tobytes()
    out = [frame.format.name.encode()]
    for number, plane in enumerate(frame.planes):
        lines = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height]
        parts = [c for c in frame.format.components if c.plane == number]
        width = sum(c.width * (2 if c.bits > 8 else 1) for c in parts)
        out.append(lines.reshape(plane.height, plane.line_size)[:, :width].tobytes())
    return b"".join(out)


def assert_frames(folder: EpisodeFolder, schema: Schema, key: str, length: int) -> None:
    """Check that a camera holds exactly the first `length` frames, bit by bit."""
    count = 0
    for frame in read_frames(folder, key):
        assert values_of(frame) == values_of(expected(schema, key, count)), (key, count)
        count += 1
    assert count == length


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what a thread is about to do."""
    deadline = time.monotonic() + TIMEOUT_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.001)


def capture_threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("aiorecord-")}


class GatedWriter(LosslessWriter):
    """An encoder that is as slow as the test wants."""

    gate: threading.Semaphore
    entered: threading.Event

    def write(self, frame: av.VideoFrame) -> None:
        self.entered.set()
        assert self.gate.acquire(timeout=TIMEOUT_S)
        super().write(frame)


def gated() -> type[GatedWriter]:
    """A `GatedWriter` class of its own; release its `gate` once for each frame."""
    return type("Gated", (GatedWriter,), {"gate": threading.Semaphore(0), "entered": threading.Event()})


class SpillWriter(RawWriter):
    """A spill that says when it wrote, and waits while `gate` is cleared."""

    gate: threading.Event
    written: threading.Semaphore

    def write(self, array: np.ndarray, index: int | None = None) -> None:
        assert self.gate.wait(TIMEOUT_S)
        super().write(array, index)
        self.written.release()


def spill_writer() -> type[SpillWriter]:
    gate = threading.Event()
    gate.set()
    return type("Spill", (SpillWriter,), {"gate": gate, "written": threading.Semaphore(0)})
