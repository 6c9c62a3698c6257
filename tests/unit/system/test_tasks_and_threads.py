"""Tasks have an owner; calls in threads are never abandoned."""

import asyncio
import threading

import pytest

from aiorecord.errors import StateError
from aiorecord.system.tasks import TaskOwner
from aiorecord.system.threads import Threads


async def test_tasks_are_named_and_end_with_their_owner():
    owner = TaskOwner("owner")
    await owner.start()
    task = owner.create(asyncio.Event().wait(), "worker")
    assert task.get_name() == "worker"
    assert owner.alive
    await owner.aclose()
    assert task.cancelled()
    assert not owner.alive
    await owner.aclose()
    with pytest.raises(StateError):
        owner.create(asyncio.sleep(0), "late")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_owner_may_be_closed_from_another_task():
    owner = TaskOwner("owner")
    await asyncio.create_task(owner.start())
    owner.create(asyncio.Event().wait(), "worker")
    await asyncio.create_task(owner.aclose())
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failing_task_takes_the_others_along_and_is_raised_as_itself():
    async def fail():
        raise OSError("broken")

    owner = TaskOwner("owner")
    await owner.start()
    other = owner.create(asyncio.Event().wait(), "other")
    owner.create(fail(), "failing")
    await asyncio.wait((other,))
    assert other.cancelled()
    with pytest.raises(OSError, match="broken"):
        await owner.aclose()


async def test_cancelling_a_call_waits_for_its_end():
    threads = Threads(1)
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait()
        ended.set()

    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    await threads.aclose()
    with pytest.raises(StateError):
        await threads.run(work)


async def test_errors_of_calls_arrive_as_themselves():
    def fail():
        raise FileNotFoundError("gone")

    threads = Threads(1)
    with pytest.raises(FileNotFoundError):
        await threads.run(fail)
    await threads.aclose()
