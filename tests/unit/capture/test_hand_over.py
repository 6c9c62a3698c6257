"""A capture encoder that fails, or loses its work to the spill: that begins with the first frame not safe."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
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
    noise,
    one_camera,
    prepare,
    start,
    wait_for,
)

from aiorecord import Recorder
from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.camera_plan import plan_camera
from aiorecord.dataset.format.quality_log import read as read_quality
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.errors import EncodeError, StorageError
from aiorecord.features import Schema
from aiorecord.staging import lossless
from aiorecord.staging.folder import EpisodeFolder
from aiorecord.staging.live import LiveWriter
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.manifest import Camera
from aiorecord.staging.raw import RawWriter, raw_indices, read_indexed
from aiorecord.staging.reader import read_frames, read_histograms

SHAPE = (48, 64, 3)
COLOUR = Camera("lossless", "cam.frames", "yuv420p", 48, 64, "cam.spill", "cam.hist")


def failing(at: int, error: Exception, *, mid_write: bool = False, only: str = "") -> type[LosslessWriter]:
    """A lossless encoder that fails at a frame, before or after it is in the file."""

    class Failing(LosslessWriter):
        def write(self, frame: Any) -> None:
            wanted = self.frames == at and (not only or self.path.name == only)
            if wanted and mid_write:
                super().write(frame)
            if wanted:
                raise error
            super().write(frame)

    return Failing


@pytest.mark.parametrize("error", [EncodeError("boom"), ZeroDivisionError("bug"), MemoryError()])
@pytest.mark.parametrize("mid_write", [False, True])
@pytest.mark.parametrize("at", [0, 1, 4, 9])
def test_an_encoder_that_fails_costs_no_frame(tmp_path, monkeypatch, at, mid_write, error):
    writer = failing(at, error, mid_write=mid_write, only=f"{FRONT}.frames")
    monkeypatch.setattr(lossless, "LosslessWriter", writer)
    capture, schema = prepare(tmp_path, EVERYTHING)
    for k in range(10):
        capture.add_frame(checked(schema, k), "Task", k)
    wait_for(lambda: capture.status().cameras[FRONT].encoder_error is not None)
    for k in range(10, 15):
        capture.add_frame(checked(schema, k), "Task", k)
    folder = capture.finish()
    assert not capture_threads()
    status = capture.status().cameras
    assert {c.captured for c in status.values()} == {15}
    assert {c.lost for c in status.values()} == {c.queued_frames for c in status.values()} == {0}
    assert status[FRONT].error is None
    assert status[STILL].encoder_error is status[DEPTH].encoder_error is None
    found = EpisodeFolder.load(folder.path)
    camera = found.manifest.cameras[FRONT]
    assert (camera.frames or 0) + camera.spilled == found.manifest.length == 15
    assert camera.spilled >= 15 - at - 1
    for key in (FRONT, DEPTH, STILL):
        assert_frames(found, schema, key, 15)
    assert len(list(read_histograms(found, FRONT))) == 15
    failed = found.manifest.quality["capture_encoder_failed"]
    assert failed.keys() == {FRONT}
    assert repr(error) in failed[FRONT] or str(error) in failed[FRONT]
    [problem] = capture.problems
    assert FRONT in problem
    assert found.manifest.quality["cameras"][FRONT]["spilled"] == camera.spilled


def test_an_encoder_that_fails_to_end_its_file_costs_no_frame(tmp_path, monkeypatch):
    class Failing(LosslessWriter):
        def close(self) -> None:
            self._file.close()
            raise EncodeError("could not finish")

    monkeypatch.setattr(lossless, "LosslessWriter", Failing)
    capture, schema = prepare(tmp_path)
    for k in range(5):
        capture.add_frame(checked(schema, k), "Task", k)
    assert_frames(capture.finish(), schema, FRONT, 5)
    assert "could not finish" in capture.problems[0]


def test_where_raw_frames_fail_as_well_the_episode_is_kept_up_to_there(tmp_path, monkeypatch):
    monkeypatch.setattr(lossless, "LosslessWriter", failing(4, EncodeError("boom")))
    write = RawWriter.write

    def refused(self: RawWriter, array: Any, index: int | None = None) -> None:
        if self.frames == 3:
            raise StorageError("full")
        write(self, array, index)

    monkeypatch.setattr(RawWriter, "write", refused)
    capture, schema = prepare(tmp_path)
    for k in range(5):
        capture.add_frame(checked(schema, k), "Task", k)
    wait_for(lambda: capture.status().cameras[FRONT].encoder_error is not None)
    with pytest.raises(StorageError, match="full"):
        for k in range(5, 10_000):
            capture.add_frame(checked(schema, k), "Task", k)
            wait_for(lambda: capture.failure is not None or not capture.status().cameras[FRONT].queued_frames)
    folder = capture.keep()
    length = folder.manifest.length
    assert length == 6  # 3 and 4, the frames that the file was not certain to hold, and 5
    assert_frames(folder, schema, FRONT, length)
    assert folder.manifest.interrupted
    assert "full" in folder.manifest.quality["failure"]
    assert FRONT in folder.manifest.quality["capture_encoder_failed"]


def test_the_spill_begins_with_the_frames_that_the_encoder_has_in_hand(tmp_path):
    encoder = gated()
    budget = ByteBudget(4 * 48 * 64 * 3)
    capture = start(tmp_path, COLOUR, budget, encoder)
    for k in range(2):
        encoder.gate.release()
        capture.put(noise(k, SHAPE))
        wait_for(lambda: budget.used == 0)
    encoder.entered.clear()
    capture.put(noise(2, SHAPE))
    assert encoder.entered.wait(TIMEOUT_S)
    for k in range(3, 7):
        capture.put(noise(k, SHAPE))
    wait_for(lambda: capture.encoded + capture.spilled == 7)
    # The muxer writes a frame when the next one comes: 1 is not in the file, 2 is being encoded.
    assert list(raw_indices(tmp_path / "cam.spill")) == list(range(1, 7))
    assert (capture.status().spilled, capture.readable) == (5, 7)
    encoder.gate.release()
    capture.close()
    assert (capture.encoded, capture.spilled, capture.readable) == (3, 4, 7)
    assert budget.used == 0


def test_memory_that_the_spill_still_needs_is_not_given_to_the_next_frames(tmp_path, monkeypatch):
    """The encoder ends its frame while the spill has yet to write it; new frames come all the time."""
    gate = threading.Event()
    write = RawWriter.write

    def late(self: RawWriter, array: Any, index: int | None = None) -> None:
        assert gate.wait(TIMEOUT_S)
        write(self, array, index)

    monkeypatch.setattr(RawWriter, "write", late)
    encoder = gated()
    budget = ByteBudget(8 * 48 * 64 * 3)
    capture = start(tmp_path, COLOUR, budget, encoder)
    for k in range(9):
        capture.put(noise(k, SHAPE))
    assert capture._queue.spilling
    encoder.gate.release(9)
    wait_for(lambda: not capture._threads[0].is_alive())
    capture.put(noise(9, SHAPE))
    gate.set()
    for k in range(10, 14):
        capture.put(noise(k, SHAPE))
        wait_for(lambda: budget.used == 0)
    capture.close()
    for index, pixels in read_indexed(tmp_path / "cam.spill"):
        np.testing.assert_array_equal(pixels, noise(index, SHAPE))
    assert capture.readable == 14


async def test_a_recorder_says_that_an_encoder_failed_and_keeps_the_episode_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(lossless, "LosslessWriter", failing(5, EncodeError("boom")))
    features = {FRONT: {"dtype": "video", "shape": SHAPE, "names": ["height", "width", "channels"]}}

    encoder = RGBEncoderConfig(vcodec="h264", preset="ultrafast")
    options: dict[str, Any] = {"rgb_encoder": encoder, "encode": "deferred", "min_free_gb": 0}
    async with Recorder("t/s", root=tmp_path / "set", fps=30, features=features, **options) as recorder:
        async with recorder.episode("Test") as episode:
            for k in range(12):
                episode.add_frame({FRONT: noise(k, SHAPE)})
                while recorder.get_status().queued_bytes:
                    await asyncio.sleep(0.001)
        assert episode.end_reason is None
        assert episode.save is not None
        assert (await episode.save).length == 12
        assert "boom" in episode.save.problems[0]
    records, _ = read_quality(tmp_path / "set")
    assert "boom" in records[0].facts["capture_encoder_failed"][FRONT]
    assert (records[0].cameras[FRONT].lost, records[0].interrupted) == (0, False)
    assert records[0].cameras[FRONT].spilled >= 7


def test_a_live_encoder_that_holds_frames_back_does_not_leave_a_hole(tmp_path):
    """Frames that look-ahead and reordering keep from the file are kept in memory, and spilled first."""
    encoder = RGBEncoderConfig(vcodec="h264", g=12)
    features = {"cam": {"dtype": "video", "shape": SHAPE}}
    camera = plan_camera(Schema(features)["cam"], encoder, live=True)
    budget = ByteBudget(64 * 48 * 64 * 3)

    def opened(path: Path, settings: Camera, fps: int) -> LiveWriter:
        return LiveWriter(path, settings, fps, encoder=encoder, threads=1)

    capture = start(tmp_path, camera, budget, opened)
    for k in range(40):
        capture.put(noise(k, SHAPE))
        wait_for(lambda: not capture.status().queued_bytes)
    writer = capture._writer
    assert isinstance(writer, LiveWriter)
    assert writer.safe < writer.frames < 40
    assert budget.used > 0, "what is kept counts"
    capture._queue.begin_spill()
    wait_for(lambda: not capture._queue._given)
    capture.put(noise(40, SHAPE))
    capture.close()
    spilled = list(raw_indices(tmp_path / "cam.spill"))
    assert spilled == list(range(spilled[0], 41))
    assert spilled[0] <= 40 - 2
    assert capture.readable == 41
    assert budget.used == 0


def test_what_live_encoders_hold_back_is_kept_within_half_of_the_budget(tmp_path):
    class Hoarding(RawWriter):
        safe = 0  # type: ignore[assignment]

    settings = Camera("raw", "cam.raw", "", 30, 40, "cam.spill", None)
    nbytes = 30 * 40 * 2
    budget = ByteBudget(8 * nbytes)
    capture = start(tmp_path, settings, budget, lambda path, *_: Hoarding(path))
    for k in range(30):
        capture.put(noise(k, (30, 40), np.uint16))
        wait_for(lambda: not capture.status().queued_bytes)
        wait_for(lambda: budget.used <= 4 * nbytes)
    assert not capture._queue.spilling
    capture.close()
    assert capture.encoded == 30
    assert len(list(read_frames(one_camera(tmp_path, settings), "cam"))) == 30
