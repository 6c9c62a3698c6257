"""A robot and its teleoperator are connected and disconnected in order, and let go of whatever fails."""

import asyncio

import anyio
import pytest
from helpers import FEATURES

from aiorecord.errors import SourceError
from aiorecord.robots import GuardedRobot, connecting
from aiorecord.robots.connecting import connected
from aiorecord.robots.guarding import guard as guard_module

ORDER = ["teleop connect", "robot connect", "robot disconnect", "teleop disconnect"]


class Device:
    def __init__(self, name, log, bad=()):
        self.name, self.log, self.bad = name, log, bad

    async def connect(self):
        self.do("connect")

    async def disconnect(self):
        self.do("disconnect")

    def do(self, call):
        self.log.append(f"{self.name} {call}")
        if call in self.bad:
            raise SourceError(f"{self.name}: no {call}", source=self.name, call=call)


class Stuck(Device):
    """Never returns from `disconnect`."""

    async def disconnect(self):
        self.do("disconnect")
        await asyncio.Event().wait()


async def use(robot_fails=(), teleop_fails=(), body=None):
    log = []
    try:
        async with connected(Device("robot", log, robot_fails), Device("teleop", log, teleop_fails)):
            if body is not None:
                raise body
    except Exception as error:  # noqa: BLE001 - looked at by the test
        return log, error
    return log, None


async def test_both_devices_are_let_go_of_whatever_fails():
    assert await use() == (ORDER, None)
    log, error = await use(robot_fails=["connect", "disconnect"])
    assert (log, error.call) == (ORDER, "connect")
    assert error.__notes__ == ["And while disconnecting: robot: no disconnect"]
    log, error = await use(teleop_fails=["connect"])
    assert log == ["teleop connect", "teleop disconnect"]
    log, error = await use(robot_fails=["disconnect"])
    assert (log, error.call) == (ORDER, "disconnect")
    log, error = await use(teleop_fails=["disconnect"], body=KeyError("mine"))
    assert isinstance(error, KeyError)
    assert error.__notes__ == ["And while disconnecting: teleop: no disconnect"]


async def test_the_error_of_each_is_told():
    log, error = await use(robot_fails=["disconnect"], teleop_fails=["disconnect"])
    assert (log, str(error)) == (ORDER, "robot: no disconnect")
    assert error.__notes__ == ["And while disconnecting: teleop: no disconnect"]


async def test_a_robot_alone():
    log = []
    async with connected(Device("robot", log), None):
        assert log == ["robot connect"]
    assert log == ["robot connect", "robot disconnect"]


async def test_a_cancellation_waits_for_both_and_their_errors_are_logged(caplog):
    log, inside = [], asyncio.Event()

    async def body():
        async with connected(Device("robot", log, ["disconnect"]), Device("teleop", log)):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert log == ORDER
    assert caught.value.__notes__ == ["And while disconnecting: robot: no disconnect"]

    log.clear()
    with anyio.CancelScope() as scope:
        async with connected(Device("robot", log, ["disconnect"]), Device("teleop", log)):
            scope.cancel()
    assert log == ORDER
    assert scope.cancelled_caught
    assert caplog.messages == ["While disconnecting: robot: no disconnect"]


async def test_a_device_that_does_not_return_keeps_no_one(monkeypatch):
    monkeypatch.setattr(connecting, "RELEASE_S", 0.05)
    monkeypatch.setattr(guard_module, "RELEASE_S", 0.05)
    log = []
    with pytest.raises(SourceError, match=r"The robot 'robot' does not disconnect within 0\.05 s\."):
        async with connected(Stuck("robot", log), Device("teleop", log)):
            pass
    assert log == ORDER
    log.clear()
    guarded = GuardedRobot(Stuck("robot", log), FEATURES)
    with pytest.raises(SourceError, match=r"could not be disconnected: it does not return\."):
        async with connected(guarded, Device("teleop", log)):
            pass
    assert log == ORDER
