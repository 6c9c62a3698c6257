"""A kill while the capture encoder is behind, long before the memory for waiting frames is full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from aiorecord.capture import EpisodeFolder, Staging, count_frames, read_frames

CHILD = Path(__file__).with_name("overload_child.py")
CAMERA = "observation.images.front"


def test_frames_do_not_wait_in_memory_from_one_flush_to_the_next(tmp_path):
    arguments = [sys.executable, str(CHILD), str(tmp_path), "5", "20"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        words = child.stdout.readline().split()
        child.kill()
    waited, added = map(int, words)
    assert added > waited
    [path] = Staging(tmp_path).episode_paths()
    folder = EpisodeFolder.load(path)
    # All but what came after the last look at the disk; the budget alone would have kept 6.
    assert waited <= count_frames(folder, CAMERA) <= added
    assert sum(1 for _ in read_frames(folder, CAMERA)) == count_frames(folder, CAMERA)
