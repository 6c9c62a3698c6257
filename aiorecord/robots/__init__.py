"""Robots and teleoperators: the interfaces they must implement, and those that come with aiorecord.

Names are imported when they are first used: the protocols, guards and wrappers without numpy, libav and
Arrow, which the simulated and the replayed devices need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "protocols": "BlockingRobot BlockingTeleoperator Features Robot Teleoperator Values",
    "guarding.call_times": "CallTiming SlowCall",
    "faults": "Fault FaultyRobot FaultyTeleoperator",
    "guarding.guard": "GuardedRobot GuardedTeleoperator",
    "guarding.guard_pair": "guarded",
    "guarding.source_policy": "SourcePolicy SourceStatus",
    "replay.replay_robot": "ReplayRobot ReplayRobotConfig ReplayTeleopConfig ReplayTeleoperator",
    "schema": "build_frame dataset_features",
    "sim.sim_robot": "CameraSpec SimRobot SimRobotConfig SimTeleopConfig SimTeleoperator",
    "blocking.threaded": "ThreadedRobot ThreadedTeleoperator",
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names.split()}

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

ROBOTS: dict[str, tuple[type[Any], type[Any]]]
"""Robots by the name that the command line uses: configuration class and robot class."""

TELEOPERATORS: dict[str, tuple[type[Any], type[Any]]]
"""Teleoperators, likewise."""


def _named(kind: str) -> dict[str, tuple[type[Any], type[Any]]]:
    """The devices that the command line knows by name."""
    from .replay import replay_robot
    from .sim import sim_robot

    if kind == "ROBOTS":
        return {
            "sim": (sim_robot.SimRobotConfig, sim_robot.SimRobot),
            "replay": (replay_robot.ReplayRobotConfig, replay_robot.ReplayRobot),
        }
    return {
        "sim": (sim_robot.SimTeleopConfig, sim_robot.SimTeleoperator),
        "replay": (replay_robot.ReplayTeleopConfig, replay_robot.ReplayTeleoperator),
    }


def __getattr__(name: str) -> Any:
    if name in ("ROBOTS", "TELEOPERATORS"):
        value: Any = _named(name)
    elif name in _WHERE:
        value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
