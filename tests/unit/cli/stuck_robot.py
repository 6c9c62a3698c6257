"""`aiorecord`, with one more robot: a blocking driver that gets stuck in a call and never returns."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import Any

from aiorecord.cli import main
from aiorecord.cli.record_config import RobotChoice
from aiorecord.robots import ROBOTS, ThreadedRobot
from aiorecord.robots.blocking import device_thread, threaded

threaded.STUCK_S = device_thread.EXIT_WAIT_S = 0.2  # else 10 seconds each


@dataclass
class StuckConfig:
    """Where it gets stuck."""

    at: int = 10
    fps: int = 30


class Stuck:
    """The driver."""

    name = "stuck"

    def __init__(self, config: StuckConfig) -> None:
        self.config = config
        self.step = 0
        self.is_connected = False
        self.observation_features = {"pan.pos": float, "lift.pos": float}
        self.action_features = dict.fromkeys("abcdef", float)

    def connect(self) -> None:
        self.is_connected = True

    def disconnect(self) -> None:
        self.is_connected = False

    def get_observation(self) -> Any:
        if self.step == self.config.at:
            threading.Event().wait()
        self.step += 1
        return {"pan.pos": 1.0, "lift.pos": float(self.step)}

    def send_action(self, action: Any, /) -> Any:
        return action


@RobotChoice.register_subclass("stuck")
@dataclass
class StuckChoice(StuckConfig, RobotChoice):
    """A robot that gets stuck."""


def make(config: StuckConfig) -> ThreadedRobot:
    return ThreadedRobot(Stuck(config))


ROBOTS["stuck"] = (StuckConfig, make)  # type: ignore[assignment]

if __name__ == "__main__":
    sys.exit(main())
