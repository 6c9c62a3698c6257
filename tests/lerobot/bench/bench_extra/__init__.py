"""A package that is no plugin by its name; ``--robot.discover_packages_path=bench_extra`` finds it."""

from dataclasses import dataclass

from lerobot.robots import RobotConfig
from lerobot_robot_bench import BenchArm, BenchArmConfig


@RobotConfig.register_subclass("bench_extra_arm")
@dataclass
class ExtraArmConfig(BenchArmConfig):
    pass


class ExtraArm(BenchArm):
    config_class = ExtraArmConfig
    name = "bench_extra_arm"
