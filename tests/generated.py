"""Recordings that hypothesis makes up: features, tasks, lengths and values."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from helpers import H264
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

import aiorecord
from aiorecord.features import DEFAULT_FEATURES, NUMERIC_DTYPES, check_key

ANY_TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "",
        "\0",
        "a\0b",
        "\ud800",
        "x\udfff",
        "\u202eright to left",
        "עברית",
        "🤖" * 50,
        "e\u0301",
        "x" * 10_000,
        "\n",
    ]
)
GOOD_TEXT = ANY_TEXT.filter(lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in text))
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from(
    ["action", "observation.state", "ключ", "a.b-c_d", "x" * 100]
)


def is_key(key: str) -> bool:
    try:
        check_key(key)
    except aiorecord.FeatureError:
        return False
    return key not in DEFAULT_FEATURES


COLUMN = st.one_of(
    st.tuples(st.sampled_from(NUMERIC_DTYPES), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.just(("string", [1])),
).map(lambda given: {"dtype": given[0], "shape": tuple(given[1]), "names": None})
CAMERA = st.tuples(st.sampled_from(["video", "image"]), st.integers(8, 20), st.integers(8, 20)).map(
    lambda given: {
        "dtype": given[0],
        "shape": (2 * given[1], 2 * given[2], 3),
        "names": ["height", "width", "channels"],
    }
)
FEATURES = st.tuples(
    st.dictionaries(KEYS.filter(is_key), COLUMN, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(["observation.images.a", "observation.images.b"]), CAMERA, max_size=2),
).map(lambda given: {**given[0], **given[1]})


def frame_of(features: dict, seed: int, k: int) -> dict:
    """Frame k: any value that its dtype can hold, NaN and the extremes included."""
    frame = {}
    for number, (key, spec) in enumerate(features.items()):
        rng = np.random.default_rng([seed, k, number])
        dtype, shape = spec["dtype"], spec["shape"]
        if dtype in ("video", "image"):
            frame[key] = rng.integers(0, 256, shape).astype(np.uint8)
        elif dtype == "string":
            frame[key] = "".join(chr(c) for c in rng.integers(0, 0xD7FF, 5))
        elif dtype == "bool":
            frame[key] = rng.integers(0, 2, shape).astype(bool)
        else:
            count = math.prod(shape) * np.dtype(dtype).itemsize
            values = np.frombuffer(rng.bytes(count), dtype)
            # lerobot reads whole numbers as int64; larger ones are refused.
            frame[key] = (values >> 1 if dtype == "uint64" else values).reshape(shape)
    return frame


def same(row_value: Any, given: Any, spec: dict) -> bool:
    """Bit for bit, NaN included."""
    if spec["dtype"] == "string":
        return row_value == given
    if spec["dtype"].startswith("float"):
        return np.array_equal(
            np.array(row_value, spec["dtype"]).reshape(spec["shape"]), given, equal_nan=True
        )
    return np.array_equal(np.array(row_value, spec["dtype"]).reshape(spec["shape"]), given)


HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # shrinking a recording takes too long

EPISODES = st.lists(st.tuples(GOOD_TEXT, st.integers(1, 6)), min_size=1, max_size=3)
"""Task and length of each."""


async def record(
    root: Path, features: dict, episodes: list[tuple[str, int]], megabytes: float, pool: Executor
) -> None:
    """Record episodes with an `aiorecord.Recorder`; episode n, frame k is `frame_of(features, n, k)`."""
    recorder = aiorecord.Recorder(
        "me/set",
        fps=30,
        features=features,
        root=root,
        rgb_encoder=H264,
        encode="deferred",
        encode_executor=pool,
        data_files_size_in_mb=megabytes,
        video_files_size_in_mb=megabytes,
    )
    async with recorder:
        for number, (task, length) in enumerate(episodes):
            async with recorder.episode(task) as episode:
                for k in range(length):
                    episode.add_frame(frame_of(features, number, k))
