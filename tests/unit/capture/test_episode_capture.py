from __future__ import annotations

import errno
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captured import (
    DEPTH,
    EVERYTHING,
    FRONT,
    STATE,
    STILL,
    TIMEOUT_S,
    assert_frames,
    capture_threads,
    checked,
    frame_of,
    prepare,
    wait_for,
)

from aiorecord.capture import journal as journal_module
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.errors import CodecUnavailableError, EncodeError, FrameError, StateError, StorageError
from aiorecord.staging import lossless
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.reader import count_frames, read_frames, read_histograms
from aiorecord.staging.rows import read_rows


def add(capture: Any, schema: Any, count: int, start: int = 0) -> None:
    for k in range(start, start + count):
        assert capture.add_frame(checked(schema, k), f"task {k // 10}", 1000 + k) == k


def check_rows(folder: EpisodeFolder, schema: Any, count: int) -> None:
    rows = read_rows(folder.rows_path, schema).to_pylist()
    assert len(rows) == count
    for k, row in enumerate(rows):
        assert row["observation.state"] == [k, k, k]
        assert (row["task"], row["time_ns"]) == (f"task {k // 10}", 1000 + k)


def test_an_episode_reads_back_as_it_was(tmp_path):
    capture, schema = prepare(tmp_path, EVERYTHING, robot_type="arm", encoder_threads=3)
    add(capture, schema, 25)
    folder = capture.finish()
    assert folder.path == capture.path == tmp_path / ".aiorecord" / "episodes" / capture.id
    assert not capture_threads()
    found = EpisodeFolder.load(folder.path)
    manifest = found.manifest
    assert (manifest.state, manifest.length, manifest.interrupted) == ("complete", 25, False)
    assert (manifest.fps, manifest.robot_type, manifest.encoder_threads) == (30, "arm", 3)
    assert manifest.task == "task 0"
    assert {k: (c.frames, c.spilled) for k, c in manifest.cameras.items()} == dict.fromkeys(
        (FRONT, DEPTH, STILL), (25, 0)
    )
    assert manifest.cameras[DEPTH].depth_unit == "mm"
    check_rows(found, schema, 25)
    assert read_rows(found.rows_path, schema)["note"].to_pylist() == [f"note {k}" for k in range(25)]
    for key in (FRONT, DEPTH, STILL):
        assert_frames(found, schema, key, 25)
    assert np.array(list(read_histograms(found, FRONT))).shape == (25, 3, 256)
    assert list(read_histograms(found, DEPTH)) == []
    wanted = np.bincount(frame_of(schema, 7)[STILL][..., 2].ravel(), minlength=256)
    np.testing.assert_array_equal(list(read_histograms(found, STILL))[7][2], wanted)


def test_an_episode_without_cameras(tmp_path):
    capture, schema = prepare(tmp_path, STATE)
    add(capture, schema, 5)
    folder = capture.finish(interrupted=True)
    assert folder.manifest.interrupted
    check_rows(folder, schema, 5)


def test_a_prepared_capture_is_an_empty_recording(tmp_path):
    capture, schema = prepare(tmp_path, EVERYTHING)
    found = EpisodeFolder.load(capture.path)
    assert (found.manifest.state, found.manifest.length) == ("recording", None)
    assert read_rows(found.rows_path, schema).num_rows == 0
    assert capture.length == 0
    status = capture.status()
    assert status.frames == 0
    assert {c.captured for c in status.cameras.values()} == {0}
    with pytest.raises(StateError, match="no frames"):
        capture.finish()
    capture.discard()
    assert Staging(tmp_path).episode_paths() == []
    assert not capture_threads()


def test_two_captures_stand_beside_each_other(tmp_path):
    first, schema = prepare(tmp_path)
    second, _ = prepare(tmp_path)
    add(first, schema, 3)
    add(second, schema, 4)
    folders = [second.finish(), first.finish()]
    assert_frames(folders[0], schema, FRONT, 4)
    assert_frames(folders[1], schema, FRONT, 3)


@pytest.mark.parametrize("frames", [0, 5])
def test_discard_leaves_nothing_and_can_be_repeated(tmp_path, frames):
    capture, schema = prepare(tmp_path)
    add(capture, schema, frames)
    capture.discard()
    capture.discard()
    assert Staging(tmp_path).episode_paths() == []
    assert not capture_threads()
    with pytest.raises(StateError):
        capture.add_frame(checked(schema, 0), "", 0)
    with pytest.raises(StateError):
        capture.finish()


def test_a_finished_episode_takes_nothing_more_and_can_be_discarded(tmp_path):
    capture, schema = prepare(tmp_path)
    add(capture, schema, 2)
    capture.finish()
    with pytest.raises(StateError):
        capture.add_frame(checked(schema, 2), "", 0)
    with pytest.raises(StateError):
        capture.finish()
    capture.discard()
    assert Staging(tmp_path).episode_paths() == []


def test_finish_from_several_threads_finishes_once(tmp_path):
    capture, schema = prepare(tmp_path)
    add(capture, schema, 10)
    outcomes: list[str] = []

    def finish() -> None:
        try:
            outcomes.append(capture.finish().id)
        except StateError:
            outcomes.append("refused")

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted([capture.id, *["refused"] * 3])
    assert_frames(capture.folder, schema, FRONT, 10)


def test_rows_and_what_the_first_frame_tells_reach_the_disk_while_it_records(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "FLUSH_PERIOD_S", 0.01)
    synced: list[str] = []
    fsync = journal_module.fsync_file

    def noted(path: Path) -> None:
        synced.append(path.name)
        fsync(path)

    monkeypatch.setattr(journal_module, "fsync_file", noted)
    capture, schema = prepare(tmp_path, EVERYTHING)
    add(capture, schema, 12)
    wait_for(lambda: read_rows(capture.folder.rows_path, schema).num_rows == 12)
    wait_for(lambda: EpisodeFolder.load(capture.path).manifest.task == "task 0")
    wait_for(lambda: {f"{FRONT}.frames", f"{FRONT}.hist", f"{DEPTH}.raw", f"{STILL}.frames"} <= set(synced))
    found = EpisodeFolder.load(capture.path).manifest
    assert (found.state, found.cameras[DEPTH].depth_unit) == ("recording", "mm")
    add(capture, schema, 3, start=12)
    wait_for(lambda: read_rows(capture.folder.rows_path, schema).num_rows == 15)
    check_rows(capture.folder, schema, 15)
    capture.discard()


@pytest.mark.parametrize("failing", [FRONT, STILL])
def test_a_frame_is_recorded_by_all_cameras_or_by_none(tmp_path, failing):
    capture, schema = prepare(tmp_path, EVERYTHING)
    add(capture, schema, 3)
    bad = checked(schema, 3)
    bad.images[failing] = bad.images[failing][1:]
    with pytest.raises(FrameError):
        capture.add_frame(bad, "", 0)
    depth = checked(schema, 3)
    depth.images[DEPTH] = depth.images[DEPTH].astype(np.float32)
    with pytest.raises(FrameError):
        capture.add_frame(depth, "", 0)
    with pytest.raises(FrameError):
        capture.add_frame(checked(schema, 3), "\udfff", 0)
    assert capture.length == 3
    add(capture, schema, 2, start=3)
    folder = capture.finish()
    check_rows(folder, schema, 5)
    for key in (FRONT, DEPTH, STILL):
        assert_frames(folder, schema, key, 5)


def test_a_failed_camera_stops_the_others_and_leaves_what_there_is(tmp_path, monkeypatch):
    class Failing(LosslessWriter):
        def write(self, frame: Any) -> None:
            if self.frames == 4 and self.path.name == f"{FRONT}.frames":
                raise StorageError("the disk broke")
            super().write(frame)

    monkeypatch.setattr(lossless, "LosslessWriter", Failing)
    capture, schema = prepare(tmp_path, EVERYTHING)
    add(capture, schema, 5)
    wait_for(lambda: capture.status().cameras[FRONT].error is not None)
    length = capture.length
    for _ in range(2):
        with pytest.raises(StorageError, match="broke"):
            capture.add_frame(checked(schema, 5), "", 0)
    assert capture.length == length
    for _ in range(2):
        with pytest.raises(StorageError, match="broke"):
            capture.finish()
    assert not capture_threads()
    found = EpisodeFolder.load(capture.path)
    assert found.manifest.state == "recording"
    check_rows(found, schema, 5)
    assert_frames(found, schema, FRONT, 4)
    assert_frames(found, schema, STILL, 5)
    capture.discard()
    assert Staging(tmp_path).episode_paths() == []


def test_a_camera_that_swallows_a_frame_is_caught_at_the_end(tmp_path, monkeypatch):
    class Swallowing(LosslessWriter):
        swallowed = False

        def write(self, frame: Any) -> None:
            if self.frames != 3 or self.swallowed:
                super().write(frame)
            else:
                self.swallowed = True

    monkeypatch.setattr(lossless, "LosslessWriter", Swallowing)
    capture, schema = prepare(tmp_path)
    add(capture, schema, 6)
    with pytest.raises(EncodeError, match="holds 5 frames, the episode 6 rows") as caught:
        capture.finish()
    assert caught.value.camera == FRONT
    assert EpisodeFolder.load(capture.path).manifest.state == "recording"
    check_rows(capture.folder, schema, 6)
    capture.discard()


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_says_so_and_keeps_what_it_took(tmp_path):
    capture, schema = prepare(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError):
            for k in range(1000):
                capture.add_frame(checked(schema, k), f"task {k // 10}", 1000 + k)
                wait_for(
                    lambda: not capture.status().cameras[FRONT].queued_frames or capture._cameras[FRONT].error
                )
        with pytest.raises(StorageError):
            capture.finish(interrupted=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not capture_threads()
    found = EpisodeFolder.load(capture.path)
    assert found.manifest.state == "recording"
    check_rows(found, schema, capture.length)
    frames = count_frames(found, FRONT)
    assert capture.length - 2 <= frames <= capture.length
    assert_frames(found, schema, FRONT, frames)


def test_rows_that_a_full_disk_refused_are_written_by_finish(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "FLUSH_PERIOD_S", 0.01)
    capture, schema = prepare(tmp_path)
    real = capture._rows._file._file

    class Full:
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    capture._rows._file._file = Full()
    add(capture, schema, 5)
    wait_for(lambda: capture._journal.error is not None)
    with pytest.raises(StorageError):
        capture.add_frame(checked(schema, 5), "", 0)
    with pytest.raises(StorageError):
        capture.finish()
    capture._rows._file._file = real
    folder = capture.finish()
    check_rows(folder, schema, 5)
    assert_frames(folder, schema, FRONT, 5)


def test_a_manifest_that_could_not_be_written_can_be_tried_again(tmp_path, monkeypatch):
    capture, schema = prepare(tmp_path)
    add(capture, schema, 3)
    save = EpisodeFolder.save

    def full(_: EpisodeFolder) -> None:
        raise StorageError("full")

    monkeypatch.setattr(EpisodeFolder, "save", full)
    with pytest.raises(StorageError):
        capture.finish()
    assert capture.folder.manifest.state == "recording"
    monkeypatch.setattr(EpisodeFolder, "save", save)
    assert capture.finish().manifest.state == "complete"


def test_what_an_fsync_lost_is_not_called_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "FLUSH_PERIOD_S", 0.01)
    fsync = journal_module.fsync_file

    def failing(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    capture, schema = prepare(tmp_path)
    monkeypatch.setattr(journal_module, "fsync_file", failing)
    add(capture, schema, 3)
    wait_for(lambda: capture._journal.error is not None)
    monkeypatch.setattr(journal_module, "fsync_file", fsync)  # as Linux: reported once
    with pytest.raises(StorageError):
        capture.add_frame(checked(schema, 3), "", 0)
    with pytest.raises(StorageError):
        capture.finish()
    assert EpisodeFolder.load(capture.path).manifest.state == "recording"
    capture.discard()


def test_preparing_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(lossless, "CODEC", "libnothing")
    with pytest.raises(CodecUnavailableError):
        prepare(tmp_path, EVERYTHING)
    assert Staging(tmp_path).episode_paths() == []
    assert not capture_threads()


def test_a_root_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        prepare(tmp_path / "file")


def test_the_capture_follows_the_final_pixel_format(tmp_path):
    capture, schema = prepare(tmp_path, rgb_encoder=RGBEncoderConfig(pix_fmt="yuv444p"))
    add(capture, schema, 2)
    folder = capture.finish()
    assert {f.format.name for f in read_frames(folder, FRONT)} == {"yuv444p"}


class EndsJustAfterTheWait(threading.Event):
    """The closing of an episode that comes when the journal's second is over, before it looks again."""

    def __init__(self, frames_came: threading.Event) -> None:
        super().__init__()
        self._frames_came = frames_came
        self.waited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        if self.is_set():
            return True
        self.set()
        self._frames_came.set()
        self.waited.set()
        return False


def test_an_end_at_the_very_second_does_not_hang(tmp_path):
    capture, schema = prepare(tmp_path)
    journal = capture._journal
    closing = journal._closing = EndsJustAfterTheWait(journal._frames_came)
    capture.add_frame(checked(schema, 0), "", 0)
    assert closing.waited.wait(TIMEOUT_S)
    journal.thread.join(TIMEOUT_S)
    hangs = journal.thread.is_alive()
    journal._closing = threading.Event()  # lets a thread that hangs go
    journal._closing.set()
    journal._frames_came.set()
    assert not hangs
    assert capture.finish().manifest.length == 1
