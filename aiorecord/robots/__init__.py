"""Robots and teleoperators: what one must offer, and those that come with aiorecord.

Names are imported when they are first used: the protocols, guards and wrappers without numpy, libav and
Arrow, which the simulated and the replayed devices need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import BlockingRobot, BlockingTeleoperator, Features, Robot, Teleoperator, Values
    from .call_times import CallTiming, SlowCall
    from .faults import Fault, FaultyRobot, FaultyTeleoperator
    from .guard import GuardedRobot, GuardedTeleoperator
    from .guards import guarded
    from .policy import SourcePolicy, SourceStatus
    from .replay import ReplayRobot, ReplayRobotConfig, ReplayTeleopConfig, ReplayTeleoperator
    from .schema import build_frame, dataset_features
    from .sim import CameraSpec, SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator
    from .threaded import ThreadedRobot, ThreadedTeleoperator

_HOMES = {
    "base": "BlockingRobot BlockingTeleoperator Features Robot Teleoperator Values",
    "call_times": "CallTiming SlowCall",
    "faults": "Fault FaultyRobot FaultyTeleoperator",
    "guard": "GuardedRobot GuardedTeleoperator",
    "guards": "guarded",
    "policy": "SourcePolicy SourceStatus",
    "replay": "ReplayRobot ReplayRobotConfig ReplayTeleopConfig ReplayTeleoperator",
    "schema": "build_frame dataset_features",
    "sim": "CameraSpec SimRobot SimRobotConfig SimTeleopConfig SimTeleoperator",
    "threaded": "ThreadedRobot ThreadedTeleoperator",
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
    from . import replay, sim

    if kind == "ROBOTS":
        return {
            "sim": (sim.SimRobotConfig, sim.SimRobot),
            "replay": (replay.ReplayRobotConfig, replay.ReplayRobot),
        }
    return {
        "sim": (sim.SimTeleopConfig, sim.SimTeleoperator),
        "replay": (replay.ReplayTeleopConfig, replay.ReplayTeleoperator),
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
