"""The devices of aiorecord that the command line knows by name."""

from __future__ import annotations

from typing import Any

from .replay.replay_robot import ReplayRobot, ReplayRobotConfig, ReplayTeleopConfig, ReplayTeleoperator
from .sim.sim_robot import SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator

ROBOTS: dict[str, tuple[type[Any], type[Any]]] = {
    "sim": (SimRobotConfig, SimRobot),
    "replay": (ReplayRobotConfig, ReplayRobot),
}
"""Robots by the name that the command line uses: configuration class and robot class."""

TELEOPERATORS: dict[str, tuple[type[Any], type[Any]]] = {
    "sim": (SimTeleopConfig, SimTeleoperator),
    "replay": (ReplayTeleopConfig, ReplayTeleoperator),
}
"""Teleoperators, likewise."""
