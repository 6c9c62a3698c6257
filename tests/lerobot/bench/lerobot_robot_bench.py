"""A third-party plugin of lerobot, made as its mock robot is: a `Robot` and a `Teleoperator` of one's own.

They can be told to fail or to be slow in a method. With `BENCH_HARDWARE` in the environment the fake serial
ports and cameras are put in place too.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from lerobot.cameras import CameraConfig, make_cameras_from_configs
from lerobot.robots import Robot, RobotConfig
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected

if os.environ.get("BENCH_HARDWARE"):
    import bench_hardware

    bench_hardware.install()

CALLS: list[tuple[str, str]] = []
"""Every call of a device with the thread it came in: ``("robot.connect", "aiorecord-robot-...")``."""
HOOKS: dict[str, object] = {}
"""Called in a method, by its name in `CALLS`, with the number of that call from 1."""

JOINTS = ("pan.pos", "lift.pos", "grip.pos")


class Faulty:
    """Notes calls, and fails or dawdles where the configuration says so."""

    kind = ""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.config = config
        self.counts: dict[str, int] = {}
        self._connected = False

    def did(self, method: str) -> None:
        name = f"{self.kind}.{method}"
        CALLS.append((name, threading.current_thread().name))
        self.counts[method] = count = self.counts.get(method, 0) + 1
        if os.environ.get("BENCH_CALLS"):
            with open(os.environ["BENCH_CALLS"], "a") as file:
                file.write(f"{name} {threading.current_thread().name}\n")
        if (hook := HOOKS.get(name)) is not None:
            hook(count)
        if self.config.slow_in == method and count == self.config.at:
            time.sleep(self.config.slow_s)  # a driver that blocks
        if self.config.fail_in == method and count >= self.config.at:
            raise OSError(f"no answer in {method}")

    @property
    def is_connected(self) -> bool:
        return self._connected

    @property
    def is_calibrated(self) -> bool:
        return self.counts.get("calibrate", 0) > 0 or not self.config.ask

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        self._connected = self.config.fail_in != "connect"
        self.did("connect")
        if calibrate and not self.is_calibrated:
            self.calibrate()

    def calibrate(self) -> None:
        self.did("calibrate")
        self.answer = input(f"calibrate the {self.kind}? ")

    def configure(self) -> None:
        self.did("configure")

    @check_if_not_connected
    def disconnect(self) -> None:
        self.did("disconnect")
        self._connected = False


@RobotConfig.register_subclass("bench_arm")
@dataclass
class BenchArmConfig(RobotConfig):
    # Cameras, as for any robot.
    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    # The robot clips actions to this.
    limit: float = 50.0
    fail_in: str = ""
    slow_in: str = ""
    slow_s: float = 0.2
    at: int = 5
    ask: bool = False


class BenchArm(Faulty, Robot):
    config_class = BenchArmConfig
    name = "bench_arm"
    kind = "robot"

    def __init__(self, config: BenchArmConfig) -> None:
        super().__init__(config)
        self.cameras = make_cameras_from_configs(config.cameras)
        self.joints = dict.fromkeys(JOINTS, 0.0)

    @property
    def observation_features(self) -> dict:
        return {**dict.fromkeys(JOINTS, float), "eye": (48, 64, 3)}

    @property
    def action_features(self) -> dict:
        return dict.fromkeys(JOINTS, float)

    @check_if_not_connected
    def get_observation(self) -> dict:
        self.did("get_observation")
        eye = np.full((48, 64, 3), self.counts["get_observation"] % 256, np.uint8)
        return {**self.joints, "eye": eye}

    @check_if_not_connected
    def send_action(self, action: dict) -> dict:
        self.did("send_action")
        limit = self.config.limit
        self.joints = {name: float(np.clip(action[name], -limit, limit)) for name in JOINTS}
        return dict(self.joints)


@TeleoperatorConfig.register_subclass("bench_hand")
@dataclass
class BenchHandConfig(TeleoperatorConfig):
    fail_in: str = ""
    slow_in: str = ""
    slow_s: float = 0.2
    at: int = 5
    ask: bool = False


class BenchHand(Faulty, Teleoperator):
    config_class = BenchHandConfig
    name = "bench_hand"
    kind = "teleop"

    def __init__(self, config: BenchHandConfig) -> None:
        super().__init__(config)
        self.feedback: list[dict] = []

    @property
    def action_features(self) -> dict:
        return dict.fromkeys(JOINTS, float)

    @property
    def feedback_features(self) -> dict:
        return {}

    @check_if_not_connected
    def get_action(self) -> dict:
        self.did("get_action")
        count = float(self.counts["get_action"])
        return {"pan.pos": count, "lift.pos": 10 * count, "grip.pos": -count}

    @check_if_not_connected
    def send_feedback(self, feedback: dict) -> None:
        self.did("send_feedback")
        self.feedback.append(feedback)
