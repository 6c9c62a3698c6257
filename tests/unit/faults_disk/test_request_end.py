"""Something other than the operator ends an episode; it is kept."""

import asyncio
import json

import pytest
from helpers import FPS, STATES, make_frame

import aiorecord
from aiorecord import Recorder
from aiorecord.clock import FakeClock


def recorder_for(root, **options):
    return Recorder("test/set", root=root / "set", fps=FPS, features=STATES, **options)


async def test_it_ends_the_tickers_and_keeps_the_episode(tmp_path):
    async with recorder_for(tmp_path, clock=FakeClock(auto=True)) as recorder:
        async with recorder.episode("Test") as episode:
            assert episode.end_reason is None
            async for tick in recorder.ticks(seconds=100):
                episode.add_frame(make_frame(tick.index, features=STATES))
                if tick.index == 4:
                    episode.request_end("The camera is gone")
                    episode.request_end("Another reason")
            assert episode.end_reason == "The camera is gone"
            async for _ in recorder.ticks():
                pytest.fail("a ticker made afterwards ends too")
            episode.add_frame(make_frame(5, features=STATES))  # still taken
        assert (await episode.save).length == 6
        episode.request_end("Too late: nothing happens")
        assert episode.end_reason == "The camera is gone"
        ticks = [tick async for tick in recorder.ticks(seconds=0.1)]
        assert len(ticks) == 3, "the next tickers are not the episode's"
    line = json.loads((tmp_path / "set/meta/aiorecord/episodes.jsonl").read_text())
    assert line["facts"]["end_reason"] == "The camera is gone"
    assert not line["interrupted"]


async def test_a_wait_for_a_tick_ends_at_once(tmp_path):
    clock = FakeClock()
    async with recorder_for(tmp_path, clock=clock) as recorder:
        async with recorder.episode("Test") as episode:
            ticker = recorder.ticks()
            await anext(ticker)
            episode.add_frame(make_frame(0, features=STATES))
            waiting = asyncio.ensure_future(anext(ticker))
            await asyncio.sleep(0)
            assert not waiting.done()
            episode.request_end("Now")
            with pytest.raises(StopAsyncIteration):
                await waiting


async def test_before_the_beginning_there_is_nothing_to_end(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        with pytest.raises(aiorecord.StateError, match="not begun"):
            recorder.episode("Test").request_end("Never")
