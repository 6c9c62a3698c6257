"""The simulated robot and operator."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from aiorecord.errors import ConfigError, FrameError, StateError
from aiorecord.features import Schema
from aiorecord.robots import (
    ROBOTS,
    TELEOPERATORS,
    CameraSpec,
    Robot,
    SimRobot,
    SimRobotConfig,
    SimTeleopConfig,
    SimTeleoperator,
    Teleoperator,
)
from aiorecord.robots.sim.arm import CUBE_SIDE, HOME, LOWER, UPPER, forward_kinematics, inverse_kinematics
from aiorecord.robots.sim.image_pool import PictureMemory
from aiorecord.robots.sim.motion import PickAndPlace, cube_poses
from aiorecord.robots.sim.sim_camera import ColourCamera

SMALL = CameraSpec(width=160, height=120)
VIEWS = dict.fromkeys(("front", "wrist", "side", "top", "window"), SMALL)


async def play(robot: SimRobot, teleop: SimTeleoperator, steps: int) -> list[dict[str, Any]]:
    """Frames of a control loop."""
    frames = []
    await robot.connect()
    await teleop.connect()
    try:
        for _ in range(steps):
            observation, action = await robot.get_observation(), await teleop.get_action()
            sent = await robot.send_action(action)
            assert np.array_equal(sent["action"], action["action"])  # the script keeps to the limits
            frames.append({**observation, **action})
    finally:
        await robot.disconnect()
        await teleop.disconnect()
    return frames


async def record(steps: int, seed: int = 0, **settings: Any) -> list[dict[str, Any]]:
    robot = SimRobot(SimRobotConfig(seed=seed, **settings))
    return await play(robot, SimTeleoperator(SimTeleopConfig(seed=seed)), steps)


def test_they_are_what_the_protocols_ask_for_and_are_registered() -> None:
    assert isinstance(SimRobot(), Robot)
    assert isinstance(SimTeleoperator(), Teleoperator)
    assert ROBOTS["sim"] == (SimRobotConfig, SimRobot)
    assert TELEOPERATORS["sim"] == (SimTeleopConfig, SimTeleoperator)


async def test_frames_fit_the_features() -> None:
    depth = {"front_depth": SMALL, "wrist_depth": SMALL}
    robot = SimRobot(SimRobotConfig(cameras=VIEWS, depth_cameras=depth))
    teleop = SimTeleoperator()
    schema = Schema({**robot.observation_features, **teleop.action_features})
    assert schema["observation.images.front_depth"].is_depth
    assert not schema["observation.images.front"].is_depth
    for frame in await play(robot, teleop, 3):
        checked = schema.check(frame)
        assert not checked.nonfinite
        for key, image in checked.images.items():
            assert image.dtype == (np.uint16 if schema[key].is_depth else np.uint8)


def test_default_has_a_front_camera_only() -> None:
    assert list(SimRobot().observation_features) == ["observation.state", "observation.images.front"]


async def test_same_seed_same_bits_other_seed_other_bits() -> None:
    settings = {"cameras": {"front": SMALL, "wrist": SMALL}, "depth_cameras": {"top": SMALL}}
    first, again, other = (
        await record(12, **settings),
        await record(12, **settings),
        await record(12, seed=1, **settings),
    )
    for a, b, c in zip(first, again, other, strict=True):
        for key in a:
            assert np.array_equal(a[key], b[key])
            assert not np.array_equal(a[key], c[key])


async def test_reconnecting_starts_again() -> None:
    robot, teleop = SimRobot(SimRobotConfig(cameras={"front": SMALL})), SimTeleoperator()
    first, second = await play(robot, teleop, 4), await play(robot, teleop, 4)
    for a, b in zip(first, second, strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a)


async def test_pictures_are_new_arrays_with_moving_content_and_noise() -> None:
    frames = await record(40, cameras={"front": SMALL, "wrist": SMALL})
    for name in ("front", "wrist"):
        images = [frame[f"observation.images.{name}"] for frame in frames]
        assert not any(np.shares_memory(a, b) for a, b in itertools.pairwise(images))
        assert len({image.tobytes() for image in images}) == len(images)
        assert images[0].min() > 0  # the sums of scene and noise never wrap around
        assert images[0].max() < 255
        assert images[0].std() > 20
        moved = np.abs(images[-1].astype(int) - images[0])
        assert (moved > 20).sum() > 300
    still = np.abs(frames[1]["observation.images.front"].astype(int) - frames[0]["observation.images.front"])
    assert 0.1 < still.mean() < 3.0


def test_a_picture_that_is_held_is_not_drawn_over() -> None:
    memory = PictureMemory((4, 6, 3))
    held = memory.take()
    part = memory.take()[1:, ::2]
    seen = memoryview(memory.take())
    assert isinstance(seen.obj, np.ndarray)
    taken = [held, part, np.asarray(seen)]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(taken, 2))
    fresh = memory.take()
    assert not any(np.shares_memory(fresh, array) for array in taken)
    place = part.ctypes.data
    del part, fresh
    taken.pop(1)
    found = [memory.take() for _ in range(3)]
    assert any(array.ctypes.data <= place < array.ctypes.data + array.nbytes for array in found), "used again"
    many = [memory.take() for _ in range(40)]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations([*taken, *found, *many], 2))


class HeldDrawing:
    """Cameras that do not get on with their pictures until `go_on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.threads: set[str] = set()
        render = ColourCamera.render

        def held(camera: ColourCamera, *scene: Any) -> Any:
            self.threads.add(threading.current_thread().name)
            self.begun.set()
            assert self.go_on.wait(60)
            return render(camera, *scene)

        monkeypatch.setattr(ColourCamera, "render", held)


async def test_pictures_are_drawn_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = HeldDrawing(monkeypatch)

    robot = SimRobot(SimRobotConfig(cameras={"front": SMALL, "wrist": SMALL}))
    await robot.connect()
    looking = asyncio.create_task(robot.get_observation())
    while not drawing.begun.is_set():
        await asyncio.sleep(0.001)
    looking.cancel()
    done, _ = await asyncio.wait({looking}, timeout=0.01)
    assert not done, "what is being drawn is finished first"
    drawing.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert (await robot.get_observation()).keys() == robot.observation_features.keys()
    await robot.disconnect()
    assert drawing.threads
    assert not drawing.threads & {thread.name for thread in threading.enumerate()}


async def test_disconnecting_ends_the_threads_also_when_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = HeldDrawing(monkeypatch)

    robot = SimRobot(SimRobotConfig(cameras={"front": SMALL}))
    await robot.connect()
    looking = asyncio.create_task(robot.get_observation())
    while not drawing.begun.is_set():
        await asyncio.sleep(0.001)
    ending = asyncio.create_task(robot.disconnect())
    await asyncio.sleep(0)
    ending.cancel()
    done, _ = await asyncio.wait({ending}, timeout=0.01)
    assert not done, "what is being drawn is finished first"
    drawing.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert not any(thread.name.startswith("aiorecord-draw") for thread in threading.enumerate())
    await looking
    await robot.disconnect()


async def test_an_error_while_drawing_is_raised_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(camera: ColourCamera, *scene: Any) -> Any:
        raise MemoryError("no room for a picture")

    robot = SimRobot(SimRobotConfig(cameras={"front": SMALL}))
    await robot.connect()
    monkeypatch.setattr(ColourCamera, "render", fails)
    with pytest.raises(MemoryError, match="no room"):
        await robot.get_observation()
    await robot.disconnect()


async def test_without_noise_a_scene_at_rest_does_not_change() -> None:
    robot = SimRobot(SimRobotConfig(cameras={"front": SMALL, "wrist": SMALL}, noise=0.0))
    await robot.connect()
    first, second = await robot.get_observation(), await robot.get_observation()
    for name in ("front", "wrist"):
        key = f"observation.images.{name}"
        assert np.array_equal(first[key], second[key])


async def test_a_slower_camera_repeats_its_picture() -> None:
    frames = await record(6, cameras={"front": CameraSpec(160, 120, fps=10), "side": SMALL})
    slow = [frame["observation.images.front"] for frame in frames]
    assert [np.array_equal(a, b) for a, b in itertools.pairwise(slow)] == [
        True, True, False, True, True,
    ]  # fmt: skip
    assert not np.shares_memory(slow[0], slow[1])


async def test_depth_is_plausible() -> None:
    frames = await record(
        3, cameras={}, depth_cameras={"top": CameraSpec(320, 240), "wrist": CameraSpec(320, 240)}
    )
    top = frames[0]["observation.images.top"]
    assert top.shape == (240, 320, 1)
    measured = top[top > 0]
    assert 0.5 < (measured > 700).mean() < 1.0  # most is the table, 0.78 m below
    assert 300 < measured.min() < 740  # the arm stands out
    assert 0.001 < (top == 0).mean() < 0.2  # and there are holes
    assert (top == 0).sum() != (frames[1]["observation.images.top"] == 0).sum()


async def test_the_robot_follows_with_a_lag() -> None:
    frames = await record(200, cameras={})
    state = np.array([frame["observation.state"] for frame in frames])
    action = np.array([frame["action"] for frame in frames])
    assert state.dtype == action.dtype == np.float32
    assert (action >= LOWER).all()
    assert (action <= UPPER).all()
    arm = slice(0, 5)
    assert not np.array_equal(state[1:], action[:-1])
    now = np.abs(state[:, arm] - action[:, arm]).mean()
    later = np.abs(state[3:, arm] - action[:-3, arm]).mean()
    assert later < now  # it is where it was told to be a little earlier
    assert now < 10


def test_motion_is_smooth_and_varies() -> None:
    script = PickAndPlace(seed=3, fps=30)
    steps = np.array([script.next() for _ in range(1800)])
    velocity = np.diff(steps, axis=0) * 30
    assert np.abs(velocity).max() < 450  # degrees per second
    assert np.abs(np.diff(velocity, axis=0)).max() < 60
    assert (np.ptp(steps, axis=0) > [40, 30, 20, 20, 30, 40]).all()
    assert not np.allclose(steps[:600], steps[600:1200], atol=5)


@pytest.mark.parametrize("seed", range(4))
async def test_the_cube_is_picked_and_placed_where_the_script_wants_it(seed: int) -> None:
    robot = SimRobot(SimRobotConfig(seed=seed, cameras={}))
    teleop = SimTeleoperator(SimTeleopConfig(seed=seed))
    await robot.connect()
    await teleop.connect()
    wanted = cube_poses(seed)
    next(wanted)
    placed, lifted, held = 0, 0.0, False
    for _ in range(30 * 60):
        await robot.send_action(await teleop.get_action())
        await robot.get_observation()
        lifted = max(lifted, float(robot._cube.centre[2]))
        now_held = robot._held is not None
        if robot._held is not None:  # the jaws lie flat on two faces
            assert abs((robot._held[1] + 45) % 90 - 45) < 6
        if held and not now_held:
            x, y, _ = next(wanted)
            assert math.dist(robot._cube.centre[:2], (x, y)) < 0.02
            placed += 1
        held = now_held
    assert placed >= 5
    assert lifted > CUBE_SIDE * 1.5
    assert robot._cube.centre[2] >= CUBE_SIDE / 2 - 1e-9


def test_inverse_kinematics_inverts_forward_kinematics() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        distance, bearing = rng.uniform(0.17, 0.27), rng.uniform(-1.0, 1.0)
        x, y, z = distance * math.cos(bearing), distance * math.sin(bearing), rng.uniform(0.01, 0.12)
        pose = forward_kinematics(inverse_kinematics(x, y, z, pitch=float(rng.uniform(-85, -65))))
        assert np.allclose(pose.tip, (x, y, z), atol=1e-9)


def test_inverse_kinematics_out_of_reach_stays_within_limits() -> None:
    for point in ((2.0, 0.0, 0.1), (0.0, 0.0, 0.0), (-1.0, -1.0, -3.0), (0.0, 0.0, 5.0)):
        joints = inverse_kinematics(*point, pitch=-80.0)
        assert np.isfinite(joints).all()
        assert (joints >= LOWER).all()
        assert (joints <= UPPER).all()


async def test_any_pose_can_be_drawn() -> None:
    """The whole joint range: behind cameras, above the horizon, out of the picture."""

    async def main() -> None:
        depth = {f"{name}_depth": SMALL for name in VIEWS}
        robot = SimRobot(SimRobotConfig(cameras=VIEWS, depth_cameras=depth, lag_s=0.0))
        await robot.connect()
        rng = np.random.default_rng(0)
        for number in range(60):
            target = [LOWER, UPPER, HOME * 0][number] if number < 3 else rng.uniform(LOWER, UPPER)
            await robot.send_action({"action": target})
            observation = await robot.get_observation()
            for name in VIEWS:
                image = observation[f"observation.images.{name}"]
                assert image.shape == (120, 160, 3)
                assert image.min() > 0
                assert image.max() < 255

    with np.errstate(all="raise", under="ignore"):
        await main()


async def test_actions_are_clipped_and_checked() -> None:
    robot = SimRobot(SimRobotConfig(cameras={}))
    await robot.connect()
    sent = await robot.send_action({"action": [500.0, -500.0, 0.0, 0.0, 0.0, 200.0]})
    assert sent["action"].tolist() == [110.0, -100.0, 0.0, 0.0, 0.0, 100.0]
    flat = dict.fromkeys(robot.action_features["action"]["names"], 1.0)
    assert (await robot.send_action(flat))["action"].tolist() == [1.0] * 6
    for bad in ({"action": [1.0] * 5}, {"action": [math.nan] * 6}, {}, {"action": "left"}):
        with pytest.raises(FrameError):
            await robot.send_action(bad)


async def test_calls_before_connect_and_after_disconnect() -> None:
    robot, teleop = SimRobot(SimRobotConfig(cameras={})), SimTeleoperator()
    for _ in range(2):
        assert not robot.is_connected
        assert not teleop.is_connected
        for call in (robot.get_observation(), robot.send_action({"action": HOME}), teleop.get_action()):
            with pytest.raises(StateError, match="connect"):
                await call
        await robot.connect()
        await robot.connect()
        await teleop.connect()
        assert robot.is_connected
        assert teleop.is_connected
        for _ in range(2):
            await robot.disconnect()
            await teleop.disconnect()


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"fps": 0}, "fps"),
        ({"noise": 9.0}, "noise"),
        ({"noise": -1.0}, "noise"),
        ({"lag_s": -0.1}, "lag_s"),
        ({"joint_noise_deg": math.nan}, "joint_noise_deg"),
        ({"cameras": {"front": CameraSpec(width=641)}}, "cameras.front.width"),
        ({"cameras": {"front": CameraSpec(height=0)}}, "cameras.front.height"),
        ({"depth_cameras": {"d": CameraSpec(fps=0)}}, "cameras.d.fps"),
        ({"depth_cameras": {"front": SMALL}}, "depth_cameras"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimRobot(SimRobotConfig(**settings))
    assert caught.value.option == option


def test_teleop_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError):
        SimTeleoperator(SimTeleopConfig(fps=-1))


async def test_encoders_have_real_work() -> None:
    """Lossless frames are of the size of real footage's: grain and texture, not flat colour."""
    frames = await record(8, cameras={"front": CameraSpec(), "wrist": CameraSpec()})
    for name in ("front", "wrist"):
        codec: Any = av.CodecContext.create("libx264", "w")
        codec.width, codec.height, codec.pix_fmt, codec.time_base = 640, 480, "yuv420p", Fraction(1, 30)
        codec.options = {"preset": "ultrafast", "qp": "0"}
        size = 0
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame[f"observation.images.{name}"], format="rgb24")
            picture.pts = number
            size += sum(packet.size for packet in codec.encode(picture.reformat(format="yuv420p")))
        size += sum(packet.size for packet in codec.encode(None))
        assert 60_000 < size / len(frames) < 260_000
