"""lerobot's own config classes, and its own script, take text letter by letter."""

from pathlib import Path

import pytest

from aiorecord.cli.devices import parse_device_flags
from aiorecord.cli.record_config import RecordFlags
from aiorecord.flags.flag_values import letter_by_letter

pytestmark = pytest.mark.lerobot
TEXT = "arm: #1 [yes]"


def test_lerobots_devices():
    flags = parse_device_flags(
        RecordFlags,
        [
            "--robot.type=so101_follower",
            "--robot.port=/dev/tty #1",
            "--robot.id=yes",
            f"--robot.calibration_dir={TEXT}",
            "--robot.cameras={yes: {type: opencv, index_or_path: /dev/video9, width: 9, height: 8, fps: 30}}",
            "--teleop.type=so101_leader",
            "--teleop.port=null",
            "--teleop.id=1.0",
            f"--dataset.single_task={TEXT}",
        ],
        prog="record",
        examples="",
    )
    assert (flags.robot.port, flags.robot.id) == ("/dev/tty #1", "yes")
    assert flags.robot.calibration_dir == Path(TEXT)
    assert list(flags.robot.cameras) == ["yes"]
    assert (flags.teleop.port, flags.teleop.id) == ("null", "1.0")
    assert flags.dataset.single_task == TEXT


def test_lerobots_own_script():
    import draccus
    from lerobot.scripts.lerobot_record import RecordConfig

    arguments = [
        "--robot.type=so101_follower",
        "--robot.port=yes",
        "--teleop.type=so101_leader",
        "--teleop.port=x",
        "--dataset.repo_id=me/x",
        f"--dataset.single_task={TEXT}",
        f"--dataset.root={TEXT}",
    ]
    with letter_by_letter():
        config = draccus.parse(RecordConfig, args=arguments)
    assert (config.robot.port, config.dataset.single_task) == ("yes", TEXT)
    assert Path(config.dataset.root) == Path(TEXT)
