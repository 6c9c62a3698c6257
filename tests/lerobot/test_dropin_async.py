"""Saving behind a synchronous script: queue, timeouts, order, asyncio forms, kills and exits."""

import asyncio
import copy
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import FEATURES, FPS, H264, STATES, make_frame, rows_of
from lerobot.datasets import LeRobotDataset

import aiorecord
from aiorecord.lerobot import AsyncEpisodeSaver, AsyncLeRobotDataset

KEYS = {
    "is_running",
    "total_submitted",
    "total_completed",
    "total_failed",
    "queue_size",
    "pending_tasks",
    "last_error",
    "worker_alive",
}


class Gate(Executor):
    """Encodes in a thread, when the gate is open; can fail episodes, or get stuck."""

    def __init__(self):
        self.open = threading.Event()
        self.fail = 0
        self.doomed = set()
        self.stuck = 0
        self.hanging = []
        self._pool = ThreadPoolExecutor(1)

    def submit(self, function, /, *args, **kwargs):
        if function.__name__ != "encode_camera":
            return self._pool.submit(function, *args, **kwargs)
        if self.stuck:
            self.stuck -= 1
            future = Future()
            future.set_running_or_notify_cancel()
            self.hanging.append(future)
            # The save waits for its encodes to end: a worker pool would kill it.
            threading.Timer(1.0, future.set_exception, [aiorecord.EncodeError("late")]).start()
            return future
        return self._pool.submit(self._encode, function, *args)

    def _encode(self, function, job):
        assert self.open.wait(30)
        if self.fail and job.folder not in self.doomed:
            self.fail -= 1
            self.doomed.add(job.folder)
        if job.folder in self.doomed:  # whatever is tried
            raise aiorecord.EncodeError("no luck")
        return function(job)


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open.set()
    made._pool.shutdown()


@pytest.fixture
def dataset(tmp_path, gate):
    class Gated(AsyncLeRobotDataset):
        recorder_options = {"encode_executor": gate, "encode_workers": 1}  # noqa: RUF012

    made = Gated.create("test/set", FPS, FEATURES, root=tmp_path / "set", rgb_encoder=H264)
    yield made
    gate.open.set()
    made.finalize()


def add(dataset, length=4, episode=0, features=FEATURES):
    for k in range(length):
        dataset.add_frame(make_frame(k, episode, features) | {"task": f"Task {episode}"})


def contents(root):
    """Lengths and contents of the episodes of a dataset."""
    found = {}
    for row in rows_of(root):
        found.setdefault(row["episode_index"], []).append(int(row["action"][1]) - 1)
    assert all(len(set(marks)) == 1 for marks in found.values())
    return [(len(marks), marks[0]) for _, marks in sorted(found.items())]


def staged(root):
    return sorted(path.name for path in Path(root).glob(".aiorecord/episodes/*/rows.arrows"))


def test_the_proposals_example(tmp_path):
    dataset = AsyncLeRobotDataset.create("test/set", FPS, FEATURES, root=tmp_path / "set", rgb_encoder=H264)
    dataset.enable_async_saving(max_queue_size=5, save_timeout=180.0)
    for episode in range(7):
        add(dataset, 5, episode)
        if not dataset.save_episode_async():
            dataset.save_episode()
    assert dataset.wait_for_async_saves(timeout=60.0)
    assert dataset.num_episodes == 7
    status = dataset.get_async_save_status()
    assert status == {
        "is_running": True,
        "total_submitted": 7,
        "total_completed": 7,
        "total_failed": 0,
        "queue_size": 0,
        "pending_tasks": 0,
        "last_error": "",
        "worker_alive": True,
        "async_saving_enabled": True,
    }
    results = dataset.get_async_save_results()
    assert [result["episode_index"] for result in results] == list(range(7))
    assert all(result["success"] and result["length"] == 5 for result in results)
    assert dataset.get_async_save_results() == []
    assert dataset.disable_async_saving(wait_for_completion=True) is None
    status = dataset.get_async_save_status()
    assert [status[key] for key in ("is_running", "worker_alive", "async_saving_enabled")] == [False] * 3
    dataset.finalize()
    assert contents(tmp_path / "set") == [(5, episode) for episode in range(7)]
    assert not dataset.get_async_save_status()["worker_alive"]
    read = LeRobotDataset("test/set", root=tmp_path / "set", video_backend="pyav")
    assert len(read) == 35
    assert read[34]["task"] == "Task 6"


def test_before_it_is_enabled(dataset, gate):
    gate.open.set()
    assert dataset.get_async_save_status() == dict.fromkeys(KEYS, 0) | {
        "is_running": False,
        "last_error": "",
        "worker_alive": False,
        "async_saving_enabled": False,
    }
    assert dataset.get_async_save_results() == []
    assert dataset.wait_for_async_saves(timeout=0)
    dataset.disable_async_saving()
    add(dataset)
    assert dataset.save_episode_async()  # in the foreground
    assert dataset.num_episodes == 1
    assert not dataset.has_pending_frames()


@pytest.mark.parametrize("bad", [{"max_queue_size": 0}, {"save_timeout": 0}, {"save_timeout": -1}])
def test_limits_that_make_no_sense(dataset, bad):
    with pytest.raises(ValueError, match="not"):
        dataset.enable_async_saving(**bad)
    assert not dataset.get_async_save_status()["is_running"]
    dataset.enable_async_saving()


def test_a_full_queue_refuses_and_the_foreground_keeps_the_order(tmp_path, dataset, gate):
    dataset.enable_async_saving(max_queue_size=1)
    accepted = []
    episode = 0
    while True:
        add(dataset, 4, episode)
        if not dataset.save_episode_async():
            break
        accepted.append(episode)
        episode += 1
    assert 1 <= len(accepted) <= 2  # one that is encoded, one that waits
    assert dataset.episode_buffer["size"] == 4
    assert dataset.episode_buffer["episode_index"] == len(accepted)
    # A buffer that is handed in is refused likewise, and is still the caller's.
    frame = make_frame(0)
    buffer = dataset.create_episode_buffer() | {key: [frame[key]] for key in FEATURES}
    buffer |= {"size": 1, "task": ["Other"]}
    assert not dataset.save_episode_async(buffer)
    assert not dataset.wait_for_async_saves(timeout=0.01)
    assert dataset.num_episodes == 0
    add(dataset, 1, episode)
    gate.open.set()
    dataset.save_episode()
    assert dataset.num_episodes == len(accepted) + 1
    dataset.finalize()
    assert contents(tmp_path / "set") == [(4, n) for n in accepted] + [(5, episode)]


def test_saving_behind_does_not_wait_and_the_next_episode_begins_at_once(dataset):
    """The encoder stands still all the time: nothing here can have waited for it."""
    dataset.enable_async_saving(max_queue_size=5)
    for episode in range(3):
        assert dataset.episode_buffer["episode_index"] == episode
        add(dataset, 3, episode)
        assert dataset.save_episode_async()
        assert not dataset.has_pending_frames()
    add(dataset, 2, 9)
    dataset.clear_episode_buffer()
    add(dataset, 1, 3)
    status = dataset.get_async_save_status()
    assert (status["pending_tasks"], status["total_completed"]) == (3, 0)
    assert dataset.num_episodes == 0
    dataset.disable_async_saving(wait_for_completion=False)
    dataset.disable_async_saving(wait_for_completion=True, timeout=0.01)
    status = dataset.get_async_save_status()
    assert (status["is_running"], status["worker_alive"], status["pending_tasks"]) == (False, True, 3)


def test_buffers_of_ones_own_behind_the_caller(tmp_path, dataset, gate):
    dataset.enable_async_saving()
    for episode in range(3):
        frames = [make_frame(k, episode) for k in range(4)]
        buffer = dataset.create_episode_buffer() | {key: [f[key] for f in frames] for key in FEATURES}
        buffer |= {"size": 4, "task": ["Mine"] * 4, "episode_index": np.array([episode])}
        assert dataset.save_episode_async(buffer)
    add(dataset, 2, 3)
    assert dataset.save_episode_async(copy.deepcopy(dataset.episode_buffer))
    with pytest.raises(NotImplementedError):
        dataset.save_episode_async(buffer | {"episode_index": 9})
    gate.open.set()
    assert dataset.wait_for_async_saves(timeout=30)
    dataset.finalize()
    assert contents(tmp_path / "set") == [(4, 0), (4, 1), (4, 2), (2, 3)]


def test_a_save_that_times_out_keeps_its_data_and_the_next_ones_go_on(tmp_path, dataset, gate):
    gate.open.set()
    gate.stuck = 1
    dataset.enable_async_saving(save_timeout=0.05)
    for episode in range(2):
        add(dataset, 4, episode)
        assert dataset.save_episode_async()
    assert dataset.wait_for_async_saves(timeout=30)
    failed, good = sorted(dataset.get_async_save_results(), key=lambda result: result["success"])
    assert (failed["success"], failed["episode_index"], failed["length"]) == (False, None, 4)
    assert "SaveTimeoutError" in failed["error"]
    assert (good["success"], good["episode_index"]) == (True, 0)
    status = dataset.get_async_save_status()
    assert (status["total_failed"], status["total_completed"]) == (1, 1)
    assert "no progress" in status["last_error"]
    assert dataset.episode_buffer["episode_index"] <= 2
    add(dataset, 3, 2)
    dataset.save_episode()
    dataset.finalize()
    assert contents(tmp_path / "set") == [(4, 1), (3, 2)]
    assert len(staged(tmp_path / "set")) == 1
    again = AsyncLeRobotDataset.resume("test/set", root=tmp_path / "set", rgb_encoder=H264)
    assert again.num_episodes == 3
    again.finalize()
    assert contents(tmp_path / "set") == [(4, 1), (3, 2), (4, 0)]
    assert not (tmp_path / "set/.aiorecord").exists()


def test_a_failed_save_raises_in_the_foreground_and_is_told_in_the_background(
    tmp_path, dataset, gate, caplog
):
    gate.open.set()
    gate.fail = 1
    add(dataset, 4, 0)
    with pytest.raises(aiorecord.SaveError, match="no luck") as caught:
        dataset.save_episode()
    assert caught.value.staging.exists()
    assert not dataset.has_pending_frames()
    dataset.enable_async_saving()
    gate.fail = 1
    for episode in (1, 2):
        add(dataset, 4, episode)
        assert dataset.save_episode_async()
    dataset.wait_for_async_saves()
    assert [r["success"] for r in dataset.get_async_save_results()] == [False, True]
    dataset.finalize()
    assert "2 episode(s) could not be saved" in caplog.text
    assert contents(tmp_path / "set") == [(4, 2)]


def test_results_are_still_there_after_finalize(dataset, gate):
    gate.open.set()
    dataset.enable_async_saving()
    add(dataset)
    assert dataset.save_episode_async()
    dataset.finalize()
    assert [r["success"] for r in dataset.get_async_save_results()] == [True]
    assert dataset.get_async_save_results() == []
    assert dataset.wait_for_async_saves()
    dataset.disable_async_saving()


def test_enabling_again_counts_anew(dataset, gate):
    gate.open.set()
    dataset.enable_async_saving(max_queue_size=2)
    add(dataset)
    assert dataset.save_episode_async()
    dataset.enable_async_saving(max_queue_size=2)  # nothing changes
    assert dataset.get_async_save_status()["total_submitted"] == 1
    dataset.enable_async_saving(max_queue_size=3)
    assert dataset.num_episodes == 1
    assert dataset.get_async_save_status()["total_submitted"] == 0
    dataset.disable_async_saving()
    dataset.enable_async_saving(max_queue_size=3)
    assert dataset.get_async_save_status()["is_running"]


def test_the_saver_by_itself(tmp_path, gate):
    plain = LeRobotDataset.create("test/set", FPS, STATES, root=tmp_path / "set")
    saver = AsyncEpisodeSaver(plain, max_queue_size=3, save_timeout=60.0)
    assert isinstance(plain, AsyncLeRobotDataset)
    for episode in range(3):
        add(plain, 3, episode, STATES)
        assert saver.submit_episode(plain.writer.episode_buffer.copy(), episode)
        assert not plain.has_pending_frames()
    with pytest.raises(ValueError, match="add_frame"):
        saver.submit_episode(plain.writer.episode_buffer, 3)
    add(plain, 2, 3, STATES)
    with pytest.raises(NotImplementedError):
        saver.submit_episode(plain.writer.episode_buffer, 7)
    assert saver.submit_episode()
    assert saver.wait_for_completion(timeout=30)
    assert set(saver.get_status()) == KEYS
    results = saver.get_results(timeout=1)
    assert [(r.episode_index, r.length, r.success) for r in results] == [
        (0, 3, True),
        (1, 3, True),
        (2, 3, True),
        (3, 2, True),
    ]
    assert saver.get_results() == saver.get_results(None) == []
    assert saver.wait_for_stop() is None
    assert saver.stop(wait=False) is None
    assert [saver.get_status()[key] for key in ("is_running", "worker_alive")] == [False, False]
    add(plain, 1, 4, STATES)
    assert not saver.submit_episode(plain.writer.episode_buffer, 4)
    plain.save_episode()
    plain.finalize()
    assert [length for length, _ in contents(tmp_path / "set")] == [3, 3, 3, 2, 1]


async def test_awaitable_forms(tmp_path, dataset, gate):
    dataset.enable_async_saving()
    add(dataset, 3, 0)
    saving = asyncio.create_task(dataset.asave_episode())
    turns = 0
    while dataset.has_pending_frames() or turns < 3:
        turns += 1
        await asyncio.sleep(0)
    add(dataset, 3, 1)  # the loop runs, and the next episode too
    assert not saving.done()
    assert not await dataset.await_async_saves(timeout=0.01)
    second = asyncio.create_task(dataset.asave_episode())
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.open.set()
    await saving
    assert await dataset.await_async_saves()
    assert dataset.num_episodes == 2  # a cancelled wait does not stop a save
    gate.fail = 1
    add(dataset, 3, 2)
    with pytest.raises(aiorecord.SaveError):
        await dataset.asave_episode()
    with pytest.raises(ValueError, match="add_frame"):
        await dataset.asave_episode()
    await dataset.aclose()
    assert await dataset.await_async_saves()
    assert contents(tmp_path / "set") == [(3, 0), (3, 1)]


def test_frames_and_saves_from_several_threads(tmp_path):
    """As lerobot's rollout strategies do: one thread records, another saves."""
    dataset = AsyncLeRobotDataset.create("test/set", FPS, STATES, root=tmp_path / "set")
    dataset.enable_async_saving(max_queue_size=100)
    with ThreadPoolExecutor(1) as other:
        for episode in range(12):
            add(dataset, 3, episode, STATES)
            future = other.submit(dataset.save_episode_async if episode % 2 else dataset.save_episode)
            future.result()
    dataset.finalize()
    assert contents(tmp_path / "set") == [(3, episode) for episode in range(12)]


SCRIPT = """
import sys, os, threading
sys.path.insert(0, sys.argv[2])
from helpers import FEATURES, FPS, make_frame
from aiorecord import RGBEncoderConfig
from aiorecord.lerobot import AsyncLeRobotDataset

def add(dataset, length, episode):
    for k in range(length):
        dataset.add_frame(make_frame(k, episode) | {"task": f"Task {episode}"})

def say(text):
    print(text, flush=True)

dataset = AsyncLeRobotDataset.create("test/set", FPS, FEATURES, root=sys.argv[1])
dataset.enable_async_saving(max_queue_size=20)
for episode in range(4):
    add(dataset, 20, episode)
    assert dataset.save_episode_async()
"""


def start(tmp_path, rest):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + rest, tmp_path / "set", Path(__file__).parents[1]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def check_resumed(tmp_path, expected):
    dataset = AsyncLeRobotDataset.resume("test/set", root=tmp_path / "set")
    assert dataset.num_episodes == len(expected)
    dataset.finalize()
    assert contents(tmp_path / "set") == expected
    assert not (tmp_path / "set/.aiorecord").exists()
    read = LeRobotDataset("test/set", root=tmp_path / "set", video_backend="pyav")
    for index in range(len(read)):
        assert int(read[index]["index"]) == index


def durable(root):
    """Ended episodes on disk, in the dataset or in staging."""
    info = (root / "meta/info.json").read_text()
    committed = int(info.split('"total_episodes":')[1].split(",")[0])
    complete = 0
    for path in root.glob(".aiorecord/episodes/*/manifest.json"):
        try:
            complete += '"complete"' in path.read_text()
        except FileNotFoundError:
            return -1  # it is being committed; look again
    return committed + complete


def running_rows(root):
    """Bytes of rows on disk of the episode that is being recorded; a standby has next to none."""
    sizes = [0]
    for path in root.glob(".aiorecord/episodes/*/manifest.json"):
        try:
            if '"recording"' in path.read_text():
                sizes.append(path.with_name("rows.arrows").stat().st_size)
        except FileNotFoundError:
            continue  # it is being made, or removed
    return max(sizes)


def test_killed_while_it_records_and_saves(tmp_path):
    process = start(tmp_path, "add(dataset, 10, 4); say('recorded'); threading.Event().wait()")
    assert process.stdout.readline() == "recorded\n"
    deadline = time.monotonic() + 60
    while durable(tmp_path / "set") < 4 and time.monotonic() < deadline:
        os.sched_yield()
    # The running episode's first second is on disk once its rows are.
    while running_rows(tmp_path / "set") < 1500 and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    dataset = AsyncLeRobotDataset.resume("test/set", root=tmp_path / "set")
    dataset.finalize()
    found = contents(tmp_path / "set")
    assert found[:4] == [(20, episode) for episode in range(4)]
    assert len(found) == 5
    assert found[4][1] == 4
    assert not (tmp_path / "set/.aiorecord").exists()
    read = LeRobotDataset("test/set", root=tmp_path / "set", video_backend="pyav")
    assert int(read[len(read) - 1]["episode_index"]) == 4


@pytest.mark.parametrize("how", ["", "sys.exit(3)", "raise RuntimeError('crash')"])
def test_a_program_that_ends_without_finalize(tmp_path, how):
    process = start(tmp_path, f"add(dataset, 10, 4)\n{how}")
    _, errors = process.communicate(timeout=90)
    assert process.returncode == {"": 0, "sys.exit(3)": 3}.get(how, 1)
    assert "ended without finalize()" in errors
    assert "Exception ignored" not in errors
    check_resumed(tmp_path, [*((20, episode) for episode in range(4)), (10, 4)])


def test_an_interrupt_while_it_finalizes_leaves_the_rest_in_staging(tmp_path):
    rest = """
import signal
from aiorecord.workers.pool import WorkerPool
def interrupt():
    say("finalizing")
    os.kill(os.getpid(), signal.SIGINT)
dataset.wait_for_async_saves()
for pid in dataset.writer.recorder.core.pool.pids():
    os.kill(pid, signal.SIGSTOP)  # encoders that never come to an end
for episode in range(4, 6):
    add(dataset, 20, episode)
    assert dataset.save_episode_async()
threading.Timer(0.2, interrupt).start()
try:
    dataset.finalize()
except KeyboardInterrupt:
    say("interrupted")
say(sorted(thread.name for thread in threading.enumerate() if "aiorecord" in thread.name))
"""
    process = start(tmp_path, rest)
    output, errors = process.communicate(timeout=90)
    assert output.splitlines() == ["finalizing", "interrupted", "[]"], errors
    assert process.returncode == 0
    check_resumed(tmp_path, [(20, episode) for episode in range(6)])


def test_no_episode_begins_without_room_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(AsyncLeRobotDataset, "recorder_options", {"min_free_gb": 1e6})
    dataset = AsyncLeRobotDataset.create("test/set", FPS, STATES, root=tmp_path / "set")
    with pytest.raises(aiorecord.StorageError, match="no episode can begin"):
        dataset.add_frame(make_frame(0, 0, STATES) | {"task": "Test"})
    assert not dataset.has_pending_frames()
    dataset.finalize()
    assert not list(tmp_path.glob("set/.aiorecord/episodes/*"))


def test_the_disk_is_watched_for_the_saver_in_use(dataset):
    """What fails for want of room is tried again, by a guard that knows the saver."""
    dataset.enable_async_saving(max_queue_size=3)
    recorder = dataset.writer.recorder
    assert recorder.core.disk._saver is recorder.saver
