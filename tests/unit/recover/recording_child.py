"""Records until it is killed: ``python recording_child.py ROOT ENDED FRAMES``.

A dataset, ENDED complete episodes of FRAMES frames in staging, and one more that is being recorded and has
that many frames on disk. Then it waits.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from helpers import FEATURES, FPS, H264, make_frame

from aiorecord.capture import journal
from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.dataset.commit.lock import DatasetLock
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.encoders import DepthEncoderConfig
from aiorecord.features import Schema
from aiorecord.staging.folder import EpisodeFolder, Staging


def capture(staging: Staging, number: int, frames: int) -> EpisodeCapture:
    schema = Schema(FEATURES)
    made = EpisodeCapture.prepare(
        staging,
        schema=schema,
        fps=FPS,
        rgb_encoder=H264,
        depth_encoder=DepthEncoderConfig(),
        robot_type="arm",
        budget=ByteBudget(64 << 20),
    )
    for k in range(frames):
        made.add_frame(schema.check(make_frame(k, number)), f"Task {number}", 1000 + k * 33_000_000)
    return made


def is_on_disk(running: EpisodeCapture) -> bool:
    """Whether all that was added is written, and the manifest says that the episode was started."""
    if running._rows._pending or any(c.queued_frames for c in running.status().cameras.values()):
        return False
    return "started_unix_ns" in EpisodeFolder.load(running.path).manifest.quality


def main() -> None:
    root, ended, frames = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    journal.FLUSH_PERIOD_S = 0.02
    DatasetLock(root).acquire()
    DatasetWriter.create(root, fps=FPS, schema=Schema(FEATURES), robot_type="arm")
    staging = Staging(root)
    for number in range(ended):
        capture(staging, number, frames).finish()
    running = capture(staging, ended, frames)
    deadline, pause = time.monotonic() + 30, threading.Event()
    while not is_on_disk(running):
        assert time.monotonic() < deadline
        pause.wait(0.005)
    capture(staging, 0, 0)  # the standby of the next episode
    print("recorded", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
