"""Robots and teleoperators: the interfaces they must implement, and those that come with aiorecord."""

from __future__ import annotations

from typing import Any

from .blocking.threaded import ThreadedRobot, ThreadedTeleoperator
from .faults import Fault, FaultyRobot, FaultyTeleoperator
from .guarding.call_times import CallTiming, SlowCall
from .guarding.guard import GuardedRobot, GuardedTeleoperator
from .guarding.guard_pair import guarded
from .guarding.source_policy import SourcePolicy, SourceStatus
from .protocols import BlockingRobot, BlockingTeleoperator, Features, Robot, Teleoperator, Values
from .replay.replay_robot import ReplayRobot, ReplayRobotConfig, ReplayTeleopConfig, ReplayTeleoperator
from .schema import build_frame, dataset_features
from .sim.sim_robot import CameraSpec, SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator

__all__ = [
    "ROBOTS",
    "TELEOPERATORS",
    "BlockingRobot",
    "BlockingTeleoperator",
    "CallTiming",
    "CameraSpec",
    "Fault",
    "FaultyRobot",
    "FaultyTeleoperator",
    "Features",
    "GuardedRobot",
    "GuardedTeleoperator",
    "ReplayRobot",
    "ReplayRobotConfig",
    "ReplayTeleopConfig",
    "ReplayTeleoperator",
    "Robot",
    "SimRobot",
    "SimRobotConfig",
    "SimTeleopConfig",
    "SimTeleoperator",
    "SlowCall",
    "SourcePolicy",
    "SourceStatus",
    "Teleoperator",
    "ThreadedRobot",
    "ThreadedTeleoperator",
    "Values",
    "build_frame",
    "dataset_features",
    "guarded",
]

ROBOTS: dict[str, tuple[type[Any], type[Any]]] = {
    "sim": (SimRobotConfig, SimRobot),
    "replay": (ReplayRobotConfig, ReplayRobot),
}
"""Robots by their name on the command line: configuration class and robot class."""

TELEOPERATORS: dict[str, tuple[type[Any], type[Any]]] = {
    "sim": (SimTeleopConfig, SimTeleoperator),
    "replay": (ReplayTeleopConfig, ReplayTeleoperator),
}
"""Teleoperators by their name on the command line, likewise."""
