"""The simulated scene may be drawn ahead of `connect`, in bands of any size: the pictures are the same."""

import asyncio
import hashlib
import threading

import numpy as np
import pytest

from aiorecord.robots import CameraSpec, SimRobot, SimRobotConfig
from aiorecord.robots.sim import sim_camera, sim_robot

CONFIG = SimRobotConfig(cameras={"front": CameraSpec(width=96, height=130)})


def look(robot):
    async def main():
        await robot.connect()
        try:
            return (await robot.get_observation())["observation.images.front"]
        finally:
            await robot.disconnect()

    return asyncio.run(main())


@pytest.fixture
def drawn(monkeypatch):
    """Counts the cameras that are made, and holds them up until it is told to go on."""
    made, go_on = [], threading.Event()

    class Camera(sim_robot.ColourCamera):
        def __init__(self, *arguments):
            made.append(threading.current_thread().name)
            assert go_on.wait(30)
            super().__init__(*arguments)

    monkeypatch.setattr(sim_robot, "ColourCamera", Camera)
    return made, go_on


def test_connect_takes_what_was_prepared(drawn):
    made, go_on = drawn
    robot = SimRobot(CONFIG)
    robot.prepare()
    robot.prepare()
    go_on.set()
    ahead = look(robot)
    assert len(made) == 1
    assert made[0].startswith("aiorecord-scene")
    np.testing.assert_array_equal(ahead, look(SimRobot(CONFIG)))
    np.testing.assert_array_equal(ahead, look(robot))  # connected anew, it begins anew
    assert len(made) == 3


def test_disconnect_waits_for_a_drawing_that_nobody_took(drawn):
    _, go_on = drawn

    async def main():
        robot = SimRobot(CONFIG)
        robot.prepare()
        leaving = asyncio.create_task(robot.disconnect())
        await asyncio.sleep(0)
        assert not leaving.done()
        go_on.set()
        await leaving
        assert not robot.is_connected

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("aiorecord-sim")]


def test_a_cancelled_connect_leaves_the_drawing_to_the_next_one(drawn):
    made, go_on = drawn

    async def main():
        robot = SimRobot(CONFIG)
        connecting = asyncio.create_task(robot.connect())
        while not made:
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait((connecting,))
        assert connecting.cancelled()
        assert not robot.is_connected
        go_on.set()
        await robot.connect()
        await robot.disconnect()

    asyncio.run(main())
    assert len(made) == 1


def test_what_cannot_be_drawn_is_said_once(monkeypatch):
    def refuse(*_):
        raise MemoryError("no room")

    robot = SimRobot(CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr(sim_robot, "ColourCamera", refuse)
        with pytest.raises(MemoryError, match="no room"):
            asyncio.run(robot.connect())
    assert look(robot).shape == (130, 96, 3)


def test_pictures_do_not_depend_on_the_bands(monkeypatch):
    def digest():
        view = sim_camera.Viewpoint("front", CONFIG.cameras["front"])
        return [hashlib.sha256(part.tobytes()).hexdigest() for part in sim_camera._background(view, 0)]

    monkeypatch.setattr(sim_camera, "_BAND", 7)
    narrow = digest()
    monkeypatch.setattr(sim_camera, "_BAND", 130)
    assert digest() == narrow
