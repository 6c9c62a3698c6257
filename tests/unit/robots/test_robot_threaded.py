"""Blocking devices driven from a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import numpy as np
import pytest

from aiorecord.errors import ConfigError, SourceError, StateError
from aiorecord.features import Schema
from aiorecord.robots import (
    BlockingRobot,
    BlockingTeleoperator,
    Robot,
    Teleoperator,
    ThreadedRobot,
    ThreadedTeleoperator,
)
from aiorecord.robots.blocking import threaded
from aiorecord.robots.guarding.device_reports import gives_new_images, must_copy


class Driver:
    """A blocking robot and teleoperator that notes what is called, where, and whether calls overlap."""

    name = "so_fake"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.fails: dict[str, Exception] = {}
        self.entered = threading.Event()
        self.go_on: threading.Event | None = None  # get_observation waits for it
        self.inside = 0
        self.is_connected = False
        self.observation_features = {"pan.pos": float}
        self.action_features = {"pan.pos": float}

    def _call(self, call: str) -> None:
        self.inside += 1
        assert self.inside == 1, "two calls at once"
        self.calls.append(call)
        self.threads.add(threading.current_thread())
        try:
            if call == "get_observation" and self.go_on is not None:
                self.entered.set()
                assert self.go_on.wait(10)
            if call in self.fails:
                raise self.fails[call]
        finally:
            self.inside -= 1

    def connect(self) -> None:
        self._call("connect")
        self.is_connected = True

    def disconnect(self) -> None:
        self._call("disconnect")
        if not self.is_connected:
            raise ConnectionError("not connected")
        self.is_connected = False

    def get_observation(self) -> dict[str, Any]:
        self._call("get_observation")
        return {"pan.pos": 1.0}

    def send_action(self, action: dict[str, Any], /) -> dict[str, Any]:
        self._call("send_action")
        return {key: min(value, 5.0) for key, value in action.items()}

    def get_action(self) -> dict[str, Any]:
        self._call("get_action")
        return {"pan.pos": 2.0}


def device_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("aiorecord-")]


def test_protocols() -> None:
    driver = Driver()
    assert isinstance(driver, BlockingRobot)
    assert isinstance(driver, BlockingTeleoperator)
    assert isinstance(ThreadedRobot(driver), Robot)
    assert isinstance(ThreadedTeleoperator(driver), Teleoperator)


async def test_every_call_is_made_in_one_named_thread_that_ends() -> None:
    driver = Driver()
    robot = ThreadedRobot(driver)
    assert robot.name == "so_fake"
    assert robot.observation_features == robot.action_features == {"pan.pos": float}
    assert not device_threads()
    await robot.connect()
    await robot.connect()
    assert robot.is_connected
    assert await robot.get_observation() == {"pan.pos": 1.0}
    assert await robot.send_action({"pan.pos": 9.0}) == {"pan.pos": 5.0}
    (thread,) = device_threads()
    assert thread.daemon  # one that is stuck in a driver does not keep the process from ending
    assert "robot-so_fake" in thread.name
    await robot.disconnect()
    await robot.disconnect()
    assert driver.calls == ["connect", "get_observation", "send_action", "disconnect"]
    assert driver.threads == {thread}
    assert thread is not threading.current_thread()
    assert not robot.is_connected
    assert not thread.is_alive()


async def test_teleoperator() -> None:
    driver = Driver()
    async with ThreadedTeleoperator(driver) as teleop:
        assert await teleop.get_action() == {"pan.pos": 2.0}
        assert "teleop-so_fake" in device_threads()[0].name
    assert driver.calls == ["connect", "get_action", "disconnect"]
    assert not device_threads()


async def test_the_loop_lives_while_the_driver_blocks() -> None:
    driver = Driver()
    async with ThreadedRobot(driver) as robot:
        driver.go_on = threading.Event()
        call = asyncio.create_task(robot.get_observation())
        turns = 0
        while not driver.entered.is_set():
            await asyncio.sleep(0.001)
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert not call.done()
        driver.go_on.set()
        assert await call == {"pan.pos": 1.0}
        assert turns == 100


async def test_cancelling_leaves_the_device_whole() -> None:
    driver = Driver()
    async with ThreadedRobot(driver) as robot:
        driver.go_on = threading.Event()
        call = asyncio.create_task(robot.get_observation())
        while not driver.entered.is_set():
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # One given-up await after the other: nothing piles up in the thread.
        for _ in range(20):
            waiting = asyncio.create_task(robot.send_action({"pan.pos": 1.0}))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert robot._thread is not None
        assert robot._thread.waiting == 0
        following = asyncio.create_task(robot.send_action({"pan.pos": 3.0}))
        await asyncio.sleep(0)
        assert driver.calls == ["connect", "get_observation"]
        driver.go_on.set()
        assert await following == {"pan.pos": 3.0}
    assert driver.calls == ["connect", "get_observation", "send_action", "disconnect"]


async def test_concurrent_calls_take_turns() -> None:
    driver = Driver()
    async with ThreadedRobot(driver) as robot:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(robot.get_observation())
                group.create_task(robot.send_action({"pan.pos": 1.0}))
    assert len(driver.calls) == 42
    assert len(driver.threads) == 1


async def test_driver_errors_are_mapped() -> None:
    driver = Driver()
    driver.fails["get_observation"] = cause = TimeoutError("no reply from motor 3")
    async with ThreadedRobot(driver) as robot:
        with pytest.raises(SourceError, match=r"get_observation.*TimeoutError: no reply") as caught:
            await robot.get_observation()
        assert caught.value.__cause__ is cause
        assert (caught.value.source, caught.value.call) == ("robot", "get_observation")
        assert await robot.send_action({"pan.pos": 1.0}) == {"pan.pos": 1.0}  # it can go on


async def test_disconnect_follows_a_connect_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    driver.fails["connect"] = OSError("no such port")
    robot = ThreadedRobot(driver)
    with pytest.raises(SourceError, match="no such port"):
        await robot.connect()
    assert not robot.is_connected
    await robot.disconnect()  # the driver refuses, being not connected: said in the log
    assert driver.calls == ["connect", "disconnect"]
    assert len(driver.threads) == 1
    assert not device_threads()
    assert "not connected" in caplog.text
    with pytest.raises(SourceError):
        async with robot:
            pass
    assert not device_threads()
    driver.fails.clear()
    async with robot:
        assert await robot.get_observation()


async def test_disconnect_errors_are_raised_and_the_thread_ends() -> None:
    driver = Driver()
    robot = ThreadedRobot(driver)
    await robot.connect()
    driver.fails["disconnect"] = OSError("torque stays on")
    with pytest.raises(SourceError, match="torque") as caught:
        await robot.disconnect()
    assert caught.value.call == "disconnect"
    assert not device_threads()
    await robot.disconnect()


async def test_a_cancelled_disconnect_is_finished_all_the_same() -> None:
    driver = Driver()
    robot = ThreadedRobot(driver)
    await robot.connect()
    driver.go_on = threading.Event()
    call = asyncio.create_task(robot.get_observation())
    while not driver.entered.is_set():
        await asyncio.sleep(0.001)
    late = asyncio.create_task(robot.send_action({"pan.pos": 1.0}))
    closing = asyncio.create_task(robot.disconnect())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    driver.go_on.set()
    await robot.disconnect()
    assert await call == {"pan.pos": 1.0}
    with pytest.raises(StateError):
        await late
    assert driver.calls == ["connect", "get_observation", "disconnect"]
    assert not device_threads()


async def test_a_loop_that_ends_does_not_keep_the_device_from_being_released() -> None:
    driver = Driver()
    go_on = threading.Event()

    robot = ThreadedRobot(driver)
    await robot.connect()
    driver.go_on = go_on
    call = asyncio.create_task(robot.get_observation())
    while not driver.entered.is_set():
        await asyncio.sleep(0.001)
    closing = asyncio.create_task(robot.disconnect())
    await asyncio.sleep(0)
    for task in (call, closing):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (thread,) = device_threads()
    go_on.set()
    thread.join(10)
    assert driver.calls == ["connect", "get_observation", "disconnect"]
    assert not driver.is_connected


async def test_calls_when_not_connected() -> None:
    robot = ThreadedRobot(Driver())
    await robot.disconnect()
    for _ in range(2):
        with pytest.raises(StateError, match="connect"):
            await robot.get_observation()
        await robot.connect()
        await robot.disconnect()


async def test_slow_calls_are_reported_once_per_method(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        driver = Driver()
        async with ThreadedRobot(driver, call_timeout_s=0.01) as robot:
            for _ in range(3):
                driver.go_on = threading.Event()
                asyncio.get_running_loop().call_later(0.03, driver.go_on.set)
                await robot.get_observation()
            await robot.send_action({"pan.pos": 1.0})
            assert [slow.call for slow in robot.slow_calls] == ["get_observation"] * 3
            assert all(slow.seconds > 0.01 for slow in robot.slow_calls)

    with caplog.at_level(logging.WARNING):
        await main()
    assert len([r for r in caplog.records if "get_observation() takes longer" in r.getMessage()]) == 1


async def test_durations_are_kept_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:

    clock = iter(range(10**6))
    monkeypatch.setattr(threaded, "monotonic_s", lambda: next(clock) * 1e-4)
    async with ThreadedRobot(Driver()) as robot:
        assert robot.timings().keys() == {"connect"}
        for _ in range(1100):
            await robot.get_observation()
        timing = robot.timings()["get_observation"]
        assert timing.count == 1100
        assert 0 <= timing.p50_ms <= timing.p99_ms <= timing.max_ms
        for durations in (robot._times._all, robot._times._new):
            assert len(durations["get_observation"].latest_s) == 1024


@pytest.mark.parametrize("option", ["call_timeout_s", "connect_timeout_s"])
def test_limits_must_be_positive(option: str) -> None:
    for value in (0, -1.0, float("nan")):
        limits: dict[str, Any] = {option: value}
        with pytest.raises(ConfigError):
            ThreadedRobot(Driver(), **limits)
        with pytest.raises(ConfigError):
            ThreadedTeleoperator(Driver(), **limits)


class Filming(Driver):
    """Writes every picture into the same memory, as many SDKs do."""

    def __init__(self, new_images: bool | None = None) -> None:
        super().__init__()
        self.buffer = np.zeros((120, 160, 3), np.uint8)
        if new_images is not None:
            self.new_images = new_images

    def get_observation(self) -> dict[str, Any]:
        self.buffer += 1
        return {**super().get_observation(), "front": self.buffer}


async def test_pictures_are_copied_in_the_device_s_thread():
    async with ThreadedRobot(Filming()) as robot:
        first = await robot.get_observation()
        second = await robot.get_observation()
    assert int(first["front"][0, 0, 0]) == 1
    assert int(second["front"][0, 0, 0]) == 2
    assert first["pan.pos"] == 1.0
    assert gives_new_images(robot)


async def test_a_driver_that_gives_its_pictures_away_is_taken_at_its_word():
    driver = Filming(new_images=True)
    async with ThreadedRobot(driver) as robot:
        assert (await robot.get_observation())["front"] is driver.buffer


def test_only_a_promise_spares_the_copy():
    schema = Schema({"observation.images.front": {"dtype": "video", "shape": (120, 160, 3)}})
    asked = Schema({"action.images.goal": {"dtype": "video", "shape": (120, 160, 3)}})
    promising, silent = Filming(new_images=True), Filming()
    assert must_copy(silent, silent, schema)
    assert not must_copy(promising, silent, schema)
    assert must_copy(promising, silent, asked)
    assert not must_copy(promising, promising, asked)
