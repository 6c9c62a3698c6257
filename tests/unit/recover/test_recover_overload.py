"""A kill while the capture encoder is behind, long before the memory for waiting frames is full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from captured import FRONT, VIDEO, assert_frames, frame_of
from judged import recover

from aiorecord.dataset.format.quality_log import read as read_quality
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.encoding.camera_encoding import direct_encode
from aiorecord.features import Schema
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.reader import count_frames

CHILD = Path(__file__).with_name("overload_child.py")
SCHEMA = Schema(VIDEO)


def packets(path: Path) -> list[bytes]:
    import av

    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("how", ["standing", "ended", "failing"])
def test_a_kill_in_overload_takes_what_came_after_the_last_flush(tmp_path, capsys, how, before):
    """The frame that the encoder had in hand must not take with it what was spilled behind it."""
    root = tmp_path / "set"
    arguments = [sys.executable, str(CHILD), str(root), str(before), "20", how]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        words = child.stdout.readline().split()
        child.kill()
    waited, added = map(int, words)
    assert added > waited == before + 20
    [path] = Staging(root).episode_paths()
    folder = EpisodeFolder.load(path)
    count = count_frames(folder, FRONT)
    assert waited <= count <= added
    assert_frames(folder, SCHEMA, FRONT, count)
    code, report = recover(root, capsys=capsys)
    [episode] = report["episodes"]
    assert code == (3 if report["lost_frames"] else 0)
    assert waited <= episode["frames"] <= count
    [video] = root.rglob("*.mp4")
    images = [frame_of(SCHEMA, k)[FRONT] for k in range(episode["frames"])]
    encoder = RGBEncoderConfig(vcodec="h264", preset="ultrafast")
    direct_encode(images, tmp_path / "direct.mp4", encoder, 30)
    assert packets(video) == packets(tmp_path / "direct.mp4")
    records, problems = read_quality(root)
    assert not problems
    assert records[0].length == episode["frames"]
