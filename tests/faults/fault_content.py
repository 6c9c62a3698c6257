"""What the robot of these tests shows: every row and every picture says which one it is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import av
import numpy as np

from aiorecord.media.pixels import PixelConverter

HEIGHT, WIDTH = 64, 96
BLOCK = 16
BITS = (HEIGHT // BLOCK) * (WIDTH // BLOCK)
STEP_BITS = 14


def state(session: int, step: int) -> np.ndarray:
    """(6,) float32: the session, the step and four values that follow from them."""
    rng = np.random.default_rng([session, step, 1])
    return np.concatenate([[session, step], rng.normal(size=4)]).astype(np.float32)


def action(session: int, step: int) -> np.ndarray:
    """(6,) float32."""
    return state(session, step) * np.float32(0.5)


@lru_cache(maxsize=64)
def picture(session: int, step: int) -> np.ndarray:
    """(64, 96, 3) uint8: 24 blocks, light or dark, that survive any codec, under noise that does not."""
    code = (session << STEP_BITS) | step
    bits = np.array([(code >> bit) & 1 for bit in range(BITS)], dtype=np.uint8)
    blocks = bits.reshape(HEIGHT // BLOCK, WIDTH // BLOCK) * 140 + 40
    grey = np.kron(blocks, np.ones((BLOCK, BLOCK), np.uint8)).astype(np.int16)
    noise = np.random.default_rng([session, step, 2]).integers(-16, 17, (HEIGHT, WIDTH, 3))
    return (grey[..., None] + noise).astype(np.uint8)


def read_code(luma: np.ndarray) -> tuple[int, int]:
    """Session and step from a decoded picture's luma, (64, 96)."""
    means = luma.reshape(HEIGHT // BLOCK, BLOCK, WIDTH // BLOCK, BLOCK).mean(axis=(1, 3)).reshape(-1)
    code = sum(1 << bit for bit, mean in enumerate(means) if mean > 110)
    return code >> STEP_BITS, code & ((1 << STEP_BITS) - 1)


def code_of(state: np.ndarray, picture: np.ndarray, action: np.ndarray) -> tuple[int, ...]:
    """What a frame says of itself: session and step; then the picture's and the action's, if they are others.

    Args:
        state: (6,).
        picture: the luma, (64, 96), or RGB, (64, 96, 3).
        action: (6,).
    """
    session, step = int(state[0]), int(state[1])
    shown = read_code(picture if picture.ndim == 2 else picture.mean(axis=2))
    asked = int(action[0] * 2), int(action[1] * 2)
    assert shown[0] == asked[0] == session, (shown, asked, session)
    return (session, step) if shown[1] == asked[1] == step else (session, step, shown[1], asked[1])


@lru_cache(maxsize=2048)
def yuv_of(session: int, step: int) -> bytes:
    """The picture in yuv420p, as the recorder converts it: what a lossless video must hold."""
    frame = av.VideoFrame.from_ndarray(picture(session, step), format="rgb24")
    return yuv_bytes(PixelConverter("yuv420p").convert(frame))


def yuv_bytes(frame: av.VideoFrame) -> bytes:
    """All planes of a yuv420p frame, without padding."""
    return frame.to_ndarray(format="yuv420p").tobytes()


def depth(session: int, step: int) -> np.ndarray:
    """(64, 96, 1) uint16 millimetres."""
    rng = np.random.default_rng([session, step, 3])
    return rng.integers(300, 3000, (HEIGHT, WIDTH, 1)).astype(np.uint16)


def frame(session: int, step: int) -> dict[str, Any]:
    """All of it, for `add_frame`."""
    return {
        "observation.state": state(session, step),
        "observation.images.front": picture(session, step),
        "action": action(session, step),
    }


def features(video: bool = True) -> dict[str, Any]:
    """The features of the coded robot."""
    vector = {"dtype": "float32", "shape": (6,), "names": [f"v{n}" for n in range(6)]}
    camera = {
        "dtype": "video" if video else "image",
        "shape": (HEIGHT, WIDTH, 3),
        "names": ["height", "width", "channels"],
    }
    return {"observation.state": dict(vector), "observation.images.front": camera, "action": dict(vector)}
