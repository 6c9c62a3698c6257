"""Guarded robots and teleoperators, call by call."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from guard_devices import FRONT, STATE, Device, broken, instead, without
from helpers import FEATURES, FPS, picture
from jpegs import jpeg

from aiorecord import EncodedImage
from aiorecord.clock import FakeClock
from aiorecord.errors import ConfigError, SourceError, SourceLostError
from aiorecord.robots import Robot, Teleoperator
from aiorecord.robots.blocking import threaded
from aiorecord.robots.faults import Fault, FaultyRobot
from aiorecord.robots.guarding.guard import GuardedRobot, GuardedTeleoperator
from aiorecord.robots.guarding.guard_pair import HeldFrames
from aiorecord.robots.guarding.source_policy import SourcePolicy

SHORT = SourcePolicy(call_timeout_s=0.02, retries=0)


def guards(device: Any, policy: SourcePolicy = SHORT) -> tuple[GuardedRobot, GuardedTeleoperator, FakeClock]:
    clock = FakeClock(auto=True)
    teleop = GuardedTeleoperator(device, FEATURES, policy, clock=clock, fps=FPS)
    return GuardedRobot(device, FEATURES, policy, clock=clock, fps=FPS, teleop=teleop), teleop, clock


def status(guard: Any, source: str) -> Any:
    return next(s for s in guard.status() if s.source == source)


async def test_guards_around_one_device_are_counted_together_and_a_frame_once() -> None:
    faults = [Fault("robot", "raise", at=1, calls=2)]
    inner = guards(FaultyRobot(Device(), faults))[0]
    outer = GuardedRobot(inner, FEATURES, SHORT, clock=FakeClock(auto=True), fps=FPS)
    both, once = HeldFrames(outer), HeldFrames(inner)
    for frame in range(3):
        await outer.get_observation()
        if frame:
            outer.held |= inner.held  # as if the outer one repeated the same frames
        both.note_frame(frame)
        once.note_frame(frame)
    facts = both.facts()["sources"]["robot"]
    assert facts["errors"] == 2
    assert (facts["held"], facts["held_frames"]) == (2, [[1, 3]])
    assert both.facts() == once.facts()


def test_they_are_what_they_guard() -> None:
    robot, teleop, _ = guards(Device())
    assert isinstance(robot, Robot)
    assert isinstance(teleop, Teleoperator)
    assert robot.name == "scripted"


async def test_what_is_well_goes_through_untouched() -> None:
    device = Device()
    robot, teleop, _ = guards(device)
    await robot.connect()
    for n in range(5):
        seen = await robot.get_observation()
        assert seen[FRONT] is device.buffer  # no copy on the way
        action = await teleop.get_action()
        assert (await robot.send_action(action))["action"][0] == n
        assert robot.held == teleop.held == frozenset()
    await robot.disconnect()
    assert all(not s.errors and not s.held for s in (*robot.status(), *teleop.status()))
    assert robot.is_well


@pytest.mark.parametrize(
    "fault",
    [
        without(FRONT),
        instead(FRONT, None),
        instead(FRONT, picture(0)[:10]),
        instead(FRONT, picture(0).astype(np.int32)),
        instead(FRONT, picture(0).astype(np.float32)),  # floats above 1
        instead(FRONT, "no picture"),
        instead(FRONT, object()),
    ],
    ids=["missing", "None", "shape", "dtype", "range", "text", "object"],
)
async def test_a_camera_that_is_not_well_is_held_while_the_rest_goes_on(fault: Any) -> None:
    robot, _, _ = guards(Device(get_observation={2: fault, 3: fault}))
    for n in range(6):
        seen = await robot.get_observation()
        assert seen[STATE][0] == n
        shown = 1 if n in (2, 3) else n  # the driver has written other pictures into its buffer since
        np.testing.assert_array_equal(seen[FRONT], picture(shown))
        assert robot.held == ({FRONT} if n in (2, 3) else set())
    camera = status(robot, FRONT)
    assert (camera.errors, camera.held, camera.lost, camera.held_s) == (2, 2, 0, None)
    assert status(robot, STATE).held == status(robot, "robot").held == 0
    assert camera.last_error


async def test_an_encoded_image_that_is_cut_off_is_held() -> None:
    images = [EncodedImage(jpeg(n), captured_ns=n) for n in range(4)]
    sent = {n: instead(FRONT, image) for n, image in enumerate(images)}
    sent[2] = instead(FRONT, EncodedImage(images[2].data[:-100]))
    robot, _, _ = guards(Device(get_observation=sent))
    seen = [(await robot.get_observation())[FRONT] for _ in images]
    assert seen == [images[0], images[1], images[1], images[3]]
    camera = status(robot, FRONT)
    assert (camera.errors, camera.held) == (1, 1)
    assert "no JPEG" in camera.last_error


async def test_what_is_held_is_the_callers_to_keep() -> None:
    robot, _, _ = guards(Device(get_observation={1: without(FRONT), 2: without(FRONT)}))
    await robot.get_observation()
    first = (await robot.get_observation())[FRONT]
    first[:] = 0
    np.testing.assert_array_equal((await robot.get_observation())[FRONT], picture(0))


@pytest.mark.parametrize("values", [None, 7, [1, 2]])
async def test_a_driver_that_returns_no_dict_is_held(values: Any) -> None:
    robot, _, _ = guards(Device(get_observation={1: lambda value: values}))
    await robot.get_observation()
    seen = await robot.get_observation()
    assert seen[STATE][0] == 0
    assert robot.held == {"robot", STATE, FRONT}
    assert type(values).__name__ in status(robot, "robot").last_error


async def test_a_call_that_raises_once_is_made_again_in_the_same_tick() -> None:
    device = Device(get_observation={1: broken()}, get_action={1: OSError("usb")}, send_action={1: broken()})
    robot, teleop, _ = guards(device, SourcePolicy(retries=1))
    for _ in range(3):
        await robot.get_observation()
        await robot.send_action(await teleop.get_action())
        assert not robot.held
        assert not teleop.held
    for guard, source in ((robot, "robot"), (robot, "robot.send_action"), (teleop, "teleop")):
        assert (status(guard, source).errors, status(guard, source).retries) == (1, 1)
    assert status(teleop, "teleop").last_error == "OSError: usb."


async def test_retries_stay_within_half_a_tick() -> None:
    device = Device(get_observation=dict.fromkeys(range(1, 100), broken()))
    robot, _, clock = guards(device, SourcePolicy(retries=50, backoff_s=0.002))
    await robot.get_observation()
    start_ns = clock.now_ns()
    await robot.get_observation()
    assert clock.now_ns() - start_ns <= 0.5e9 / FPS
    assert 2 <= status(robot, "robot").retries < 50
    tries = device.calls["get_observation"]
    await robot.get_observation()  # one that is held is asked once per tick
    assert device.calls["get_observation"] == tries + 1


async def test_after_max_hold_it_is_lost_and_comes_back() -> None:
    device = Device(get_observation=dict.fromkeys(range(1, 9), broken()))
    robot, _, clock = guards(device, SourcePolicy(retries=0, max_hold_s=0.1))
    said: list[str] = []
    robot.on_change = said.append
    await robot.get_observation()
    outcomes = []
    for _ in range(10):
        try:
            outcomes.append(len(robot.held) if await robot.get_observation() else None)
        except SourceLostError as error:
            outcomes.append("lost")
            assert (error.source, error.call) == ("robot", "get_observation")
            assert isinstance(error.__cause__, SourceError)
            assert robot.is_lost
        clock.advance(1 / 30)
    # 0.1 s are three periods: held at 0, 1 and 2, and no longer at 3.
    assert outcomes[:8] == [3, 3, 3, *["lost"] * 5]
    assert outcomes[8:] == [0, 0]
    assert not robot.is_lost
    assert status(robot, "robot").lost == 1
    assert [line.split()[1:3] for line in said] == [["cable.", "Its"], ["is", "back"]]


def test_limits_of_single_sources() -> None:
    policy = SourcePolicy(max_hold_s=1, max_hold_s_of={"front": 3.0, "teleop": 0.0, STATE: 0.5})
    assert [policy.hold_s(s) for s in (FRONT, "teleop", STATE, "robot")] == [3.0, 0.0, 0.5, 1]
    assert SourcePolicy(on_error="end", max_hold_s_of={"front": 3.0}).hold_s(FRONT) == 0


async def test_before_there_is_anything_to_hold() -> None:
    robot, _, clock = guards(Device(get_observation=dict.fromkeys(range(3), without(FRONT))))
    with pytest.raises(SourceError, match="no front yet") as caught:
        await robot.get_observation()
    assert not isinstance(caught.value, SourceLostError)
    clock.advance(2)
    with pytest.raises(SourceLostError, match="front was lost"):
        await robot.get_observation()
    assert robot.never_came
    clock.advance(0)
    with pytest.raises(SourceLostError):
        await robot.get_observation()
    assert (await robot.get_observation())[FRONT].shape == (48, 64, 3)
    assert not robot.never_came


@pytest.mark.parametrize("value", [np.array([1, math.nan, 0], np.float32), np.zeros(2, np.float32), None])
async def test_a_bad_action_never_reaches_the_robot(value: Any) -> None:
    device = Device(get_action={1: instead("action", value)})
    robot, teleop, _ = guards(device)
    for n in range(3):
        await robot.get_observation()
        action = await teleop.get_action()
        assert action["action"][0] == (0 if n == 1 else n)
        await robot.send_action(action)
    assert [sent["action"][0] for sent in device.sent] == [0, 2]  # an old action is not sent again
    assert status(robot, "robot.send_action").held == 1


async def test_robots_that_need_a_stream_get_the_last_action_again_until_it_is_lost() -> None:
    device = Device(get_action=dict.fromkeys(range(1, 20), broken("get_action")))
    robot, teleop, clock = guards(device, SourcePolicy(retries=0, resend=True, max_hold_s=0.1))
    lost = 0
    for _ in range(10):
        await robot.get_observation()
        try:
            await robot.send_action(await teleop.get_action())
        except SourceLostError:
            lost += 1
        clock.advance(1 / 30)
    assert [sent["action"][0] for sent in device.sent] == [0] * 4
    assert lost == 6


@pytest.mark.parametrize("kind", ["hang", "hang deaf"])
async def test_a_call_that_hangs_is_not_made_again_before_it_returned(kind: str) -> None:
    device = Device(get_observation={1: kind})
    robot, teleop, _ = guards(device)
    await robot.get_observation()
    await robot.send_action(await teleop.get_action())
    # The device fails the test when a call is made while another is under way.
    assert (await robot.get_observation())[STATE][0] == 0
    assert "robot" in robot.held
    if kind == "hang deaf":
        for _ in range(3):
            assert (await robot.get_observation())[STATE][0] == 0
            await robot.send_action(await teleop.get_action())
        assert device.calls["get_observation"] == 2
        assert len(device.sent) == 1
        assert status(robot, "robot.send_action").held == 3
        assert status(robot, "robot").errors == 1
        device.release.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    # What the call that was given up returned is too old.
    assert (await robot.get_observation())[STATE][0] == 2
    assert not robot.held
    await robot.send_action(await teleop.get_action())
    assert len(device.sent) == 2


async def test_cancelling_cancels_the_call() -> None:
    device = Device(get_observation={0: "hang"})
    robot, _, _ = guards(device, SourcePolicy(call_timeout_s=100))
    await robot.connect()
    call = asyncio.create_task(robot.get_observation())
    while not device.inside:
        await asyncio.sleep(0.001)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await robot.disconnect()
    assert device.inside == 0
    assert device.disconnects == 1


async def test_a_call_that_is_slow_but_in_time_is_used_when_it_is_there() -> None:
    # While it is held a tick does not wait for the whole limit; the answer counts all the same.
    device = Device(get_observation={1: broken(), 2: "hang"})
    robot, _, _ = guards(device, SourcePolicy(retries=0, call_timeout_s=100))
    await robot.get_observation()
    await robot.get_observation()
    assert (await robot.get_observation())[STATE][0] == 0
    device.release.set()
    assert (await robot.get_observation())[STATE][0] == 2
    assert device.calls["get_observation"] == 3
    assert robot.is_well


async def test_raise_raises_what_the_driver_raised() -> None:
    error = OSError("usb")
    device = Device(get_observation={1: error, 2: error, 4: without(FRONT)}, send_action={0: error})
    robot, teleop, _ = guards(device, SourcePolicy(on_error="raise", retries=1))
    await robot.get_observation()
    with pytest.raises(OSError, match="usb") as caught:
        await robot.get_observation()
    assert caught.value is error
    await robot.get_observation()
    with pytest.raises(SourceError, match="front"):
        await robot.get_observation()
    await robot.send_action(await teleop.get_action())  # cured by a retry


async def test_end_gives_no_old_value() -> None:
    robot, _, _ = guards(Device(get_observation={1: without(FRONT)}), SourcePolicy(on_error="end"))
    await robot.get_observation()
    with pytest.raises(SourceLostError):
        await robot.get_observation()


async def test_flat_features() -> None:
    class Flat(Device):
        async def get_observation(self) -> Any:
            n = self.calls.get("get_observation", 0)
            values = {"a": float(n), "b": 0.0, "c": 1.0, "front": picture(n), "other": n}
            return await self._call("get_observation", values)

    device = Flat(get_observation={1: instead("b", None), 2: without("front"), 3: broken()})
    device.observation_features = {"a": float, "b": float, "c": float, "front": (48, 64, 3)}
    robot, _, _ = guards(device)
    await robot.get_observation()
    seen = await robot.get_observation()
    assert (seen["a"], seen["b"], robot.held) == (0.0, 0.0, {STATE})  # a vector is held as a whole
    seen = await robot.get_observation()
    np.testing.assert_array_equal(seen["front"], picture(1))
    assert (seen["a"], seen["other"]) == (2.0, 2)
    seen = await robot.get_observation()
    assert (seen["a"], seen["other"]) == (2.0, 0)


async def test_messages_of_a_loose_contact_do_not_flood() -> None:
    device = Device(get_observation=dict.fromkeys(range(1, 300, 2), without(FRONT)))
    robot, _, clock = guards(device)
    said: list[str] = []
    robot.on_change = said.append
    for _ in range(300):
        await robot.get_observation()
        clock.advance(1 / 30)
    assert status(robot, FRONT).held == 150
    assert len(said) <= 2 * 2  # 10 s


async def test_reconnecting() -> None:
    device = Device(connect={1: broken("connect")})
    robot, _, _ = guards(device)
    await robot.connect()
    with pytest.raises(SourceError, match="cable"):
        await robot.reconnect(10)
    await robot.reconnect(10)
    assert (device.connects, device.disconnects, robot.reconnects) == (2, 2, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"on_error": "ignore"},
        {"retries": -1},
        {"retries": 1.5},
        {"max_hold_s": -1},
        {"max_hold_s": math.nan},
        {"max_hold_s_of": {"front": -1}},
        {"call_timeout_s": 0},
        {"reconnect_s": -1},
        {"backoff_s": -1},
    ],
)
def test_policies_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SourcePolicy(**settings)


async def test_a_disconnect_that_finds_a_stuck_driver_gives_up_and_is_done_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threaded, "STUCK_S", 0.01)
    go_on, entered, released = threading.Event(), threading.Event(), threading.Event()

    class Driver:
        name = "stuck"
        is_connected = False
        observation_features = action_features = {"a": float}  # noqa: RUF012

        def connect(self) -> None:
            self.is_connected = True

        def disconnect(self) -> None:
            released.set()

        def get_observation(self) -> Any:
            entered.set()
            assert go_on.wait(60)

        def send_action(self, action: Any, /) -> Any:
            return action

    robot = threaded.ThreadedRobot(Driver())
    await robot.connect()
    call = asyncio.create_task(robot.get_observation())
    while not entered.is_set():
        await asyncio.sleep(0.001)
    call.cancel()
    for _ in range(2):
        with pytest.raises(SourceError, match="does not return from get_observation"):
            await robot.disconnect()
        with pytest.raises(SourceError, match="does not return from get_observation"):
            await robot.connect()
    assert not released.is_set()
    go_on.set()
    while not released.is_set():
        await asyncio.sleep(0.001)
    await robot.disconnect()
    await robot.connect()
    await robot.disconnect()


def test_a_stuck_thread_does_not_keep_a_process_from_ending() -> None:
    program = """
import asyncio, threading
from aiorecord.robots.blocking import device_thread
device_thread.EXIT_WAIT_S = 0.05
thread = device_thread.DeviceThread("stuck")
thread.submit(threading.Event().wait)
thread.close()
late = device_thread.DeviceThread("late")
late.submit(print, "released")
late.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "released"), done.stderr
