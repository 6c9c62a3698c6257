from __future__ import annotations

import os
import sys
import threading
from typing import Any

import numpy as np
import pytest
from captured import (
    FRONT,
    TIMEOUT_S,
    assert_frames,
    capture_threads,
    gated,
    noise,
    one_camera,
    prepare,
    spill_writer,
    wait_for,
)
from captured import start as start_capture

from aiorecord.capture import camera as camera_module
from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.camera import CameraCapture
from aiorecord.errors import CodecUnavailableError, FrameError, StateError, StorageError
from aiorecord.features import Schema
from aiorecord.staging import lossless
from aiorecord.staging.folder import EpisodeFolder
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.manifest import Camera
from aiorecord.staging.reader import count_frames, read_frames, read_histograms

SHAPE = (48, 64, 3)
NBYTES = 48 * 64 * 3
COLOUR = Camera("lossless", "cam.frames", "yuv420p", 48, 64, "cam.spill", "cam.hist")
DEPTH = Camera("raw", "cam.raw", "", 30, 40, "cam.spill", None)


def episode(path: Any, settings: Camera = COLOUR) -> EpisodeFolder:
    return one_camera(path, settings)


def start(folder: Any, budget: ByteBudget | None = None, settings: Camera = COLOUR, **options: Any) -> Any:
    return start_capture(folder, settings, budget, **options)


def rgb_of(folder: EpisodeFolder) -> list[bytes]:
    return [frame.to_ndarray().tobytes() for frame in read_frames(folder, "cam")]


def expected_rgb(count: int) -> list[bytes]:
    import av

    frames = [av.VideoFrame.from_ndarray(noise(k, SHAPE), format="rgb24") for k in range(count)]
    return [frame.reformat(format="yuv420p").to_ndarray().tobytes() for frame in frames]


def test_frames_come_back_in_order_and_the_status_counts_them(tmp_path):
    budget = ByteBudget()
    capture = start(tmp_path, budget)
    for k in range(20):
        capture.put(noise(k, SHAPE))
    capture.close()
    capture.close()
    status = capture.status()
    assert (status.captured, status.queued_frames, status.queued_bytes, status.spilled) == (20, 0, 0, 0)
    assert status.error is None
    assert 0 < status.bytes_written <= (tmp_path / "cam.frames").stat().st_size
    assert budget.used == 0
    assert rgb_of(episode(tmp_path)) == expected_rgb(20)
    assert not capture_threads()
    assert not (tmp_path / "cam.spill").exists()


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "channels first", "bgr", "cropped", "upside down"])
def test_any_memory_layout_is_taken_right(tmp_path, layout, copy):
    image = noise(0, SHAPE)
    if layout == "channels first":
        image = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    elif layout == "bgr":
        image = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    elif layout == "cropped":
        image = np.pad(image, ((3, 4), (5, 6), (0, 0)))[3:-4, 5:-6]
    elif layout == "upside down":
        image = np.ascontiguousarray(image[::-1])[::-1]
    image.setflags(write=False)
    capture = start(tmp_path)
    capture.enqueue(capture.take(image, copy=copy))
    capture.close()
    assert rgb_of(episode(tmp_path)) == expected_rgb(1)


def test_the_caller_may_reuse_its_image(tmp_path):
    encoder = gated()
    capture = start(tmp_path, open_writer=encoder)
    image = np.empty(SHAPE, np.uint8)
    for k in range(3):
        image[:] = noise(k, SHAPE)
        capture.put(image)
    image[:] = 0
    encoder.gate.release(3)
    capture.close()
    assert rgb_of(episode(tmp_path)) == expected_rgb(3)


def test_images_given_away_are_not_copied_before_the_encoder_has_them(tmp_path):
    encoder = gated()
    capture = start(tmp_path, ByteBudget(6 * NBYTES), open_writer=encoder)
    images = [noise(k, SHAPE) for k in range(8)]
    for image in images:
        taken = capture.take(image, copy=False)
        assert taken.pixels is image
        capture.enqueue(taken)
    encoder.gate.release(8)
    capture.close()
    assert capture.status().spilled > 0  # what goes beyond the budget is spilled as ever
    assert rgb_of(complete(tmp_path, capture)) == expected_rgb(8)


def complete(path: Any, capture: CameraCapture) -> EpisodeFolder:
    folder = episode(path)
    folder.manifest.cameras["cam"].frames = capture.encoded
    folder.manifest.cameras["cam"].spilled = capture.spilled
    return folder


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_depth_is_kept_as_it_is(tmp_path, dtype):
    capture = start(tmp_path, settings=DEPTH)
    assert capture.depth_unit is None
    frames = [noise(k, (30, 40)).astype(dtype) * 7 for k in range(5)]
    frames[3] = frames[3][::-1]
    for frame in frames:
        capture.put(frame)
    assert capture.depth_unit == {"uint16": "mm", "float32": "m"}[np.dtype(dtype).name]
    capture.close()
    found = list(read_frames(episode(tmp_path, DEPTH), "cam"))
    assert [f.dtype for f in found] == [dtype] * 5
    for a, b in zip(found, frames, strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(read_histograms(episode(tmp_path, DEPTH), "cam")) == []


def test_wrong_frames_are_refused_and_nothing_of_them_is_kept(tmp_path):
    capture = start(tmp_path)
    for wrong in (
        np.zeros((48, 64), np.uint8),
        np.zeros((1, 64, 3), np.uint8),
        np.zeros(SHAPE, np.float32),
        np.zeros((64, 48, 3), np.uint8),
    ):
        with pytest.raises(FrameError) as caught:
            capture.put(wrong)
        assert caught.value.key == "cam"
    capture.put(noise(0, SHAPE))
    capture.close()
    assert rgb_of(episode(tmp_path)) == expected_rgb(1)


def test_depth_must_not_change_its_dtype(tmp_path):
    capture = start(tmp_path, settings=DEPTH)
    with pytest.raises(FrameError):
        capture.put(np.zeros((30, 40), np.float64))
    capture.put(np.zeros((30, 40), np.uint16))
    with pytest.raises(FrameError):
        capture.put(np.zeros((30, 40), np.float32))
    capture.close()
    assert count_frames(episode(tmp_path, DEPTH), "cam") == 1


def test_a_closed_capture_takes_nothing(tmp_path):
    capture = start(tmp_path)
    capture.close()
    with pytest.raises(StateError):
        capture.put(noise(0, SHAPE))


def test_a_slow_encoder_spills_and_nothing_is_lost(tmp_path, monkeypatch):
    spill = spill_writer()
    monkeypatch.setattr(camera_module, "RawWriter", spill)
    encoder = gated()
    limit = 3 * NBYTES
    budget = ByteBudget(limit)
    capture = start(tmp_path, budget, open_writer=encoder)
    capture.put(noise(0, SHAPE))
    assert encoder.entered.wait(TIMEOUT_S)
    for k in range(1, 40):
        capture.put(noise(k, SHAPE))
        assert budget.used <= limit + NBYTES
        if k >= 3:  # from here on the spill has everything but the frame the encoder is at
            for _ in range(3 if k == 3 else 1):
                assert spill.written.acquire(timeout=TIMEOUT_S)
            wait_for(lambda: budget.used == NBYTES)
    encoder.gate.release()
    capture.close()
    status = capture.status()
    assert (status.captured, status.spilled, capture.encoded) == (40, 39, 1)
    folder = episode(tmp_path)
    assert rgb_of(folder) == expected_rgb(40)
    assert count_frames(folder, "cam") == 40
    histograms = np.array(list(read_histograms(folder, "cam")))
    assert histograms.shape == (40, 3, 256)
    for k in range(40):
        for channel in range(3):
            counts = np.bincount(noise(k, SHAPE)[..., channel].ravel(), minlength=256)
            np.testing.assert_array_equal(histograms[k, channel], counts)


def test_overload_at_any_moment_keeps_every_frame_in_order(tmp_path):
    """The encoder works while the budget is exceeded: the hand-over falls anywhere."""
    for trial in range(25):
        path = tmp_path / str(trial)
        path.mkdir()
        budget = ByteBudget((1 + trial % 5) * NBYTES)
        capture = start(path, budget)
        for k in range(12):
            while True:
                try:
                    capture.put(noise(k, SHAPE))
                    break
                except StorageError:  # faster than the disk: come again
                    wait_for(lambda budget=budget: budget.used == 0)
            assert budget.used <= budget.hard_limit_bytes + NBYTES
        capture.close()
        assert capture.error is None
        assert capture.encoded + capture.spilled == 12
        assert rgb_of(episode(path)) == expected_rgb(12)


def test_when_the_disk_does_not_keep_up_either_frames_are_refused(tmp_path, monkeypatch):
    spill = spill_writer()
    spill.gate.clear()
    monkeypatch.setattr(camera_module, "RawWriter", spill)
    encoder = gated()
    budget = ByteBudget(4 * NBYTES)
    capture = start(tmp_path, budget, open_writer=encoder)
    accepted = 0
    with pytest.raises(StorageError, match="does not keep up") as caught:
        while True:
            capture.put(noise(accepted, SHAPE))
            accepted += 1
    assert caught.value.path == tmp_path / "cam.spill"
    assert accepted == 6  # half the limit again
    assert budget.used == budget.hard_limit_bytes
    spill.gate.set()
    encoder.gate.release()
    wait_for(lambda: capture.encoded + capture.spilled == 6)
    capture.put(noise(6, SHAPE))  # the refusal was of that frame only
    capture.close()
    assert rgb_of(episode(tmp_path)) == expected_rgb(7)


def test_a_camera_whose_queue_is_empty_is_not_made_to_pay_for_others(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    encoder = gated()
    budget = ByteBudget(2 * NBYTES)
    slow = start(tmp_path / "a", budget, open_writer=encoder)
    good = start(tmp_path / "b", budget)
    slow.put(noise(0, SHAPE))
    slow.put(noise(1, SHAPE))
    for k in range(5):
        good.put(noise(k, SHAPE))
        wait_for(lambda k=k: good.status().queued_bytes == 0)
    good.close()
    encoder.gate.release(2)
    slow.close()
    assert (good.encoded, good.spilled) == (5, 0)
    assert (slow.encoded, slow.spilled) == (2, 0)


def test_a_disk_that_refuses_the_encoder_says_so_with_the_next_frame(tmp_path):
    class Failing(LosslessWriter):
        def write(self, frame: Any) -> None:
            if self.frames == 2:
                raise StorageError("full")
            super().write(frame)

    budget = ByteBudget()
    capture = start(tmp_path, budget, open_writer=Failing)
    for k in range(3):
        capture.put(noise(k, SHAPE))
    wait_for(lambda: capture.error is not None)
    with pytest.raises(StorageError) as caught:
        capture.put(noise(3, SHAPE))
    assert capture.status().error is caught.value
    assert budget.used == 0
    capture.close()
    assert rgb_of(episode(tmp_path)) == expected_rgb(2)
    assert not capture_threads()


def test_a_failed_spill_says_so_with_the_next_frame(tmp_path, monkeypatch):
    class Full:
        frames = size = 0

        def __init__(self, path: Any) -> None:
            raise StorageError("full", path=path)

    monkeypatch.setattr(camera_module, "RawWriter", Full)
    encoder = gated()
    capture = start(tmp_path, ByteBudget(2 * NBYTES), open_writer=encoder)
    capture.put(noise(0, SHAPE))
    assert encoder.entered.wait(TIMEOUT_S)
    capture.put(noise(1, SHAPE))
    capture.put(noise(2, SHAPE))
    wait_for(lambda: capture.error is not None)
    with pytest.raises(StorageError, match="full"):
        capture.put(noise(3, SHAPE))
    encoder.gate.release()
    capture.close()
    assert rgb_of(episode(tmp_path)) == expected_rgb(1)


def test_a_codec_that_does_not_open_is_an_error_of_wait_open(tmp_path):
    def unavailable(*_: Any) -> Any:
        raise CodecUnavailableError("no codec")

    capture = CameraCapture("cam", episode(tmp_path), ByteBudget(), open_writer=unavailable)
    capture.start()
    with pytest.raises(CodecUnavailableError) as caught:
        capture.wait_open()
    assert caught.value.camera == "cam"
    capture.close()
    assert not capture_threads()


def test_abandoning_does_not_write_what_waits(tmp_path):
    encoder = gated()
    budget = ByteBudget()
    capture = start(tmp_path, budget, open_writer=encoder)
    for k in range(10):
        capture.put(noise(k, SHAPE))
    assert encoder.entered.wait(TIMEOUT_S)
    closer = threading.Thread(target=capture.close, kwargs={"abandon": True})
    closer.start()
    wait_for(lambda: capture._queue._ended)
    encoder.gate.release(10)
    closer.join(TIMEOUT_S)
    assert capture.encoded == 1
    assert budget.used == 0


@pytest.mark.skipif(sys.platform != "linux", reason="threads have their own nice value on Linux")
def test_the_threads_give_way_to_the_loop(tmp_path):
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    capture = start(tmp_path)
    wanted = {"aiorecord-capture-cam": camera_module.ENCODER_NICE, "aiorecord-spill-cam": 5}
    wanted = {name: max(before, nice) for name, nice in wanted.items()}  # the tests themselves may be nice

    def nice() -> dict[str, int]:
        threads = [t for t in threading.enumerate() if t.name in wanted]
        assert not any(t.daemon for t in threads)
        return {t.name: os.getpriority(os.PRIO_PROCESS, t.native_id or 0) for t in threads}

    try:
        wait_for(lambda: nice() == wanted)
    finally:
        capture.close()
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_one_budget_bounds_a_whole_episode(tmp_path, monkeypatch):
    encoder = gated()
    monkeypatch.setattr(lossless, "LosslessWriter", encoder)
    features = {f"cam{n}": {"dtype": "video", "shape": SHAPE} for n in range(3)}
    budget = ByteBudget(6 * NBYTES)
    capture, schema = prepare(tmp_path, features, budget=budget)
    taken = 0
    while taken < 30:
        frame = schema.check({key: noise(taken, SHAPE) for key in features})
        try:
            capture.add_frame(frame, "", 0)
            taken += 1
        except StorageError:  # faster than the disk
            wait_for(lambda: budget.used <= 3 * NBYTES)
        assert capture.length == taken
        assert {c.captured for c in capture.status().cameras.values()} == {taken}
        assert budget.used <= budget.hard_limit_bytes + 3 * NBYTES
    encoder.gate.release(100)
    folder = capture.finish()
    assert all(camera.spilled for camera in folder.manifest.cameras.values())
    for key in features:
        frames = [f.to_ndarray().tobytes() for f in read_frames(folder, key)]
        assert frames == expected_rgb(30)


def test_a_budget_forgets_closed_cameras():
    budget = ByteBudget(100)
    a, b = budget.open_account(), budget.open_account()
    a.added, b.added, b.spilled = 10, 20, 5
    assert budget.used == 25
    budget.close_account(a)
    budget.close_account(a)
    assert budget.used == 15
    assert ByteBudget().limit_bytes == 256 << 20


def test_a_schema_of_many_cameras_uses_its_keys_as_names(tmp_path):
    capture, schema = prepare(tmp_path)
    assert isinstance(schema, Schema)
    capture.add_frame(
        schema.check({"observation.state": np.zeros(3, np.float32), FRONT: noise(0, SHAPE)}), "", 0
    )
    folder = capture.finish()
    assert (folder.path / f"{FRONT}.frames").exists()
    with pytest.raises(AssertionError):
        assert_frames(folder, schema, FRONT, 2)
