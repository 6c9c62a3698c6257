"""What callers in other threads are told of the saver is asked on its loop, which changes it meanwhile."""

import asyncio
import threading

import numpy as np
import pytest
from helpers import FPS, STATES, make_frame

from aiorecord.lerobot import AsyncLeRobotDataset
from aiorecord.lerobot.dropin.portal import LOOP_THREAD
from aiorecord.saving.saver import AsyncEpisodeSaver as Saver


@pytest.fixture
def dataset(tmp_path):
    made = AsyncLeRobotDataset.create(
        "me/threads", fps=FPS, root=tmp_path / "set", features=STATES, use_videos=False
    )
    made.enable_async_saving(max_queue_size=200)
    yield made
    made.finalize()


def add(dataset, episode, length=2):
    for k in range(length):
        frame = {key: np.asarray(value) for key, value in make_frame(k, episode, STATES).items()}
        dataset.add_frame({**frame, "task": "Ask"})


def test_the_status_is_asked_on_the_loop_and_is_right_under_load(dataset, monkeypatch):
    asked_in, problems, stop = set(), [], threading.Event()
    get_status = Saver.get_status

    def noted(self):
        asked_in.add(threading.current_thread().name)
        return get_status(self)

    monkeypatch.setattr(Saver, "get_status", noted)

    def ask():
        while not stop.is_set():
            try:
                status = dataset.get_async_save_status()
                if status["total_completed"] + status["pending_tasks"] < status["total_submitted"]:
                    problems.append(status)
            except Exception as error:  # noqa: BLE001 - told below
                problems.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for episode in range(25):
        add(dataset, episode)
        assert dataset.save_episode_async()
    assert dataset.wait_for_async_saves(60)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert asked_in == {LOOP_THREAD}
    dataset.finalize()
    assert dataset.get_async_save_status()["total_completed"] == 25


def test_a_save_goes_on_when_its_await_is_cancelled(dataset):
    """By a task, or by the end of the caller's loop: the save is the portal's."""
    add(dataset, 0)

    async def main():
        saving = asyncio.create_task(dataset.asave_episode())
        await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving

    asyncio.run(main())
    assert dataset.wait_for_async_saves(60)
    dataset.finalize()
    assert dataset.num_episodes == 1


def test_finalizing_from_asyncio_is_waited_for_when_it_is_cancelled(dataset):
    add(dataset, 0)
    assert dataset.save_episode_async()

    async def main():
        closing = asyncio.create_task(dataset.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert dataset.writer._finalized

    asyncio.run(main())
    assert dataset.num_episodes == 1
