"""A simulated robot and a simulated operator: an arm, a table, a cube, cameras. No hardware, no wall clock.

Both advance by one step of 1/fps per call and are deterministic for a given seed, so an hour of recording can
be made in minutes, twice, with the same bits. Pictures have the grain and texture of a webcam's, so that
video encoders have a realistic amount of work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, FrameError, StateError
from ...options import check_number
from ...system.threads import Threads, wrapped
from ...system.uncancellable import ended
from ...values import is_whole
from ..protocols import Features, Values
from ..schema import ACTION, IMAGES, STATE, dataset_features
from .arm import CUBE_CONTACT, CUBE_SIDE, HOME, JOINT_NAMES, LOWER, UPPER, ArmPose, forward_kinematics
from .motion import PickAndPlace, cube_poses
from .scene import Cube
from .sim_camera import MAX_NOISE, CameraSpec, ColourCamera, DepthCamera, check_spec

__all__ = ["CameraSpec", "SimRobot", "SimRobotConfig", "SimTeleopConfig", "SimTeleoperator"]

ENCODER_STEP_DEG = 360 / 4096
_GRASP_REACH_M = 0.03
_FALL_M_PER_S = 0.6


def _default_cameras() -> dict[str, CameraSpec]:
    return {"front": CameraSpec()}


@dataclass
class SimRobotConfig:
    """Settings of the simulated robot."""

    # Seed of all random values. Use the same for the teleoperator, which derives the cube's position from it.
    seed: int = 0
    # Steps per second: the simulation advances by one step per observation.
    fps: int = 30
    # Colour cameras by name. 'wrist' is on the gripper; 'front', 'side', 'top' and others are fixed.
    cameras: dict[str, CameraSpec] = field(default_factory=_default_cameras)
    # Depth cameras by name, likewise; 'front_depth' has the view of 'front'.
    depth_cameras: dict[str, CameraSpec] = field(default_factory=dict)
    # Sensor noise of the pictures, standard deviation in grey levels, 0 to 4.
    noise: float = 0.7
    # Noise of the measured joint positions, standard deviation in degrees.
    joint_noise_deg: float = 0.05
    # Time constant with which the joints follow the action, in seconds.
    lag_s: float = 0.08


@dataclass
class SimTeleopConfig:
    """Settings of the simulated operator."""

    # Seed of the motions; must be the same as the robot's.
    seed: int = 0
    # Steps per second; must be the same as the robot's.
    fps: int = 30


type _Cameras = dict[str, tuple[CameraSpec, ColourCamera | DepthCamera]]


class SimRobot:
    """A six-joint arm on a table with a cube, seen by any number of cameras.

    Joints and units are those of an SO-101: degrees, 0 to 100 for the gripper. The arm follows the last
    action with a lag, so observations differ from actions. Pictures are drawn by threads, in some
    milliseconds each; each is a new array that belongs to the caller.

    Args:
        config: the settings; None for the defaults.

    Raises:
        ConfigError: a setting is invalid, or two cameras have the same name.
    """

    name = "sim"
    new_images = True

    def __init__(self, config: SimRobotConfig | None = None) -> None:
        self.config = config = config or SimRobotConfig()
        _check_common(config.seed, config.fps)
        for name, spec in (*config.cameras.items(), *config.depth_cameras.items()):
            check_spec(name, spec)
        if both := sorted(config.cameras.keys() & config.depth_cameras.keys()):
            raise ConfigError(
                f"{both[0]!r} is both a colour and a depth camera; name the depth one '{both[0]}_depth'.",
                option="depth_cameras",
            )
        if not 0 <= config.noise <= MAX_NOISE:
            raise ConfigError(f"noise must be from 0 to {MAX_NOISE:g}, not {config.noise!r}.", option="noise")
        check_number("joint_noise_deg", config.joint_noise_deg)
        check_number("lag_s", config.lag_s)
        self._sides = _vector_features(
            {name: (spec.height, spec.width, 3) for name, spec in config.cameras.items()}
            | {name: (spec.height, spec.width, 1) for name, spec in config.depth_cameras.items()}
        )
        self._cameras: _Cameras | None = None
        self._drawing: Future[_Cameras] | None = None
        self._threads: Threads | None = None
        self._reset()

    def _reset(self) -> None:
        self._rng = np.random.default_rng([self.config.seed, 7])
        self._joints: NDArray[np.float64] = HOME.copy()
        self._target: NDArray[np.float64] = HOME.copy()
        x, y, yaw = next(cube_poses(self.config.seed))
        self._cube = Cube(np.array([x, y, CUBE_SIDE / 2]), yaw)
        self._held: tuple[NDArray[np.float64], float] | None = None
        self._pose: ArmPose = forward_kinematics(self._joints)
        self._step = 0
        self._pictures: dict[str, tuple[int, NDArray[Any]]] = {}

    @property
    def is_connected(self) -> bool:
        """Between `connect` and `disconnect`."""
        return self._cameras is not None

    @property
    def observation_features(self) -> Features:
        """``observation.state`` (6,) float32 and ``observation.images.<camera>`` (h, w, 3 or 1)."""
        return {key: value for key, value in self._sides.items() if key != ACTION}

    @property
    def action_features(self) -> Features:
        """``action`` (6,) float32."""
        return {ACTION: self._sides[ACTION]}

    def prepare(self) -> None:
        """Begin to draw the scene in a thread, before `connect` needs it. Idempotent.

        For callers that have other work to do before `connect`. The thread ends after drawing; `disconnect`
        waits for it.
        """
        if self._cameras is None and self._drawing is None:
            thread = ThreadPoolExecutor(1, "aiorecord-scene")
            self._drawing = thread.submit(self._make_cameras)
            thread.shutdown(wait=False)

    async def connect(self) -> None:
        """Start from step 0, with the arm in its home pose and the cube in its first place. Idempotent.

        The scene is drawn in a thread, which takes a good part of a second. When cancelled, the robot is not
        connected.
        """
        if self._cameras is None:
            self.prepare()
            drawing = self._drawing
            assert drawing is not None
            try:
                cameras: _Cameras = await wrapped(drawing)
            finally:
                if drawing.done():  # otherwise it goes on, for whoever connects or disconnects next
                    self._drawing = None
            self._reset()
            self._threads = Threads(max(1, min(len(cameras), os.cpu_count() or 1)), "aiorecord-draw")
            self._cameras = cameras

    async def disconnect(self) -> None:
        """Release the cameras and end the threads that draw. Idempotent; cancelling waits for their end."""
        self._cameras = None
        threads, self._threads = self._threads, None
        drawing, self._drawing = self._drawing, None
        if drawing is not None:
            await ended(wrapped(drawing, quietly=True))
        if threads is not None:
            await threads.aclose()

    async def get_observation(self) -> Values:
        """Advance by one step and observe. When cancelled, pictures being drawn are finished first.

        Returns:
            ``observation.state``: (6,) float32; colour pictures: (h, w, 3) uint8; depth pictures:
            (h, w, 1) uint16 millimetres, 0 where nothing was measured.

        Raises:
            StateError: not connected.
        """
        cameras = self._cameras
        if cameras is None or self._threads is None:
            raise StateError("The simulated robot is not connected; call connect() first.")
        self._advance()
        noise = self._rng.normal(0.0, self.config.joint_noise_deg, 6)
        # A servo's position is read as one of 4096 steps per turn.
        measured = np.rint((self._joints + noise) / ENCODER_STEP_DEG) * ENCODER_STEP_DEG
        observation: Values = {STATE: measured.astype(np.float32)}
        pictures = await self._threads.run_each(
            [partial(self._picture, name, *camera) for name, camera in cameras.items()]
        )
        for name, picture in zip(cameras, pictures, strict=True):
            observation[IMAGES + name] = picture
        self._step += 1
        return observation

    async def send_action(self, action: Values) -> Values:
        """Set the joints' targets.

        Args:
            action: ``{"action": (6,) numbers}``, or one number per joint name.

        Returns:
            ``{"action": (6,) float32}``, clipped to the joint limits.

        Raises:
            StateError: not connected.
            FrameError: the action is not six finite numbers.
        """
        if self._cameras is None:
            raise StateError("The simulated robot is not connected; call connect() first.")
        self._target = np.clip(_action_vector(action), LOWER, UPPER)
        return {ACTION: self._target.astype(np.float32)}

    def _picture(self, name: str, spec: CameraSpec, camera: ColourCamera | DepthCamera) -> NDArray[Any]:
        if spec.fps >= self.config.fps:
            return camera.render(self._pose, self._cube)
        number = self._step * spec.fps // self.config.fps
        last = self._pictures.get(name)
        if last is None or last[0] != number:
            last = self._pictures[name] = number, camera.render(self._pose, self._cube)
        return last[1].copy()

    def _make_cameras(self) -> _Cameras:
        config = self.config
        cameras: _Cameras = {}
        for name, spec in config.cameras.items():
            cameras[name] = spec, ColourCamera(name, spec, config.seed, config.noise)
        for name, spec in config.depth_cameras.items():
            cameras[name] = spec, DepthCamera(name, spec, config.seed, config.noise)
        return cameras

    def _advance(self) -> None:
        """One step of the arm and the cube."""
        step_s = 1.0 / self.config.fps
        before = float(self._joints[5])
        share = 1.0 - np.exp(-step_s / self.config.lag_s) if self.config.lag_s > 0 else 1.0
        self._joints = self._joints + (self._target - self._joints) * share
        pose = forward_kinematics(self._joints)
        gap = self._cube.centre - pose.tip
        closing = self._joints[5] < before
        within = float(gap @ gap) < _GRASP_REACH_M**2
        if self._held is None and closing and before >= CUBE_CONTACT >= self._joints[5] and within:
            # The offset in the gripper's own axes, which stays the same while the cube is carried.
            axes = np.stack([pose.forward, pose.lateral, pose.up])
            self._held = axes @ gap, self._cube.yaw - _heading(pose)
        if self._held is not None:
            self._joints[5] = max(float(self._joints[5]), CUBE_CONTACT)
            pose = forward_kinematics(self._joints)
            offset, turn = self._held
            axes = np.stack([pose.forward, pose.lateral, pose.up])
            self._cube.centre = pose.tip + offset @ axes
            self._cube.centre[2] = max(float(self._cube.centre[2]), CUBE_SIDE / 2)
            self._cube.yaw = _heading(pose) + turn
            if self._target[5] > CUBE_CONTACT + 3.0:
                self._held = None
        elif self._cube.centre[2] > CUBE_SIDE / 2:
            fallen = float(self._cube.centre[2]) - _FALL_M_PER_S * step_s
            self._cube.centre[2] = max(CUBE_SIDE / 2, fallen)
        self._pose = pose


class SimTeleoperator:
    """An operator who picks and places the simulated cube, again and again, never twice the same way.

    Args:
        config: the settings; None for the defaults.

    Raises:
        ConfigError: a setting is invalid.
    """

    name = "sim"

    def __init__(self, config: SimTeleopConfig | None = None) -> None:
        self.config = config = config or SimTeleopConfig()
        _check_common(config.seed, config.fps)
        self._script: PickAndPlace | None = None

    @property
    def is_connected(self) -> bool:
        """Between `connect` and `disconnect`."""
        return self._script is not None

    @property
    def action_features(self) -> Features:
        """``action`` (6,) float32."""
        return {ACTION: _vector_features({})[ACTION]}

    async def connect(self) -> None:
        """Start the script from its beginning. Idempotent."""
        if self._script is None:
            self._script = PickAndPlace(self.config.seed, self.config.fps)

    async def disconnect(self) -> None:
        """Stop. Idempotent."""
        self._script = None

    async def get_action(self) -> Values:
        """The next step of the script, ``{"action": (6,) float32}``.

        Raises:
            StateError: not connected.
        """
        if self._script is None:
            raise StateError("The simulated teleoperator is not connected; call connect() first.")
        return {ACTION: self._script.next().astype(np.float32)}


def _vector_features(cameras: Mapping[str, tuple[int, int, int]]) -> dict[str, dict[str, Any]]:
    joints: dict[str, Any] = dict.fromkeys(JOINT_NAMES, float)
    return dataset_features({**joints, **cameras}, joints)


def _check_common(seed: int, fps: int) -> None:
    if not is_whole(seed, 0):
        raise ConfigError(f"seed must be an integer of 0 or more, not {seed!r}.", option="seed")
    check_number("fps", fps, above=0)


def _action_vector(action: Mapping[str, Any]) -> NDArray[np.float64]:
    value = action[ACTION] if ACTION in action else [action.get(name) for name in JOINT_NAMES]
    try:
        vector = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FrameError(f"The action is not six numbers ({', '.join(JOINT_NAMES)}).", key=ACTION) from error
    if vector.shape != (6,) or not np.isfinite(vector).all():
        raise FrameError(f"The action must be six finite numbers, got {value!r}.", key=ACTION)
    return vector


def _heading(pose: ArmPose) -> float:
    """Direction of the jaws seen from above, degrees."""
    return float(np.degrees(np.arctan2(pose.lateral[1], pose.lateral[0])))
