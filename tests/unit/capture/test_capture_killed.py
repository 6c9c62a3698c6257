"""What a process leaves that was killed, or that ended without closing its capture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from captured import DEPTH, EVERYTHING, FRONT, STILL, TIMEOUT_S, assert_frames

from aiorecord.features import Schema
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.reader import count_frames
from aiorecord.staging.rows import read_rows

SCHEMA = Schema(EVERYTHING)
CHILD = Path(__file__).with_name("killed_child.py")


def record(root: Path, limit: int, frames: int, how: str) -> EpisodeFolder:
    arguments = [sys.executable, str(CHILD), str(root), str(limit), str(frames), how]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == str(frames).encode()
        if how == "left open":
            assert child.wait(TIMEOUT_S) == 1
        else:
            child.kill()
    (path,) = Staging(root).episode_paths()
    folder = EpisodeFolder.load(path)
    assert folder.manifest.state == "recording"
    return folder


def test_a_kill_takes_one_frame_at_most(tmp_path):
    folder = record(tmp_path, 64 << 20, 40, "flushed")
    for key, least in ((FRONT, 39), (STILL, 39), (DEPTH, 40)):
        count = count_frames(folder, key)
        assert least <= count <= 40
        assert_frames(folder, SCHEMA, key, count)
    assert read_rows(folder.rows_path, SCHEMA)["time_ns"].to_pylist() == [1000 + k for k in range(40)]


def test_a_kill_while_frames_spill_takes_one_frame_at_most(tmp_path):
    folder = record(tmp_path, 1, 40, "flushed")
    for key in (FRONT, STILL, DEPTH):
        count = count_frames(folder, key)
        assert 39 <= count <= 40
        assert_frames(folder, SCHEMA, key, count)


def test_a_kill_before_the_first_flush_keeps_the_frames_and_a_readable_journal(tmp_path):
    folder = record(tmp_path, 64 << 20, 10, "before the flush")
    assert count_frames(folder, FRONT) >= 9
    assert read_rows(folder.rows_path, SCHEMA).num_rows == 0


@pytest.mark.parametrize("limit", [64 << 20, 1])
def test_a_program_that_ends_without_closing_is_not_kept_from_ending(tmp_path, limit):
    folder = record(tmp_path, limit, 20, "left open")
    for key in (FRONT, STILL, DEPTH):
        assert_frames(folder, SCHEMA, key, 20)
    assert read_rows(folder.rows_path, SCHEMA).num_rows == 20
