"""LeRobot, recording until it is killed in the middle of an episode: ROOT MODE EPISODES KILL_AT [DROP]."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

AXES = ["height", "width", "channels"]
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (6,), "names": list("abcdef")},
    "flag": {"dtype": "bool", "shape": (1,), "names": None},
    "observation.images.front": {"dtype": "video", "shape": (48, 64, 3), "names": AXES},
    "observation.images.wrist": {"dtype": "video", "shape": (48, 64, 3), "names": AXES},
    "observation.images.still": {"dtype": "image", "shape": (48, 64, 3), "names": AXES},
    "note": {"dtype": "string", "shape": (1,), "names": None},
    "matrix": {"dtype": "float32", "shape": (2, 3), "names": None},
    "action": {"dtype": "float32", "shape": (6,), "names": list("abcdef")},
}


def frame(k, episode):
    rng = np.random.default_rng([k, episode])
    y, x = np.mgrid[0:48, 0:64]
    pixels = np.stack([(x * 2 + 5 * k) % 256, (y * 3 + 30 * episode) % 256, (x + y + k) % 256], -1)
    return {
        "observation.state": rng.random(6, np.float32),
        "flag": np.array([k % 2 == 0]),
        "observation.images.front": pixels.astype(np.uint8),
        "observation.images.wrist": pixels[::-1].astype(np.uint8).copy(),
        "observation.images.still": pixels[:, ::-1].astype(np.uint8).copy(),
        "note": f"note {k}",
        "matrix": rng.random((2, 3), np.float32),
        "action": rng.random(6, np.float32),
        "task": f"Task {episode % 2}",
    }


def length(episode):
    return 10 + episode


def main():
    root, mode, episodes, kill_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    drop = int(sys.argv[5]) if len(sys.argv) > 5 else None
    dataset = LeRobotDataset.create(
        "test/killed",
        30,
        FEATURES,
        root=root,
        streaming_encoding=mode == "streaming",
        rgb_encoder=RGBEncoderConfig(vcodec="h264"),
    )
    for episode in range(episodes + 1):
        for k in range(length(episode)):
            if episode == episodes and k == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if episode == drop and k == 4:
                # What its encoder does when its queue is full: the frame is gone, the row is not.
                feed = dataset.writer._streaming_encoder.feed_frame
                dataset.writer._streaming_encoder.feed_frame = lambda *_: None
                dataset.add_frame(frame(k, episode))
                dataset.writer._streaming_encoder.feed_frame = feed
                continue
            dataset.add_frame(frame(k, episode))
        dataset.save_episode()
    dataset.finalize()


if __name__ == "__main__":
    main()
