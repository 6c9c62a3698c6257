"""What the original proposal asks of asynchronous saving, on lerobot's own class after `install()`.

Its tests by name: basic functionality, error handling, status monitoring, graceful shutdown; integration with
the record flow, performance comparison, stress. And its programming example, word by word.
"""

import inspect
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import FEATURES, FPS, STATES, make_frame, rows_of
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from test_dropin_async import add, contents, staged
from test_dropin_scripts import RecordLoop

import aiorecord.lerobot
from aiorecord import StorageError
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.lerobot import AsyncEpisodeSaver, AsyncLeRobotDataset

METHODS = {
    "enable_async_saving": "(self, max_queue_size=10, save_timeout=300.0)",
    "save_episode_async": "(self, episode_buffer=None, priority=0)",
    "get_async_save_status": "(self)",
    "wait_for_async_saves": "(self, timeout=None)",
    "get_async_save_results": "(self)",
    "disable_async_saving": "(self, wait_for_completion=True, timeout=None)",
}


@pytest.fixture
def stock(tmp_path):
    """Makes datasets of lerobot's own class, whose methods are installed."""
    made = []

    def create(name="set", features=STATES, **options):
        made.append(LeRobotDataset.create(f"test/{name}", FPS, features, root=tmp_path / name, **options))
        return made[-1]

    with aiorecord.lerobot.install():
        yield create
        for dataset in made:
            dataset.finalize()


class Commits:
    """Commits that wait for a gate, and refuse some episodes."""

    def __init__(self, monkeypatch):
        self.open = threading.Event()
        self.open.set()
        self.refused = set()
        original = DatasetWriter.commit

        def commit(writer, folder, encoded, saving=None):
            assert self.open.wait(30)
            if folder.manifest.task in self.refused:
                raise StorageError("The disk is full.")
            return original(writer, folder, encoded, saving)

        monkeypatch.setattr(DatasetWriter, "commit", commit)

    @contextmanager
    def held(self):
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()


@pytest.fixture
def commits(monkeypatch):
    return Commits(monkeypatch)


def signature(function):
    """Without annotations."""
    found = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def test_the_programming_example_word_by_word(stock, tmp_path):
    dataset = stock()
    num_episodes = 7

    def record(episode):
        add(dataset, 5, episode, STATES)

    # Enable asynchronous saving
    dataset.enable_async_saving(max_queue_size=5, save_timeout=180.0)

    # In the record loop
    for episode in range(num_episodes):
        record(episode)

        # Save behind
        success = dataset.save_episode_async()
        if not success:
            dataset.save_episode()  # fall back to a synchronous save

    # Wait until all is done
    dataset.wait_for_async_saves(timeout=60.0)

    # Clean up
    dataset.disable_async_saving(wait_for_completion=True)

    assert type(dataset) is AsyncLeRobotDataset
    assert contents(tmp_path / "set") == [(5, episode) for episode in range(7)]  # also before finalize()
    results = dataset.get_async_save_results()
    assert [result["episode_index"] for result in results] == list(range(7))
    assert {(result["success"], result["error_message"]) for result in results} == {(True, None)}
    assert all(result["save_time"] > 0 for result in results)


def test_installing_is_reversible_and_nests():
    before = dict(vars(LeRobotDataset))
    assert not METHODS.keys() & before.keys()
    installed = aiorecord.lerobot.install()
    with aiorecord.lerobot.install():
        for name, expected in METHODS.items():
            for kind in (LeRobotDataset, AsyncLeRobotDataset):
                assert signature(getattr(kind, name)) == expected
            assert getattr(LeRobotDataset, name).__doc__
    assert hasattr(LeRobotDataset, "save_episode_async")  # the outer one is left
    installed.remove()
    installed.remove()
    assert dict(vars(LeRobotDataset)) == before
    aiorecord.lerobot.install()
    aiorecord.lerobot.install()
    aiorecord.lerobot.uninstall()
    aiorecord.lerobot.uninstall()
    assert dict(vars(LeRobotDataset)) == before


def test_installing_gives_back_what_the_class_had(monkeypatch):
    own = lambda self: "lerobot's"  # noqa: E731
    monkeypatch.setattr(LeRobotDataset, "get_async_save_status", own, raising=False)
    with aiorecord.lerobot.install():
        assert LeRobotDataset.get_async_save_status is not own
    assert LeRobotDataset.get_async_save_status is own


def test_signatures_of_the_saver():
    proposed = {
        "__init__": "(self, dataset, max_queue_size=10, save_timeout=300.0)",
        "submit_episode": "(self, episode_buffer=None, episode_index=None, priority=0)",
        "get_results": "(self, timeout=0.0)",
        "wait_for_completion": "(self, timeout=None)",
        "get_status": "(self)",
        "stop": "(self, wait=True, timeout=None)",
        "wait_for_stop": "(self, timeout=None)",
    }
    for name, expected in proposed.items():
        assert signature(getattr(AsyncEpisodeSaver, name)) == expected


def test_basic_functionality(stock, tmp_path):
    dataset = stock()
    dataset.enable_async_saving(max_queue_size=3, save_timeout=30.0)
    add(dataset, 5, 0, STATES)
    assert dataset.save_episode_async() is True
    assert dataset.wait_for_async_saves(timeout=30) is True
    (result,) = dataset.get_async_save_results()
    assert result["success"]
    assert contents(tmp_path / "set") == [(5, 0)]


def test_fallback_to_synchronous_saving_where_it_is_not_enabled(stock, caplog):
    """lerobot's own writer saves it then."""
    dataset = stock()
    status = dataset.get_async_save_status()
    assert (status["async_saving_enabled"], status["total_submitted"], status["last_error"]) == (False, 0, "")
    add(dataset, 5, 0, STATES)
    assert dataset.save_episode_async() is True
    assert type(dataset) is LeRobotDataset
    assert dataset.num_episodes == 1
    assert "saved in the foreground" in caplog.text
    assert dataset.wait_for_async_saves() is True
    assert dataset.get_async_save_results() == []
    assert dataset.disable_async_saving() is None
    dataset.enable_async_saving()  # what lerobot saved is kept
    add(dataset, 4, 1, STATES)
    assert dataset.save_episode_async() is True
    assert dataset.wait_for_async_saves(timeout=30) is True
    assert dataset.num_episodes == 2


def test_a_full_queue_falls_back_to_synchronous_saving(stock, tmp_path, commits):
    """A save without a camera is encoded at once, so the queue is filled by hand: see test_dropin_async."""
    dataset = stock()
    dataset.enable_async_saving(max_queue_size=1)
    saver = dataset.writer.recorder.saver
    add(dataset, 3, 0, STATES)
    full, saver._queue.full = saver._queue.full, lambda: True
    assert dataset.save_episode_async() is False
    assert dataset.episode_buffer["size"] == 3
    saver._queue.full = full
    dataset.save_episode()
    assert contents(tmp_path / "set") == [(3, 0)]


def test_error_handling(stock, tmp_path, commits):
    """A failure is recorded, its data kept, and the saves after it go on."""
    dataset = stock()
    saver = AsyncEpisodeSaver(dataset, max_queue_size=5, save_timeout=10.0)
    commits.refused.add("Task 1")
    for episode in range(3):
        add(dataset, 4, episode, STATES)
        assert saver.submit_episode(dataset.episode_buffer, episode)
    assert saver.wait_for_completion(timeout=30)
    results = {result.task: result for result in saver.get_results()}
    assert [results[f"Task {n}"].success for n in range(3)] == [True, False, True]
    failed = results["Task 1"]
    assert (failed.episode_index, failed.error_message) == (None, "StorageError: The disk is full.")
    assert saver.get_status()["last_error"] == "StorageError: The disk is full."
    assert saver.get_status()["total_failed"] == 1
    assert len(staged(tmp_path / "set")) == 1
    commits.refused.clear()
    assert contents(tmp_path / "set") == [(4, 0), (4, 2)]


def test_status_monitoring(stock, commits):
    dataset = stock()
    dataset.enable_async_saving(max_queue_size=5, save_timeout=30.0)
    idle = dict.fromkeys(
        ("total_submitted", "total_completed", "total_failed", "queue_size", "pending_tasks"), 0
    )
    idle |= {"is_running": True, "last_error": "", "worker_alive": True, "async_saving_enabled": True}
    assert dataset.get_async_save_status() == idle
    with commits.held():
        add(dataset, 5, 0, STATES)
        assert dataset.save_episode_async()
        status = dataset.get_async_save_status()
        assert (status["total_submitted"], status["pending_tasks"], status["total_completed"]) == (1, 1, 0)
        assert dataset.wait_for_async_saves(timeout=0.01) is False
    assert dataset.wait_for_async_saves(timeout=30) is True
    assert dataset.get_async_save_status() == idle | {"total_submitted": 1, "total_completed": 1}


def test_graceful_shutdown(stock, tmp_path, commits):
    dataset = stock()
    saver = AsyncEpisodeSaver(dataset, max_queue_size=3, save_timeout=30.0)
    with commits.held():
        for episode in range(2):
            add(dataset, 5, episode, STATES)
            assert saver.submit_episode(dataset.episode_buffer, episode)
        assert saver.stop(wait=False) is None
        status = saver.get_status()
        assert (status["is_running"], status["worker_alive"], status["pending_tasks"]) == (False, True, 2)
        assert saver.stop(wait=True, timeout=0.01) is None  # they go on behind
        add(dataset, 2, 2, STATES)
        assert saver.submit_episode(dataset.episode_buffer, 2) is False
    assert saver.wait_for_stop(timeout=30) is None
    status = saver.get_status()
    assert (status["is_running"], status["worker_alive"], status["total_completed"]) == (False, False, 2)
    assert contents(tmp_path / "set") == [(5, 0), (5, 1)]


def test_priorities(stock, tmp_path, commits):
    """Named by the proposal among what is to come."""
    dataset = stock()
    dataset.enable_async_saving(max_queue_size=10)
    with commits.held():
        for episode, priority in enumerate((0, 0, 5, -1)):
            add(dataset, 4, episode, STATES)
            assert dataset.save_episode_async(priority=priority)
            while episode == 0 and not dataset.writer.recorder.saver.pending[0].job.committing:
                time.sleep(0.001)  # it is the one under way
        with pytest.raises(ValueError, match="priority"):
            dataset.save_episode_async(priority="high")
        pending = dataset.writer.recorder.saver.pending
        while not all(save.job.encoded for save in pending):
            time.sleep(0.001)
        assert [save.priority for save in pending] == [5, 0, 0, -1]
    dataset.wait_for_async_saves()
    assert contents(tmp_path / "set") == [(4, 0), (4, 2), (4, 1), (4, 3)]
    results = dataset.get_async_save_results()
    assert [(result["episode_index"], result["priority"]) for result in results] == [
        (0, 0),
        (1, 5),
        (2, 0),
        (3, -1),
    ]


def test_integration_with_the_record_flow(stock, tmp_path):
    """lerobot's own `record_loop` fills the dataset while the episode before is saved."""
    loop = RecordLoop()
    dataset = stock(
        features=loop.features, image_writer_threads=4, rgb_encoder=RGBEncoderConfig(vcodec="h264")
    )
    dataset.enable_async_saving(max_queue_size=5, save_timeout=300.0)
    recorded = []
    for _ in range(3):
        loop.record(dataset)
        recorded.append(dataset.episode_buffer["size"])
        if not dataset.save_episode_async():
            dataset.save_episode()
    assert dataset.wait_for_async_saves(timeout=60)
    dataset.finalize()
    read = LeRobotDataset("test/set", root=tmp_path / "set", video_backend="pyav")
    assert [episode["length"] for episode in read.meta.episodes] == recorded
    for index in (0, len(read) - 1):  # the camera shows what the robot's counter said
        count = float(read[index]["observation.state"][0])
        assert float(read[index]["observation.images.front"].mean()) * 255 == pytest.approx(
            count % 256, abs=4
        )


def test_performance_comparison(stock):
    """How long the caller waits for the same episodes, saved synchronously by lerobot and behind by us."""
    waited = {}
    for name in ("sync", "async"):
        dataset = stock(name, FEATURES, rgb_encoder=RGBEncoderConfig(vcodec="h264"))
        if name == "async":
            dataset.enable_async_saving()
        waited[name] = 0.0
        for episode in range(4):
            add(dataset, 10, episode)
            began = time.perf_counter()
            assert name == "sync" or dataset.save_episode_async()
            if name == "sync":
                dataset.save_episode()
            waited[name] += time.perf_counter() - began
        assert dataset.wait_for_async_saves(timeout=60)
        assert dataset.num_episodes == 4
    assert waited["async"] < waited["sync"]


def test_stress(stock, tmp_path):
    """As many episodes as a loop can make, a small queue, readers of the status all the while."""
    dataset = stock()
    dataset.enable_async_saving(max_queue_size=3)
    done, seen = threading.Event(), []

    def look():
        while not done.is_set():
            seen.append(dataset.get_async_save_status())
            done.wait(0.001)

    looking = threading.Thread(target=look)
    looking.start()
    results = []
    try:
        for episode in range(30):
            for k in range(1 + episode % 3):
                frame = make_frame(k, episode, STATES)
                dataset.add_frame(frame | {"task": f"Task {episode}"})
                frame["action"][:] = np.nan  # the caller's to reuse
            if not dataset.save_episode_async():
                dataset.save_episode()
            results += dataset.get_async_save_results()
        assert dataset.wait_for_async_saves(timeout=60)
    finally:
        done.set()
        looking.join()
    results += dataset.get_async_save_results()
    assert [result["episode_index"] for result in results] == list(range(30))
    assert all(status["total_failed"] == 0 and status["last_error"] == "" for status in seen)
    dataset.finalize()
    assert contents(tmp_path / "set") == [(1 + episode % 3, episode) for episode in range(30)]
    assert [row["index"] for row in rows_of(tmp_path / "set")] == list(range(60))
