"""Ticks keep their deadlines, on a fake clock and on the real one."""

import asyncio
import os

import pytest

from aiorecord.clock import NS_PER_S, FakeClock, Lateness, SystemClock, Tick, Ticker, sleep_until
from aiorecord.errors import ConfigError, StateError


async def test_ticks_lie_on_the_grid_and_fill_the_time():
    clock = FakeClock(auto=True)
    ticker = Ticker(clock, 30, 10)
    ticks = [tick async for tick in ticker]
    assert len(ticks) == 300
    assert ticks[0].deadline_ns == NS_PER_S
    for k, tick in enumerate(ticks):
        assert tick.index == k
        assert tick.deadline_ns == NS_PER_S + round(k * NS_PER_S / 30)
        assert tick.time_ns == tick.deadline_ns
    assert ticker.lateness.summary()["missed"] == 0


async def test_a_busy_loop_skips_what_it_missed_and_stays_on_the_grid():
    clock = FakeClock(auto=True)
    seen = []
    async for tick in Ticker(clock, 10, 1):
        seen.append(tick)
        if tick.index == 1:
            clock.advance(0.35)  # deadlines at 0.2, 0.3 and 0.4 pass; the last of them is the one to serve
    assert [round((t.deadline_ns - NS_PER_S) / 1e8) for t in seen] == [0, 1, 4, 5, 6, 7, 8, 9]
    assert [t.missed for t in seen] == [0, 0, 2, 0, 0, 0, 0, 0]
    assert seen[2].late_s == pytest.approx(0.05)


async def test_a_loop_that_is_late_by_less_than_a_period_skips_nothing():
    clock = FakeClock(auto=True)
    ticker = Ticker(clock, 10, 1)
    async for _ in ticker:
        clock.advance(0.09)
    assert ticker.lateness.summary()["ticks"] == 10
    assert ticker.lateness.missed == 0


async def test_ending_wakes_the_wait_under_way():
    clock = FakeClock()
    ticker = Ticker(clock, 1)
    assert (await anext(ticker)).index == 0
    waiting = asyncio.create_task(anext(ticker, None))
    await asyncio.sleep(0)
    assert not waiting.done()
    ticker.end()
    assert await waiting is None
    assert await anext(ticker, None) is None


async def test_a_cancelled_wait_leaves_the_ticker_usable():
    clock = FakeClock()
    ticker = Ticker(clock, 1)
    await anext(ticker)
    waiting = asyncio.create_task(anext(ticker))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    again = asyncio.create_task(anext(ticker))
    await asyncio.sleep(0)
    clock.advance(1)
    assert (await again).index == 1


async def test_two_waits_for_one_ticker_are_refused():
    ticker = Ticker(FakeClock(), 1)
    await anext(ticker)
    first = asyncio.create_task(anext(ticker, None))
    await asyncio.sleep(0)
    with pytest.raises(StateError):
        await anext(ticker)
    ticker.end()
    await first


@pytest.mark.parametrize(
    ("fps", "seconds"), [(0, 1), (-1, 1), (float("nan"), 1), (30, -1), (30, float("nan"))]
)
def test_impossible_rates_and_times_are_refused(fps, seconds):
    with pytest.raises(ConfigError):
        Ticker(FakeClock(), fps, seconds)


async def test_the_real_clock_never_wakes_early_and_serves_many_sleepers():
    clock = SystemClock()
    start_ns = clock.now_ns()
    woken = []

    async def sleeper(ms):
        deadline_ns = start_ns + ms * 1_000_000
        await sleep_until(clock, deadline_ns)
        assert clock.now_ns() >= deadline_ns
        woken.append(ms)

    async with asyncio.TaskGroup() as group:
        for ms in (30, 10, 20, 0, -5):
            group.create_task(sleeper(ms))
    assert woken[2:] == [10, 20, 30]
    assert set(woken[:2]) == {0, -5}
    clock.close()
    clock.close()


async def test_a_cancelled_sleeper_does_not_disturb_the_others():
    clock = SystemClock()
    now_ns = clock.now_ns()
    first = asyncio.create_task(sleep_until(clock, now_ns + 5_000_000))
    second = asyncio.create_task(sleep_until(clock, now_ns + 15_000_000))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert clock.now_ns() >= now_ns + 15_000_000
    clock.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
async def test_the_clock_gives_its_timer_back():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        clock = SystemClock()
        await sleep_until(clock, clock.now_ns() + 100_000)
        clock.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_clock_moves_to_another_event_loop():
    clock = SystemClock()

    async def main():
        deadline_ns = clock.now_ns() + 1_000_000
        await sleep_until(clock, deadline_ns)
        assert clock.now_ns() >= deadline_ns

    asyncio.run(main())
    asyncio.run(main())
    clock.close()


def test_lateness_counts_late_ticks_once():
    lateness = Lateness()
    assert lateness.summary()["max_ms"] == 0
    assert lateness.recent() == (0, 0)
    for index, late_ms in enumerate([0, 1, 20, 2]):
        lateness.add(Tick(index, 0, late_ms * 1_000_000))
    assert lateness.recent() == (20, 1)
    assert lateness.recent(ticks=1) == (2, 1)
    summary = lateness.summary()
    assert summary["late"] == 1
    assert summary["max_ms"] == 20
    assert summary["p50_ms"] == pytest.approx(1.5)
