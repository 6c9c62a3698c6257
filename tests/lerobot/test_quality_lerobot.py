"""The quality record beside lerobot: it is not looked at; and lerobot's cameras tell the time of a frame."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import FEATURES, FPS, H264, make_frame, record_episode
from lerobot.cameras.opencv import OpenCVCamera, OpenCVCameraConfig
from lerobot.datasets import LeRobotDataset

from aiorecord import Recorder
from aiorecord.cli import main
from aiorecord.dataset.format import quality_log
from aiorecord.lerobot import AsyncLeRobotDataset, enable_async_saving
from aiorecord.lerobot.drivers.frame_times import CameraTimes

pytestmark = pytest.mark.lerobot

FRONT = "observation.images.front"


def frame_of(k):
    frame = make_frame(k)
    return {**frame, "task": "Pick"}


def record(root, lengths, **options):
    async def work():
        options_ = {"fps": FPS, "features": FEATURES, "rgb_encoder": H264, "encode_workers": 1, **options}
        async with Recorder("t/q", root=root, **options_) as recorder:
            for length in lengths:
                await record_episode(recorder, length)

    asyncio.run(work())


def test_lerobot_loads_and_appends_and_we_go_on(tmp_path, capsys):
    root = tmp_path / "set"
    record(root, [5, 6])
    assert (root / quality_log.PATH).exists()
    dataset = LeRobotDataset("t/q", root=root, video_backend="pyav")
    assert (dataset.num_episodes, len(dataset)) == (2, 11)
    assert dataset[7][FRONT].shape == (3, 48, 64)

    theirs = LeRobotDataset.resume("t/q", root=root)
    for k in range(4):
        theirs.add_frame(frame_of(k))
    theirs.save_episode()
    theirs.finalize()
    assert list(quality_log.read(root)[0]) == [0, 1]

    record(root, [7], resume=True)
    records, problems = quality_log.read(root)
    assert ([records[index].length for index in records], list(records)) == ([5, 6, 7], [0, 1, 3])
    assert problems == []
    assert LeRobotDataset("t/q", root=root, video_backend="pyav").num_episodes == 4
    assert main(["info", str(root)]) == 0
    assert "no record" in capsys.readouterr().out


def test_a_dataset_of_lerobot_is_shown(tmp_path, capsys):
    root = tmp_path / "set"
    dataset = LeRobotDataset.create("t/q", FPS, FEATURES, root=root)
    for k in range(4):
        dataset.add_frame(frame_of(k))
    dataset.save_episode()
    dataset.finalize()
    assert main(["info", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "1 episode, 4 frames" in shown
    assert "no quality record" in shown


@pytest.mark.parametrize("enabled", [False, True])
def test_the_drop_in_keeps_a_record_too(tmp_path, enabled):
    root = tmp_path / "set"
    made_by = LeRobotDataset if enabled else AsyncLeRobotDataset
    dataset = made_by.create("t/q", FPS, FEATURES, root=root)
    if enabled:
        dataset = enable_async_saving(dataset)
    for k in range(5):
        dataset.add_frame(frame_of(min(k, 3)))
    dataset.save_episode()
    for k in range(4):
        dataset.add_frame(frame_of(k))
    dataset.finalize()  # the second episode was not saved
    AsyncLeRobotDataset.resume("t/q", root=root).finalize()
    records, problems = quality_log.read(root)
    assert problems == []
    assert [records[n].interrupted for n in (0, 1)] == [False, True]
    assert [records[n].length for n in (0, 1)] == [5, 4]
    assert [records[n].cameras[FRONT].repeated for n in (0, 1)] == [1, 0]
    for record in records.values():
        camera = record.cameras[FRONT]
        assert (camera.captured, camera.spilled, camera.lost) == (record.length, 0, 0)
        assert camera.late is None  # nothing ticks
        assert record.lateness["source"] == "rows"
        assert record.encode[FRONT]["plan"] == "deferred"
        assert record.encode[FRONT]["settings"]["pix_fmt"] == "yuv420p"
        assert record.versions.keys() == {"aiorecord", "python", "av", "ffmpeg", "lerobot"}
        assert record.recorded_at is not None
    assert LeRobotDataset("t/q", root=root, video_backend="pyav").num_episodes == 2


class Frames(OpenCVCamera):
    """lerobot's OpenCV camera, whose hardware gives a frame each time the test says so."""

    def __init__(self):
        super().__init__(OpenCVCameraConfig(index_or_path=0, width=8, height=6, fps=30))
        self.given = threading.Semaphore(0)
        self.taken = threading.Semaphore(0)
        self.k = 0

    def _read_from_hardware(self):
        self.taken.release()
        assert self.given.acquire(timeout=30)
        self.k += 1
        return np.full((6, 8, 3), self.k, np.uint8)

    def _postprocess_image(self, image):
        return image

    @property
    def is_connected(self):
        return True

    def next(self):
        """Take one frame, and return when it can be read."""
        self.given.release()
        assert self.taken.acquire(timeout=30)


def test_the_time_of_a_frame_is_told_while_it_is_certain():
    camera = Frames()
    robot = SimpleNamespace(cameras={"front": camera})
    times = CameraTimes(robot)
    camera._start_read_thread()
    try:
        assert camera.taken.acquire(timeout=30)
        camera.next()
        times.observed({"front": camera.read_latest(), "pan.pos": 1.0})
        first = times.times_ns["front"]
        times.observed({"front": camera.read_latest()})
        assert times.times_ns == {"front": first}  # the same frame again
        camera.next()
        late = camera.read_latest()
        times.observed({"front": late})
        assert times.times_ns["front"] > first
        held = camera.read_latest()
        camera.next()
        fresh = CameraTimes(robot)
        fresh.observed({"front": held})  # a newer frame came between reading and asking
        assert fresh.times_ns == {}
        times.observed({"front": held})
        assert times.times_ns["front"] > first  # known from before
    finally:
        camera.stop_event.set()
        camera.given.release()
        camera._stop_read_thread()


def test_cameras_without_times_tell_nothing():
    robot = SimpleNamespace(cameras={"front": SimpleNamespace(), "depth": None})
    times = CameraTimes(robot)
    times.observed({"front": np.zeros(3), "depth": np.zeros(3)})
    assert times.times_ns == {}
    CameraTimes(SimpleNamespace()).observed({"front": np.zeros(3)})
