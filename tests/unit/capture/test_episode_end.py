"""The end of an episode: in which order it reaches the disk, who writes it, and what a kill finds of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from captured import (
    DEPTH,
    EVERYTHING,
    FRONT,
    STILL,
    TIMEOUT_S,
    assert_frames,
    capture_threads,
    checked,
    gated,
    prepare,
    wait_for,
)

from aiorecord.capture import frame_queue
from aiorecord.errors import AiorecordError, EncodeError, StorageError
from aiorecord.features import Schema
from aiorecord.staging import lossless
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.raw import RawWriter
from aiorecord.staging.reader import count_frames
from aiorecord.staging.rows import RowsJournal, read_rows

CHILD = Path(__file__).with_name("ended_child.py")
FRAMES = 12


def killed_at(root: Path, point: str) -> EpisodeFolder:
    arguments = [sys.executable, str(CHILD), str(root), str(FRAMES), point]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        child.kill()
        assert said == b"here\n"
    (path,) = Staging(root).episode_paths()
    return EpisodeFolder.load(path)


def test_a_kill_between_the_end_and_durable_finds_a_row_for_every_picture(tmp_path):
    folder = killed_at(tmp_path, "the cameras close")
    assert folder.manifest.state == "recording"
    rows = read_rows(folder.rows_path, Schema(EVERYTHING))["time_ns"].to_pylist()
    assert rows == [1000 + k for k in range(FRAMES)]
    for key, least in ((FRONT, FRAMES - 1), (STILL, FRAMES - 1), (DEPTH, FRAMES)):
        count = count_frames(folder, key)
        assert least <= count <= FRAMES
        assert_frames(folder, Schema(EVERYTHING), key, count)


def test_a_kill_after_durable_takes_nothing(tmp_path):
    folder = killed_at(tmp_path, "durable")
    assert (folder.manifest.state, folder.manifest.length) == ("complete", FRAMES)
    assert read_rows(folder.rows_path, Schema(EVERYTHING)).num_rows == FRAMES
    for key in (FRONT, STILL, DEPTH):
        assert_frames(folder, Schema(EVERYTHING), key, FRAMES)


class Closing(threading.Thread):
    """Ends a capture in a thread of its own, as a saver does."""

    def __init__(self, capture: Any) -> None:
        super().__init__(name="closing")
        self.capture = capture
        self.error: AiorecordError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.capture.finish()
        except AiorecordError as error:
            self.error = error


def writing_threads(monkeypatch: Any, writer: type[Any]) -> list[str]:
    """The names of the threads that wrote each frame with a writer, as they do it."""
    names: list[str] = []
    write = writer.write

    def noted(self: Any, *args: Any) -> None:
        write(self, *args)
        names.append(threading.current_thread().name)

    monkeypatch.setattr(writer, "write", noted)
    return names


def ending(tmp_path: Path, monkeypatch: Any, frames: int = 6, limit: int = 64 << 20) -> Any:
    """A capture whose encoder stands in its first frame, being ended: with its schema, gate and closer."""
    encoder = gated()
    monkeypatch.setattr(lossless, "LosslessWriter", encoder)
    capture, schema = prepare(tmp_path, limit=limit)
    for k in range(frames):
        capture.add_frame(checked(schema, k), "Task", k)
    assert encoder.entered.wait(TIMEOUT_S)
    closing = Closing(capture)
    wait_for(lambda: capture._cameras[FRONT]._taken_over)
    return capture, schema, encoder.gate, closing


def test_whoever_ends_an_episode_writes_what_its_encoder_is_behind(tmp_path, monkeypatch):
    names = writing_threads(monkeypatch, LosslessWriter)
    capture, schema, gate, closing = ending(tmp_path, monkeypatch)
    gate.release(6)
    closing.join(TIMEOUT_S)
    assert closing.error is None
    assert names == [f"aiorecord-capture-{FRONT}"] + 5 * ["closing"]
    assert not capture_threads()
    assert_frames(capture.folder, schema, FRONT, 6)


def test_an_encoder_that_fails_in_the_end_is_followed_by_the_spill(tmp_path, monkeypatch):
    capture, schema, gate, closing = ending(tmp_path, monkeypatch)
    write = LosslessWriter.write

    def failing(self: Any, frame: Any) -> None:
        if self.frames == 3:
            raise EncodeError("boom")
        write(self, frame)

    monkeypatch.setattr(LosslessWriter, "write", failing)
    gate.release(6)
    closing.join(TIMEOUT_S)
    assert closing.error is None
    assert "boom" in capture.problems[0]
    assert not capture_threads()
    camera = EpisodeFolder.load(capture.path).manifest.cameras[FRONT]
    assert (camera.frames, camera.spilled) == (3, 3)
    assert_frames(capture.folder, schema, FRONT, 6)


def test_an_encoder_that_is_too_slow_in_the_end_gives_way_to_the_spill(tmp_path, monkeypatch):
    names = writing_threads(monkeypatch, RawWriter)
    capture, schema, gate, closing = ending(tmp_path, monkeypatch)
    monkeypatch.setattr(frame_queue, "MAX_WAIT_S", 0)
    gate.release(6)
    closing.join(TIMEOUT_S)
    assert closing.error is None
    assert not capture_threads()
    camera = EpisodeFolder.load(capture.path).manifest.cameras[FRONT]
    assert camera.spilled > 0
    assert camera.frames + camera.spilled == 6
    assert len(names) >= camera.spilled
    assert_frames(capture.folder, schema, FRONT, 6)


@pytest.mark.parametrize("refused", ["frames", "spill"])
def test_a_disk_that_refuses_the_last_frames_ends_the_episode_there(tmp_path, monkeypatch, refused):
    capture, schema, gate, closing = ending(tmp_path, monkeypatch)
    writer = LosslessWriter if refused == "frames" else RawWriter
    write = writer.write

    def failing(self: Any, *args: Any) -> None:
        if self.frames == 2:
            raise StorageError("full")
        write(self, *args)

    monkeypatch.setattr(writer, "write", failing)
    if refused == "spill":
        capture._cameras[FRONT]._queue.begin_spill()
    gate.release(6)
    closing.join(TIMEOUT_S)
    assert isinstance(closing.error, StorageError)
    assert not capture_threads()
    assert not capture.is_durable
    folder = capture.keep()
    assert capture.is_durable
    length = folder.manifest.length
    assert 0 < length < 6
    assert_frames(folder, schema, FRONT, length)


def test_an_episode_that_is_dropped_writes_none_of_its_last_frames(tmp_path, monkeypatch):
    names = writing_threads(monkeypatch, LosslessWriter)
    encoder = gated()
    monkeypatch.setattr(lossless, "LosslessWriter", encoder)
    capture, schema = prepare(tmp_path)
    for k in range(6):
        capture.add_frame(checked(schema, k), "Task", k)
    assert encoder.entered.wait(TIMEOUT_S)
    closing = threading.Thread(target=capture.discard, name="closing")
    closing.start()
    wait_for(lambda: capture._cameras[FRONT]._taken_over)
    encoder.gate.release(6)
    closing.join(TIMEOUT_S)
    assert names == [f"aiorecord-capture-{FRONT}"]
    assert not capture_threads()
    assert not capture.path.exists()


def test_rows_that_the_disk_refuses_at_first_are_written_in_the_end(tmp_path, monkeypatch):
    refusals = [StorageError("full")]
    write = RowsJournal._write_buffer

    def refused_once(self: RowsJournal) -> None:
        if refusals:
            self._buffer.seek(0)
            self._buffer.truncate()
            raise refusals.pop()
        write(self)

    capture, schema = prepare(tmp_path)
    monkeypatch.setattr(RowsJournal, "_write_buffer", refused_once)
    for k in range(4):
        capture.add_frame(checked(schema, k), "Task", 1000 + k)
    folder = capture.finish()
    assert not refusals
    assert read_rows(folder.rows_path, schema)["time_ns"].to_pylist() == [1000 + k for k in range(4)]
