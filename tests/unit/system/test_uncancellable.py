"""What was begun is waited for to its end, in one way, and whoever is cancelled hears of it once."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from aiorecord.system.tasks import TaskOwner
from aiorecord.system.threads import Threads, run_in_thread, run_left_behind
from aiorecord.system.uncancellable import UncancellableTask, ended, finished


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def test_cancellations_are_held_back_and_raised_once():
    async def main():
        future = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(finished(future))
        for _ in range(5):
            await asyncio.sleep(0)
            waiting.cancel()
        assert not waiting.done()
        assert not future.done()
        future.set_result("done")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await finished(future) == "done"

    asyncio.run(main())


def test_a_scope_costs_no_turns_and_cancels_what_follows():
    async def main():
        loop = asyncio.get_running_loop()
        future, count, reached = loop.create_future(), 0, []

        def complete(left):
            nonlocal count
            count += 1
            if left:
                loop.call_soon(complete, left - 1)
            else:
                future.set_result(None)

        with anyio.CancelScope() as scope:
            scope.cancel()
            loop.call_later(0.02, complete, 3)
            await ended(future)
            reached.append("after ended")
            await finished(future)
            reached.append("after finished")
        assert scope.cancelled_caught
        assert reached == ["after ended"]

    asyncio.run(main())


def test_a_timeout_is_a_timeout_when_the_work_is_done():
    async def main():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, future.set_result, None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await finished(future)
        assert future.done()

    asyncio.run(main())


def test_an_uncancellable_task_is_asked_and_the_end_of_the_loop_waits_for_it():
    asked, done = [], []

    async def work():
        await turns(20)
        done.append(True)

    async def main():
        task = UncancellableTask(work(), name="work", on_cancel=lambda: asked.append(True))
        await asyncio.sleep(0)
        assert task.cancel() is False

    asyncio.run(main())
    assert done == [True]
    assert asked == [True, True]


def test_the_last_calls_of_a_pool_come_when_no_other_is_left_and_each_is_made():
    order = []

    async def main():
        threads, begun, go_on = Threads(2), threading.Event(), threading.Event()

        def work():
            begun.set()
            go_on.wait(30)
            order.append("work")

        def fail():
            order.append("fail")
            raise OSError("broken")

        working = asyncio.create_task(threads.run(work))
        await run_in_thread(begun.wait, 30)
        working.cancel()
        closing = asyncio.create_task(threads.aclose(fail, lambda: order.append("lock")))
        await turns(5)
        assert order == []
        go_on.set()
        with pytest.raises(OSError, match="broken"):
            await closing
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(main())
    assert order == ["work", "fail", "lock"]


def test_calls_at_the_same_time_are_all_waited_for():
    async def main():
        threads, together = Threads(3), threading.Barrier(3)
        assert len(await threads.run_each([together.wait] * 3)) == 3
        with pytest.raises(ZeroDivisionError):
            await threads.run_each([lambda: 1 // 0, int])
        await threads.aclose()

    asyncio.run(main())


def test_a_call_that_is_left_behind_ends_by_itself():
    go_on, ended_in = threading.Event(), threading.Event()

    def work():
        go_on.wait(30)
        ended_in.set()

    async def main():
        with anyio.move_on_after(0.01):
            await run_left_behind(work, "left-behind")
        assert not ended_in.is_set()

    asyncio.run(main())
    go_on.set()
    assert ended_in.wait(30)


@pytest.mark.parametrize("what", ["owner", "worker", "everything"])
def test_an_owner_has_its_user_close_when_others_cancel_it_or_its_tasks(what):
    order = []

    async def main():
        async def close():
            await owner.aclose()
            order.append("closed")

        def begin():
            return UncancellableTask(close(), name="closing")

        owner = TaskOwner("owner", lambda: order.append("tasks ended"), begin)
        await owner.start()
        owner.create(asyncio.Event().wait(), "worker")
        owner.finish(turns(10), "must end")
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if what in ("everything", task.get_name()):
                task.cancel()
        # Nobody else waits: the end of the loop does.

    asyncio.run(main())
    assert order == ["tasks ended", "closed"]
