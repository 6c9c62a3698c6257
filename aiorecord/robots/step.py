"""One step of teleoperation: observe, get an action, send it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .protocols import Robot, Teleoperator
from .schema import build_frame


async def control_step(
    robot: Robot, teleop: Teleoperator, features: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """One step of teleoperation: observe, ask the teleoperator, act.

    Args:
        robot: connected.
        teleop: connected.
        features: of the dataset, such as `Recorder.features`.

    Returns:
        The frame: the observation, and the teleoperator's action (what lerobot records by default).
    """
    observation = await robot.get_observation()
    action = await teleop.get_action()
    await robot.send_action(action)
    return build_frame(features, observation, action)
