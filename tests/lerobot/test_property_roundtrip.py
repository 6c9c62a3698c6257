"""Few but wide recordings that hypothesis makes up, read back by the real lerobot."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
from generated import EPISODES, FEATURES, HEALTH, PHASES, frame_of, record, same
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.datasets.lerobot_dataset import LeRobotDataset

pytestmark = pytest.mark.lerobot

POOL = ThreadPoolExecutor(2, "kept by the tests")

# lerobot makes tensors of Python ints, which torch refuses from 2**63 on; whoever wrote them.
READABLE = FEATURES.filter(lambda features: all(spec["dtype"] != "uint64" for spec in features.values()))


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
@settings(max_examples=8, deadline=None, suppress_health_check=HEALTH, phases=PHASES, derandomize=True)
@given(features=READABLE, episodes=EPISODES, megabytes=st.sampled_from([1e-6, 0.002, 100]))
async def test_lerobot_reads_what_was_recorded(features, episodes, megabytes):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        await record(root, features, episodes, megabytes, POOL)
        dataset = LeRobotDataset("me/set", root=root, video_backend="pyav")
        assert dataset.num_episodes == len(episodes)
        assert len(dataset) == sum(length for _, length in episodes)
        index = 0
        for number, (task, length) in enumerate(episodes):
            for k in range(length):
                item, given_frame = dataset[index], frame_of(features, number, k)
                assert item["task"] == task
                assert (int(item["episode_index"]), int(item["frame_index"])) == (number, k)
                for key, spec in features.items():
                    if spec["dtype"] in ("video", "image"):
                        height, width, _ = spec["shape"]
                        assert tuple(item[key].shape) == (3, height, width)
                        if spec["dtype"] == "image":
                            pixels = np.rint(item[key].numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
                            assert np.array_equal(pixels, given_frame[key])
                    elif spec["dtype"] == "string":
                        assert item[key] == given_frame[key]
                    else:
                        # lerobot gives some numbers in another width than it stores them.
                        value = item[key].numpy()
                        wanted = {**spec, "dtype": str(value.dtype)}
                        assert same(value, given_frame[key].astype(value.dtype), wanted), (key, spec)
                index += 1
