"""An embedding application is cancelled at each of its awaits: nothing leaks, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fault_content as content
import pytest
from fault_staged import FPS, LOSSLESS, coded_frame
from fault_verify import Expected
from helpers import leaked

from aiorecord import Recorder
from aiorecord.clock import FakeClock


class CancelledAt:
    """Runs a coroutine and cancels its task at some of its awaits, counted from 1.

    Args:
        coroutine: what to run.
        awaits: at which ones.

    Attributes:
        count: awaits so far that the event loop has seen.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaits: set[int]) -> None:
        self.count = 0
        self._coroutine = coroutine
        self._awaits = awaits

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        send, value = self._coroutine.send, None
        while True:
            try:
                waits_for = send(value)
            except StopIteration as stop:
                return stop.value
            self.count += 1
            if self.count in self._awaits:
                task.cancel()
            try:
                send, value = self._coroutine.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001 - for the coroutine
                send, value = self._coroutine.throw, error


async def application(root: Path, executor, expected: Expected, lengths: tuple[int, ...]) -> None:
    """What an embedding application does, noting what it gave to `add_frame`."""
    clock = FakeClock(auto=True)
    options: dict[str, Any] = {"rgb_encoder": LOSSLESS, "encode_executor": executor, "clock": clock}
    step = 0
    async with Recorder(
        "demo/faults", root=root, fps=FPS, features=content.features(), resume=True, **options
    ) as recorder:
        for length in lengths:
            async with recorder.episode("Show the code") as episode:
                frames = expected.frames.setdefault(str(episode.id), [])
                async for _ in recorder.ticks(length / FPS):
                    episode.add_frame(coded_frame(1, step))
                    frames.append((1, step))
                    step += 1
                    await asyncio.sleep(0)
            assert episode.save is not None
        await episode.save
        await recorder.drain()


async def run_cancelled(root: Path, executor, expected: Expected, awaits: set[int]) -> tuple[int, bool]:
    """Returns how many awaits there were, and whether it was cancelled."""

    cancelled = False
    running = CancelledAt(application(root, executor, expected, (3, 4)), awaits)

    async def run() -> None:
        await running

    task = asyncio.create_task(run(), name="application")
    await asyncio.wait((task,))
    try:
        task.result()
    except asyncio.CancelledError:
        cancelled = True
    assert leaked() == (set(), set())
    return running.count, cancelled


async def sweep(zygote, tmp_path, row, *, stride: int, again: int | None) -> int:
    number, most_awaits = 1, 0
    with ThreadPoolExecutor(2) as executor:
        while True:
            root, expected = tmp_path / f"at-{number}", Expected()
            awaits = {number} | (set() if again is None else {number + again})
            try:
                count, cancelled = await run_cancelled(root, executor, expected, awaits)
                most_awaits = max(most_awaits, count)
                expected.frames = {id_: frames for id_, frames in expected.frames.items() if frames}
                expected.ended = set(expected.frames)
                if expected.frames:
                    recovered = zygote.run(["recover", str(root)], env={"FAULT_ENCODE_HERE": "1"})
                    assert recovered.code == 0, recovered.output
                    assert "Traceback" not in recovered.output
                    expected.check(root)
                    assert expected.lost() == 0
                elif cancelled:
                    assert not list(root.glob(".aiorecord/episodes/*"))
            except BaseException as error:
                error.add_note(f"cancelled at {sorted(awaits)}")
                raise
            if number > count:  # it ended by itself
                return most_awaits
            assert cancelled, f"the cancellation at {number} was swallowed"
            row.times += 1
            row.episodes += len(expected.frames)
            number += stride


@pytest.mark.smoke
async def test_cancelled_at_some_awaits(zygote, tmp_path, report):
    row = type(report)().row("", "")
    assert await sweep(zygote, tmp_path, row, stride=7, again=None) > 20
    assert row.times >= 3


async def test_cancelled_at_each_await(zygote, tmp_path, report):
    row = report.row(
        "the application's task is cancelled", "at each await of a small application, one run each"
    )
    assert await sweep(zygote, tmp_path, row, stride=1, again=None) > 20


@pytest.mark.parametrize("again", [1, 2])
async def test_cancelled_twice(zygote, tmp_path, report, again):
    row = report.row("... and again while it ends", "one or two awaits later")
    assert await sweep(zygote, tmp_path, row, stride=1, again=again) > 20
