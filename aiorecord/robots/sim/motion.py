"""The simulated operator: an endless, seeded script of picking and placing a cube. Pure.

Cycles alternate: the cube is brought from somewhere on the mat into the circle, then from the circle to
somewhere else, so the script never needs the scene to be reset. Speeds, pauses, approach angles and a slight
tremor differ from cycle to cycle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .arm import CUBE_CONTACT, CUBE_SIDE, HOME, LOWER, UPPER, inverse_kinematics

type Vector = NDArray[np.float64]

GOAL = (0.20, 0.125)
"""Centre of the circle on the mat, metres."""

TREMOR_DEG = 0.12
_TREMOR_HZ = (0.45, 1.1, 2.3)


def cube_poses(seed: int) -> Iterator[tuple[float, float, float]]:
    """The position of the cube before cycle 0, 1, 2, ...: x and y in metres, yaw in degrees."""
    rng = np.random.default_rng([seed, 1])
    while True:
        distance, bearing = rng.uniform(0.175, 0.275), math.radians(rng.uniform(-42.0, 6.0))
        yield distance * math.cos(bearing), distance * math.sin(bearing), float(rng.uniform(-40.0, 40.0))
        offset = rng.normal(0.0, 0.004, 2)
        yield GOAL[0] + float(offset[0]), GOAL[1] + float(offset[1]), float(rng.uniform(-30.0, 30.0))


class PickAndPlace:
    """The script. Time is counted in steps, not by a clock.

    Args:
        seed: of all random values; the cube's positions are those of `cube_poses` with the same seed.
        fps: steps per second.
    """

    def __init__(self, seed: int, fps: float) -> None:
        self._rng = np.random.default_rng([seed, 2])
        self._poses = cube_poses(seed)
        self._cube = next(self._poses)
        self._moves = self._script()
        self._period_s = 1.0 / fps
        self._step = 0
        self._from = self._to = HOME
        self._start_s, self._length_s = 0.0, 0.3
        self._phases = self._rng.uniform(0.0, 2 * math.pi, (len(_TREMOR_HZ), 6))

    def next(self) -> Vector:
        """The six joint values of the next step, within the joint limits."""
        time_s = self._step * self._period_s
        self._step += 1
        while time_s >= self._start_s + self._length_s:
            self._start_s += self._length_s
            self._from, (self._to, self._length_s) = self._to, next(self._moves)
        t = (time_s - self._start_s) / self._length_s
        # Minimum jerk (Flash & Hogan 1985): hands, and so teleoperated arms, move like this.
        joints = self._from + (self._to - self._from) * (t**3 * (10.0 - 15.0 * t + 6.0 * t * t))
        for hz, phase in zip(_TREMOR_HZ, self._phases, strict=True):
            joints = joints + TREMOR_DEG * np.sin(2 * math.pi * hz * time_s + phase)
        clipped: Vector = np.clip(joints, LOWER, UPPER)
        return clipped

    def _script(self) -> Iterator[tuple[Vector, float]]:
        """Targets in joint space and the seconds to reach each."""
        rng = self._rng
        while True:
            (x0, y0, yaw0), (x1, y1, yaw1) = self._cube, next(self._poses)
            self._cube = (x1, y1, yaw1)
            pace = float(rng.uniform(0.8, 1.25))
            opened, closed = float(rng.uniform(70.0, 90.0)), CUBE_CONTACT - float(rng.uniform(10.0, 16.0))
            pitch = float(rng.uniform(-84.0, -70.0))
            roll0, roll1 = _roll(x0, y0, yaw0), _roll(x1, y1, yaw1)
            low, high = CUBE_SIDE / 2 + 0.004, CUBE_SIDE / 2 + float(rng.uniform(0.06, 0.10))

            def pose(
                x: float, y: float, z: float, roll: float, gripper: float, pitch: float = pitch
            ) -> Vector:
                return inverse_kinematics(x, y, z, pitch=pitch, roll=roll, gripper=gripper)

            half = (x0 + x1) / 2, (y0 + y1) / 2
            yield pose(x0, y0, high, roll0, opened), 1.3 * pace
            yield pose(x0, y0, low, roll0, opened), 0.7 * pace
            yield pose(x0, y0, low, roll0, closed), 0.5 * pace
            yield pose(x0, y0, high, roll0, closed), 0.6 * pace
            yield pose(*half, high + 0.03, (roll0 + roll1) / 2, closed), 0.7 * pace
            yield pose(x1, y1, high, roll1, closed), 0.8 * pace
            yield pose(x1, y1, low, roll1, closed), 0.7 * pace
            yield pose(x1, y1, low, roll1, opened), 0.45 * pace
            yield pose(x1, y1, high, roll1, opened), 0.55 * pace
            yield HOME + rng.normal(0.0, 1.0, 6) * (1, 1, 1, 1, 1, 0), 1.1 * pace
            yield HOME, float(rng.uniform(0.2, 0.6))


def _roll(x: float, y: float, yaw: float) -> float:
    """Wrist roll that sets the jaws on two faces of a cube turned by `yaw`, seen from above."""
    bearing = math.degrees(math.atan2(y, x))
    return (bearing - yaw + 45.0) % 90.0 - 45.0
