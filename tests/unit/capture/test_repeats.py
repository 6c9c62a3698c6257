"""Repeated and stale frames are counted where they are captured."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from captured import DEPTH, FRONT, TIMEOUT_S, VIDEO, checked, gated, noise, prepare, start, wait_for
from hypothesis import given
from hypothesis import strategies as st

from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.camera_plan import plan_camera
from aiorecord.capture.repeats import Repeats, StaleTimes, same_pixels
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.errors import StorageError
from aiorecord.features import CheckedFrame, Feature
from aiorecord.staging import lossless

SHAPE = (48, 64, 3)


def camera_capture(folder, budget, writer=None):
    folder.mkdir(exist_ok=True)
    return start(folder, plan_camera(Feature("cam", "video", SHAPE), RGBEncoderConfig()), budget, writer)


@given(st.lists(st.integers(0, 2), max_size=40))
def test_counts_are_those_of_comparing_every_pair(contents):
    repeats = Repeats()
    for content in contents:
        repeats.add(np.full((4, 5, 3), content, np.uint8))
    pairs = [a == b for a, b in pairwise(contents)]
    runs = "".join("1" if same else "0" for same in pairs).split("0")
    assert repeats.count == sum(pairs)
    assert repeats.longest == max((len(run) for run in runs), default=0)


@pytest.mark.parametrize("at", [(0, 0, 0), (31, 17, 2), (47, 63, 2)])
def test_one_changed_value_anywhere_makes_another_frame(at):
    one, other = noise(0, SHAPE), noise(0, SHAPE)
    assert same_pixels(one, other)
    other[at] ^= 1
    assert not same_pixels(one, other)


def test_depth_with_holes_repeats_too():
    depth = np.full((30, 40), 1.5, np.float32)
    depth[3, 4] = np.nan
    assert same_pixels(depth, depth.copy())


def test_lines_with_padding_are_compared_without_it():
    wide = np.zeros((10, 40, 3), np.uint8)
    one, other = wide[:, :30], wide.copy()[:, :30]
    other.base[:, 30:] = 7
    assert same_pixels(one, other)


@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=30))
def test_a_time_that_does_not_move_on_is_stale(times):
    stale = StaleTimes()
    newest, expected = None, 0
    for time in times:
        stale.add(time)
        if time is not None:
            expected += newest is not None and time <= newest
            newest = time if newest is None else max(newest, time)
    assert (stale.count, stale.known) == (expected, len([t for t in times if t is not None]))


def test_repeats_of_one_camera(tmp_path):
    capture = camera_capture(tmp_path / "e", ByteBudget(64 << 20))
    for content in (0, 0, 1, 2, 2, 2, 2, 3, 2):
        capture.put(noise(content, SHAPE))
    capture.close()
    status = capture.status()
    assert (status.captured, status.repeated, status.lost, status.stale) == (9, 4, 0, None)
    assert status.longest_freeze_s == pytest.approx(3 / 30)
    assert capture.error is None


def test_memory_that_is_used_again_does_not_count_as_a_repeat(tmp_path):
    """The encoder gives frames back for the next ones; the one that is compared must not be among them."""
    capture = camera_capture(tmp_path / "e", ByteBudget(64 << 20))
    for content in range(60):
        before = capture.encoded
        capture.put(noise(content, SHAPE))
        wait_for(lambda before=before: capture.encoded > before)
    capture.close()
    assert capture.status().repeated == 0


def test_repeats_go_on_over_the_change_to_the_spill(tmp_path, monkeypatch):
    """The encoder is stuck in the first frame, the spill takes the rest: the order of comparing is kept."""
    writer = gated()
    budget = ByteBudget(3 * np.prod(SHAPE))
    capture = camera_capture(tmp_path / "e", budget, writer)
    capture.put(noise(7, SHAPE))
    assert writer.entered.wait(TIMEOUT_S)
    for content in (7, 7, 7, 8, 8):  # repeats the one in the encoder, on both sides of the change
        capture.put(noise(content, SHAPE))
        if capture._queue.spilling:
            wait_for(lambda: budget.used <= np.prod(SHAPE))  # the encoder's frame alone
    for _ in range(6):
        writer.gate.release()
    capture.close()
    status = capture.status()
    assert status.spilled > 0
    assert (status.captured, status.repeated, status.lost) == (6, 4, 0)
    assert status.longest_freeze_s == pytest.approx(3 / 30)


def test_frames_that_a_failed_disk_leaves_are_lost_and_said_so(tmp_path):
    class Broken(lossless.LosslessWriter):
        def write(self, frame):
            if self.frames == 2:
                raise StorageError("the disk died")
            super().write(frame)

    capture = camera_capture(tmp_path / "e", ByteBudget(64 << 20), Broken)
    for content in range(3):
        capture.put(noise(content, SHAPE))
    wait_for(lambda: capture.error is not None)
    status = capture.status()
    assert (status.captured, status.queued_frames, status.lost) == (3, 0, 1)
    capture.close()
    assert capture.status().lost == 1


def test_an_episode_notes_what_its_cameras_counted(tmp_path):
    capture, schema = prepare(tmp_path, {**VIDEO, DEPTH: {"dtype": "video", "shape": (30, 40, 1)}})
    frames = [checked(schema, k) for k in (0, 1, 1, 2)]
    depth = [frames[0].images[DEPTH]] * 4
    for k, frame in enumerate(frames):
        images = {**frame.images, DEPTH: depth[k]}
        capture.add_frame(
            CheckedFrame(frame.values, images, None, ()),
            "t",
            k,
            frame_times_ns={FRONT: [5, 6, 6, 6][k]},
            late=k == 3,
        )
    capture.annotate({"lights": "dim"})
    folder = capture.finish()
    quality = type(folder).load(folder.path).manifest.quality
    assert quality["lights"] == "dim"
    assert quality["cameras"][FRONT] == {
        "captured": 4,
        "spilled": 0,
        "late": 1,
        "repeated": 1,
        "stale": 2,
        "lost": 0,
        "longest_freeze_s": 0.033333,
        "corrupt": 0,
    }
    assert quality["cameras"][DEPTH]["repeated"] == 3
    assert quality["cameras"][DEPTH]["stale"] is None
    with_lerobot = {"lerobot"} & set(sys.modules)  # named where the process has imported it
    assert set(quality["versions"]) == {"aiorecord", "python", "av", "ffmpeg"} | with_lerobot
