"""A dataset in which one video had to be made with another codec: lerobot decodes each file by itself."""

from concurrent.futures import Future

import numpy as np
import pytest
from helpers import FEATURES, FPS, picture, record_episode
from injected_faults import encode_with
from lerobot.datasets import LeRobotDataset

from aiorecord import Recorder, RGBEncoderConfig
from aiorecord.encoding.camera_encoding import encode_camera
from aiorecord.encoding.episode_encoding import ATTEMPTS
from aiorecord.media.video_file import probe_video
from aiorecord.workers.pool import WorkerPool

AV1 = RGBEncoderConfig(crf=10)
KEY = "observation.images.front"


class KilledPool(WorkerPool):
    """Real processes; the first encodes are killed in the middle."""

    left = 0

    def submit(self, fn, /, *args, **kwargs) -> Future:
        if fn is encode_camera and self.left:
            self.left -= 1
            return super().submit(encode_with, *args, "SIGKILL")
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("packed", [False, True])
async def test_lerobot_reads_every_frame_of_both_codecs(tmp_path, packed):
    root = tmp_path / "set"
    features = {
        key: (spec | {"shape": (96, 128, 3)} if spec["dtype"] == "video" else spec)
        for key, spec in FEATURES.items()
    }

    async def main():
        with KilledPool(1) as pool:
            async with Recorder(
                "test/set",
                root=root,
                fps=FPS,
                features=features,
                rgb_encoder=AV1,
                fallback_vcodec="h264",
                encode_executor=pool,
                encode_workers=1,
                pack=packed,
            ) as recorder:
                for episode in range(3):
                    pool.left = ATTEMPTS if episode == 1 else 0
                    await (await record_episode(recorder, 8, episode)).save

    await main()
    codecs = [probe_video(path)["video.codec"] for path in sorted(root.rglob("*.mp4"))]
    assert codecs == ["av1", "h264", "av1"]
    dataset = LeRobotDataset("test/set", root=root)
    assert dataset.meta.features[KEY]["info"]["video.codec"] == "av1"
    assert (dataset.num_episodes, dataset.num_frames) == (3, 24)
    for index in range(24):
        item = dataset[index]
        episode, k = index // 8, index % 8
        assert (int(item["episode_index"]), int(item["frame_index"])) == (episode, k)
        seen = item[KEY].permute(1, 2, 0).numpy() * 255
        wanted = picture(k, episode, 96, 128)
        assert np.abs(seen - wanted).mean() < 12
        others = [picture(other, episode, 96, 128) for other in range(8) if other != k]
        assert all(np.abs(seen - wanted).mean() < np.abs(seen - other).mean() for other in others)
