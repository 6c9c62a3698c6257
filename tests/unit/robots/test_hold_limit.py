"""For how long a value may stand in: time in which the device was asked, not time in which nothing ran."""

from __future__ import annotations

import pytest
from guard_devices import Device, broken
from helpers import FEATURES, FPS

from aiorecord.clock import FakeClock
from aiorecord.errors import SourceLostError
from aiorecord.robots.guarding.guard import GuardedRobot
from aiorecord.robots.guarding.source_policy import SourcePolicy

POLICY = SourcePolicy(retries=0, max_hold_s=1.0, call_timeout_s=0.1)


async def test_a_loop_that_stood_still_does_not_make_a_failing_device_a_lost_one() -> None:
    clock = FakeClock(auto=True)
    robot = GuardedRobot(
        Device(get_observation=dict.fromkeys((2, 3), broken())), FEATURES, POLICY, clock=clock, fps=FPS
    )
    await robot.connect()
    for _ in range(6):
        await robot.get_observation()
        clock.advance(30)  # a suspended machine
    assert robot.is_well
    assert [s.lost for s in robot.status()] == [0] * len(robot.status())
    await robot.disconnect()


async def test_a_device_that_fails_whenever_it_is_asked_is_lost_in_the_end() -> None:
    clock = FakeClock(auto=True)
    robot = GuardedRobot(
        Device(get_observation=dict.fromkeys(range(1, 100), broken())),
        FEATURES,
        POLICY,
        clock=clock,
        fps=FPS,
    )
    await robot.connect()
    await robot.get_observation()
    for _ in range(FPS):
        clock.advance(1 / FPS)
        await robot.get_observation()
    clock.advance(1 / FPS)
    with pytest.raises(SourceLostError):
        await robot.get_observation()
    await robot.disconnect()
