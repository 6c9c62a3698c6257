"""Calls from where a recorder does not belong (threads, loops, forked children) are refused, at once."""

import asyncio
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest
from helpers import FEATURES, FPS, H264, STATES, make_frame, record_episode, rows_of

import aiorecord
from aiorecord import Recorder, StateError
from aiorecord.clock import SystemClock
from aiorecord.staging.folder import Staging

LIMIT_S = 60
"""For what would hang; never waited for otherwise."""


def recorder_for(root, features=STATES, **options):
    options = {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred", "min_free_gb": 0} | options
    return Recorder("test/set", root=root / "set", fps=FPS, features=features, **options)


PLAIN_CALLS = {
    "add_frame": lambda recorder, episode, save: episode.add_frame(make_frame(0, features=STATES)),
    "annotate": lambda recorder, episode, save: episode.annotate(lights="dim"),
    "discard": lambda recorder, episode, save: episode.discard(),
    "request_end": lambda recorder, episode, save: episode.request_end("because"),
    "episode": lambda recorder, episode, save: recorder.episode(),
    "ticks": lambda recorder, episode, save: recorder.ticks(),
    "hold": lambda recorder, episode, save: save.hold(),
    "release": lambda recorder, episode, save: save.release(),
    "retry": lambda recorder, episode, save: save.retry(),
    "abandon": lambda recorder, episode, save: recorder.saver.abandon(),
    "submit": lambda recorder, episode, save: recorder.saver.submit_episode(save),
}


async def test_calls_from_another_thread_are_refused_and_say_what_to_do(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        save = (await record_episode(recorder, 3)).save
        async with recorder.episode() as episode:
            episode.add_frame(make_frame(0, features=STATES))
            for call in PLAIN_CALLS.values():
                with pytest.raises(StateError, match="call_soon_threadsafe"):
                    await asyncio.to_thread(call, recorder, episode, save)
            episode.add_frame(make_frame(1, features=STATES))
        ticker = recorder.ticks()
        await anext(ticker)
        with pytest.raises(StateError, match="ticker"):
            await asyncio.to_thread(ticker.end)
    assert [row["frame_index"] for row in rows_of(tmp_path / "set")] == [0, 1, 2, 0, 1]


AWAITED_CALLS = {
    "save": lambda recorder, episode, save: save,
    "durable": lambda recorder, episode, save: save.durable(),
    "drain": lambda recorder, episode, save: recorder.drain(),
    "aclose": lambda recorder, episode, save: recorder.aclose(),
    "take_back": lambda recorder, episode, save: recorder.take_back(save),
    "wait_for_room": lambda recorder, episode, save: recorder.wait_for_room(),
    "pack": lambda recorder, episode, save: recorder.pack(),
    "enter": lambda recorder, episode, save: episode.__aenter__(),
    "results": lambda recorder, episode, save: recorder.saver.get_results(),
    "stop": lambda recorder, episode, save: recorder.saver.stop(),
    "next_tick": lambda recorder, episode, save: recorder.ticker.__anext__(),
}


@pytest.mark.parametrize("in_thread", [True, False], ids=["another thread", "the loop has ended"])
def test_what_is_awaited_on_another_loop_is_refused_and_does_not_hang(tmp_path, in_thread):
    async def elsewhere(recorder, save):
        for name, call in AWAITED_CALLS.items():
            async with asyncio.timeout(LIMIT_S):
                with pytest.raises(StateError, match="loop"):
                    await call(recorder, recorder_episode[0], save)
            assert name

    recorder_episode = []

    async def main():
        recorder = recorder_for(tmp_path)
        await recorder.open()
        recorder.ticker = recorder.ticks()
        await anext(recorder.ticker)
        recorder_episode.append(recorder.episode())
        save = (await record_episode(recorder, 3)).save
        if in_thread:
            await asyncio.to_thread(asyncio.run, elsewhere(recorder, save))
        return recorder, save, await save.durable(), await recorder.aclose()

    recorder, save, *_ = asyncio.run(main())
    if not in_thread:
        asyncio.run(elsewhere(recorder, save))


async def test_a_clock_is_not_taken_from_the_loop_that_waits_on_it():
    async def elsewhere(clock):
        with pytest.raises(StateError, match="another event loop"):
            clock.call_at(clock.now_ns() + 10**12, lambda: None)

    async def main():
        clock, rung = SystemClock(), asyncio.Event()
        clock.call_at(clock.now_ns() + 50_000_000, rung.set)
        await asyncio.to_thread(asyncio.run, elsewhere(clock))
        await rung.wait()
        clock.close()

    if sys.platform == "linux":
        await main()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_child_is_refused_and_harms_nothing_of_its_parent(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        save = (await record_episode(recorder, 3)).save
        async with recorder.episode() as episode:
            episode.add_frame(make_frame(0, features=STATES))
            recorder.ticker = recorder.ticks()
            pid = os.fork()
            if not pid:
                os._exit(len(PLAIN_CALLS) + len(AWAITED_CALLS) - _refused(recorder, episode, save))
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            episode.add_frame(make_frame(1, features=STATES))
            # The lock is still the parent's.
            with pytest.raises(aiorecord.DatasetLockedError):
                await recorder_for(tmp_path, resume=True).open()
    assert [row["frame_index"] for row in rows_of(tmp_path / "set")] == [0, 1, 2, 0, 1]


def _refused(recorder, episode, save) -> int:
    """In the child: how many calls are refused."""
    refused = 0
    for call in PLAIN_CALLS.values():
        try:
            call(recorder, episode, save)
        except StateError as error:
            refused += "forked" in str(error)
    for call in AWAITED_CALLS.values():
        try:
            # Its first step, without a loop: that of the parent must be left alone.
            call(recorder, episode, save).__await__().send(None)
        except StateError as error:
            refused += "forked" in str(error)
        except BaseException:  # noqa: BLE001, S110 - counted as not refused
            pass
    return refused


class Dropping(ThreadPoolExecutor):
    """Gives futures that somebody else cancels, or that end with a cancellation, as some executors do."""

    def __init__(self, how: str) -> None:
        super().__init__(1)
        self.how, self.on = how, False

    def submit(self, fn, /, *args, **kwargs):
        if not self.on:
            return super().submit(fn, *args, **kwargs)
        future: Future = Future()
        if self.how == "cancelled":
            future.cancel()
        elif self.how == "asyncio.CancelledError":
            future.set_exception(asyncio.CancelledError())
        elif self.how == "SystemExit":
            future.set_exception(SystemExit(3))
        else:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return future


@pytest.mark.parametrize("how", ["cancelled", "asyncio.CancelledError", "SystemExit", "RuntimeError"])
async def test_an_executor_that_gives_jobs_up_fails_each_save_and_keeps_the_episodes(tmp_path, how):
    with Dropping(how) as executor:
        recorder = recorder_for(tmp_path, FEATURES, encode_executor=executor)
        await recorder.open()
        executor.on = True
        saves = [(await record_episode(recorder, 3, e)).save for e in range(3)]
        async with asyncio.timeout(LIMIT_S):
            for save in saves:
                with pytest.raises(aiorecord.SaveError, match=r"aiorecord recover .*set") as caught:
                    await save
                assert isinstance(caught.value.__cause__, StateError)
            executor.on = False
            saves[0].retry()  # the saver goes on: no worker was lost to it
            assert (await saves[0]).episode_index == 0
            await recorder.aclose()
    assert len(Staging(tmp_path / "set").episode_paths()) == 2


@pytest.mark.parametrize("cancel", [True, False])
async def test_the_programs_executor_is_shut_down_while_episodes_wait(tmp_path, cancel):
    executor, busy = ThreadPoolExecutor(1), Event()
    recorder = recorder_for(tmp_path, FEATURES, encode_executor=executor, encode_workers=2)
    await recorder.open()
    executor.submit(busy.wait)
    saves = [(await record_episode(recorder, 3, e)).save for e in range(3)]
    while not all(save.job.encoding and save.job.encoding._running for save in saves[:2]):
        await asyncio.sleep(0.01)
    executor.shutdown(wait=False, cancel_futures=cancel)
    busy.set()
    async with asyncio.timeout(LIMIT_S):
        ended = await asyncio.gather(*saves, return_exceptions=True)
        await recorder.aclose()
    failed = [isinstance(end, aiorecord.SaveError) for end in ended]
    assert failed == ([True] * 3 if cancel else [False, False, True])
    assert len(Staging(tmp_path / "set").episode_paths()) == sum(failed)


async def test_a_recorder_is_not_opened_on_an_executor_that_was_shut_down(tmp_path):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(StateError, match="executor takes no jobs"):
            await recorder_for(tmp_path, FEATURES, encode_executor=executor).open()


async def test_the_loops_own_executor_is_not_needed(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        await asyncio.to_thread(int)
        await asyncio.get_running_loop().shutdown_default_executor()
        await (await record_episode(recorder, 3)).save
