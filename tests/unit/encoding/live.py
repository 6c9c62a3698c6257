"""Episodes captured live, with moving pictures, for these tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.features import Schema
from aiorecord.staging.folder import EpisodeFolder, Staging

KEY = "observation.images.front"
HEIGHT, WIDTH = 96, 128
AXES = ["height", "width", "channels"]
FEATURES = {
    KEY: {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": AXES},
    "action": {"dtype": "float32", "shape": (1,), "names": ["a"]},
}
_BLOCKS = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
SCENE = _BLOCKS.repeat(8, 0).repeat(8, 1)


def picture(k: int, seed: int = 0) -> np.ndarray:
    """Frame k: a scene that moves, so that encoders reorder frames."""
    return np.roll(SCENE, (k * 3 + seed, k * 5), (0, 1))


def prepare(
    root: Path,
    encoder: RGBEncoderConfig,
    fps: int = 30,
    limit: int = 64 << 20,
    live: tuple[str, ...] = (KEY,),
) -> EpisodeCapture:
    return EpisodeCapture.prepare(
        Staging(root),
        schema=Schema(FEATURES),
        fps=fps,
        rgb_encoder=encoder,
        depth_encoder=DepthEncoderConfig(),
        budget=ByteBudget(limit),
        live=live,
    )


def add(capture: EpisodeCapture, k: int) -> None:
    frame = {KEY: picture(k), "action": np.array([k], np.float32)}
    capture.add_frame(Schema(FEATURES).check(frame), "Move", k)


def captured(
    root: Path, length: int, encoder: RGBEncoderConfig, fps: int = 30, **options: object
) -> EpisodeFolder:
    capture = prepare(root, encoder, fps, **options)  # type: ignore[arg-type]
    for k in range(length):
        add(capture, k)
    return capture.finish()


def coded(path: Path, fps: int) -> tuple[list[tuple[bytes, Fraction, bool]], bytes]:
    """Every packet with its place on the grid, and the codec's header."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        packets = [
            (bytes(p), (p.pts or 0) * stream.time_base * fps, p.is_keyframe)
            for p in container.demux(stream)
            if p.size
        ]
        return packets, bytes(stream.codec_context.extradata or b"")


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
