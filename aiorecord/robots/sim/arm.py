"""The simulated arm: six joints, forward and inverse kinematics. Pure.

World frame in metres: the base stands at the origin on the table (z = 0), x points away from the base over
the table, z up. Joint values are those of an SO-101: degrees, and 0 (closed) to 100 (open) for the gripper.
All joints at 0: upper arm upright, forearm and gripper level, pointing along x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type Vector = NDArray[np.float64]

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
JOINT_NAMES = [f"{joint}.pos" for joint in JOINTS]
LOWER = np.array([-110.0, -100.0, -100.0, -100.0, -160.0, 0.0])
UPPER = np.array([110.0, 100.0, 100.0, 100.0, 160.0, 100.0])

SHOULDER_HEIGHT = 0.115
UPPER_ARM = 0.15
FOREARM = 0.145
GRASP_POINT = 0.095  # from the wrist, between the jaws
OPENING_PER_UNIT = 0.0007  # metres between the jaws per unit of the gripper

CUBE_SIDE = 0.034
CUBE_CONTACT = CUBE_SIDE / OPENING_PER_UNIT
"""Gripper value at which the jaws touch the cube."""

HOME = np.array([0.0, -32.0, 22.0, 62.0, 0.0, 12.0])


@dataclass(slots=True)
class ArmPose:
    """Where the arm's parts are, in world coordinates (metres, unit vectors).

    Attributes:
        shoulder: the shoulder joint.
        elbow: the elbow joint.
        wrist: the wrist joint.
        tip: the point between the jaws.
        axis: direction of the axes of shoulder, elbow and wrist flexion.
        forward: direction in which the gripper points.
        lateral: direction in which the jaws open.
        up: the gripper's own up, perpendicular to both.
        opening: metres between the jaws.
    """

    shoulder: Vector
    elbow: Vector
    wrist: Vector
    tip: Vector
    axis: Vector
    forward: Vector
    lateral: Vector
    up: Vector
    opening: float


def forward_kinematics(joints: Vector) -> ArmPose:
    """The pose for six joint values."""
    pan, lift, flex, wrist_flex, roll = (math.radians(value) for value in joints[:5])
    radial = np.array([math.cos(pan), math.sin(pan), 0.0])
    axis = np.array([-math.sin(pan), math.cos(pan), 0.0])
    up = np.array([0.0, 0.0, 1.0])

    def direction(elevation: float) -> Vector:
        return math.cos(elevation) * radial + math.sin(elevation) * up

    upper = math.pi / 2 - lift
    fore = upper - math.pi / 2 - flex
    hand = fore - wrist_flex
    shoulder = np.array([0.0, 0.0, SHOULDER_HEIGHT])
    elbow = shoulder + UPPER_ARM * direction(upper)
    wrist = elbow + FOREARM * direction(fore)
    forward, hand_up = direction(hand), direction(hand + math.pi / 2)
    lateral = math.cos(roll) * axis + math.sin(roll) * hand_up
    gripper_up = math.cos(roll) * hand_up - math.sin(roll) * axis
    return ArmPose(
        shoulder=shoulder,
        elbow=elbow,
        wrist=wrist,
        tip=wrist + GRASP_POINT * forward,
        axis=axis,
        forward=forward,
        lateral=lateral,
        up=gripper_up,
        opening=float(joints[5]) * OPENING_PER_UNIT,
    )


def inverse_kinematics(
    x: float, y: float, z: float, *, pitch: float, roll: float = 0.0, gripper: float = 0.0
) -> Vector:
    """Joint values that bring the point between the jaws to (x, y, z), elbow up.

    Args:
        x: metres.
        y: metres.
        z: metres.
        pitch: elevation of the gripper in degrees; -90 points straight down.
        roll: wrist roll in degrees.
        gripper: 0 to 100.

    Returns:
        Six joint values within the limits; for a point out of reach the nearest pose along its direction.
    """
    hand = math.radians(pitch)
    across = math.hypot(x, y) - GRASP_POINT * math.cos(hand)
    height = z - GRASP_POINT * math.sin(hand) - SHOULDER_HEIGHT
    distance = min(
        max(math.hypot(across, height), abs(UPPER_ARM - FOREARM) + 1e-6), UPPER_ARM + FOREARM - 1e-6
    )
    cosine = (UPPER_ARM**2 + distance**2 - FOREARM**2) / (2 * UPPER_ARM * distance)
    bearing = math.atan2(height, across)
    upper = bearing + math.acos(min(1.0, max(-1.0, cosine)))
    fore = math.atan2(
        distance * math.sin(bearing) - UPPER_ARM * math.sin(upper),
        distance * math.cos(bearing) - UPPER_ARM * math.cos(upper),
    )
    joints = [
        math.degrees(math.atan2(y, x)),
        90.0 - math.degrees(upper),
        math.degrees(upper - fore) - 90.0,
        math.degrees(fore) - pitch,
        roll,
        gripper,
    ]
    return np.clip(np.array(joints), LOWER, UPPER)
