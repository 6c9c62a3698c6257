"""Robots and teleoperators: the interfaces they must implement, and those that come with aiorecord.

Names are imported when they are first used: the protocols, guards and wrappers without numpy, libav and
Arrow, which the simulated and the replayed devices need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system.lazy_names import lazy_names

if TYPE_CHECKING:
    from .blocking.threaded import ThreadedRobot, ThreadedTeleoperator
    from .faults import Fault, FaultyRobot, FaultyTeleoperator
    from .guarding.call_times import CallTiming, SlowCall
    from .guarding.guard import GuardedRobot, GuardedTeleoperator
    from .guarding.guard_pair import guarded
    from .guarding.source_policy import SourcePolicy, SourceStatus
    from .own_devices import ROBOTS, TELEOPERATORS
    from .protocols import BlockingRobot, BlockingTeleoperator, Features, Robot, Teleoperator, Values
    from .replay.replay_robot import ReplayRobot, ReplayRobotConfig, ReplayTeleopConfig, ReplayTeleoperator
    from .schema import build_frame, dataset_features
    from .sim.sim_robot import CameraSpec, SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "own_devices": "ROBOTS TELEOPERATORS",
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
        },
    )

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
