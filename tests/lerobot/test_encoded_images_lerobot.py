"""lerobot reads what was recorded of compressed camera images."""

import numpy as np
import pytest
from helpers import FEATURES, H264, STATES
from jpegs import decoded, jpeg
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from aiorecord import EncodedImage, Recorder

FRONT = "observation.images.front"
SIZE = {"height": 96, "width": 128}


@pytest.mark.parametrize("dtype", ["video", "image"])
@pytest.mark.parametrize("backend", ["torchcodec", "pyav"])
async def test_lerobot_reads_every_row(tmp_path, dtype, backend):
    features = {**STATES, FRONT: {**FEATURES[FRONT], "dtype": dtype, "shape": (96, 128, 3)}}
    images = [[jpeg(k, episode, **SIZE) for k in range(10)] for episode in range(3)]
    async with Recorder(
        "me/x", root=tmp_path / "set", fps=30, features=features, rgb_encoder=H264
    ) as recorder:
        for episode in images:
            async with recorder.episode("x") as running:
                for k, image in enumerate(episode):
                    states = {key: np.full(3, k, np.float32) for key in STATES}
                    running.add_frame(states | {FRONT: EncodedImage(image, captured_ns=k)})
    dataset = LeRobotDataset("me/x", root=tmp_path / "set", video_backend=backend)
    assert len(dataset) == 30
    for row, image in zip(dataset, [image for episode in images for image in episode], strict=True):
        shown = np.asarray(row[FRONT]).transpose(1, 2, 0) * 255
        error = np.square(shown - decoded(image)).mean()
        assert 10 * np.log10(255**2 / max(error, 1e-9)) > (25 if dtype == "video" else 48)
