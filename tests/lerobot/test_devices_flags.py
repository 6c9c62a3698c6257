"""lerobot's types and flags on aiorecord's command lines."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("lerobot")
pytestmark = pytest.mark.lerobot
BENCH = Path(__file__).parent / "bench"
sys.path.insert(0, str(BENCH))

from lerobot.robots import RobotConfig  # noqa: E402
from lerobot.teleoperators import TeleoperatorConfig  # noqa: E402

from aiorecord import ConfigError  # noqa: E402
from aiorecord.cli import main  # noqa: E402
from aiorecord.cli.commands.replay import ReplayFlags  # noqa: E402
from aiorecord.cli.commands.teleoperate import TeleoperateFlags  # noqa: E402
from aiorecord.cli.devices import parse_device_flags  # noqa: E402
from aiorecord.cli.record_config import RecordFlags, RobotChoice, TeleopChoice  # noqa: E402
from aiorecord.lerobot.drivers import device_flags as lerobot_flags  # noqa: E402

KINDS = {"record": RecordFlags, "teleoperate": TeleoperateFlags, "replay": ReplayFlags}
REGISTRIES = {"robot": RobotChoice, "teleop": TeleopChoice}


def documented():
    """The command lines in lerobot's own scripts that lerobot's parser takes."""
    for command in KINDS:
        script = importlib.import_module(f"lerobot.scripts.lerobot_{command}")
        for number, block in enumerate(script.__doc__.split("```shell")[1:]):
            line = block.split("```")[0].replace("\\\n", " ").replace("${HF_USER}", "me")
            line = line.replace("<my_username>/<my_dataset_name>", "me/set").replace("<USER>", "me")
            # Unquoted, a shell would take the braces apart; and two flags are of an older lerobot.
            line = line.replace('{"tune": "film", "profile:v": "high", "bf": 2}', "'{tune: film, bf: 2}'")
            if "left_arm_port" not in line:
                yield pytest.param(command, shlex.split(line)[1:], id=f"{command}-{number}")


@pytest.mark.parametrize(("command", "argv"), list(documented()))
def test_lerobots_documented_command_lines_are_read(capsys, command, argv):
    fields = ("robot",) if command == "replay" else ("robot", "teleop")
    parsed = parse_device_flags(KINDS[command], argv, prog="x", examples="", fields=fields)
    assert not isinstance(parsed, int), capsys.readouterr().err
    asked = lerobot_flags.asked_types(argv, fields)
    assert type(parsed.robot) is RobotConfig.get_choice_class(asked["robot"])
    assert parsed.robot.id
    if command != "replay":
        assert type(parsed.teleop) is TeleoperatorConfig.get_choice_class(asked["teleop"])
    for flag in argv:
        name, _, value = flag.removeprefix("--").partition("=")
        if name.endswith((".port", ".id", "single_task")):
            owner = parsed
            for part in name.split("."):
                owner = getattr(owner, part)
            assert owner == value


def test_every_type_of_lerobot_can_be_chosen():
    choices = lerobot_flags.load_choices()
    assert {"so100_follower", "so101_follower", "lekiwi_client", "bench_arm"} <= choices.types["robot"].keys()
    assert {"so101_leader", "keyboard", "gamepad", "phone", "bench_hand"} <= choices.types["teleop"].keys()
    assert {"opencv", "intelrealsense", "zmq"} <= choices.types["camera"].keys()
    assert choices.failed == {}


@pytest.mark.parametrize("command", KINDS)
def test_help_lists_them(capsys, command):
    assert main([command, "--help-all"]) == 0
    out = capsys.readouterr().out
    assert "so101_follower" in out
    assert ("so101_leader" in out) == (command != "replay")
    assert "examples:" in out


def test_help_on_a_type_has_its_flags(capsys):
    assert main(["record", "--robot.type=koch_follower", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--robot.port" in out
    assert "--robot.max_relative_target" in out


def test_a_package_that_is_named(capsys):
    argv = ["--robot.discover_packages_path=bench_extra", "--robot.type=bench_extra_arm", "--teleop.type=sim"]
    flags = parse_device_flags(TeleoperateFlags, argv, prog="x", examples="")
    assert not isinstance(flags, int), capsys.readouterr().err
    assert flags.robot.type == "bench_extra_arm"
    argv[0:1] = ["--robot.discover_packages_path", "bench_extra"]
    assert not isinstance(parse_device_flags(TeleoperateFlags, argv, prog="x", examples=""), int)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--robot.type=so101_folower"], "There is no robot 'so101_folower'. Choose from: .*so101_follower"),
        (["--robot.type=so101_follower", "--teleop.type=sim2"], "There is no teleoperator 'sim2'"),
        (["--robot.type=so101_follower"], "port"),
        (["--robot.type=so101_follower", "--robot.port=/dev/x", "--robot.speed=3"], "--robot.speed"),
        (
            [
                "--robot.type=so101_follower",
                "--robot.port=x",
                "--robot.cameras={a: {type: opencv, index_or_path: 0}}",
            ],
            "Specifying 'width' is required",
        ),
        (["--robot.type=so101_follower", "--robot.port=x", "--robot.cameras={a: {type: tube}}"], "tube"),
        (["--robot.discover_packages_path=no_such_package"], "no_such_package"),
        (["--robot.discover_packages_path="], "discover_packages_path"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(capsys, flags, message):
    assert main(["teleoperate", "--teleop.type=sim", *flags]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(message, err, re.DOTALL), err


def test_a_plugin_that_cannot_be_imported_does_not_take_the_others_with_it(tmp_path, monkeypatch, caplog):
    (tmp_path / "lerobot_robot_broken.py").write_text("raise RuntimeError('half installed')")
    folder = tmp_path / "lerobot_robot_broken-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lerobot_robot_broken\nVersion: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    lerobot_flags.load_choices.cache_clear()
    assert "so101_follower" in lerobot_flags.load_choices().types["robot"]
    assert "lerobot_robot_broken" in caplog.text


def test_a_device_package_without_its_sdk_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lerobot.robots.reachy2", None)  # importing it fails
    lerobot_flags.load_choices.cache_clear()
    try:
        assert lerobot_flags.load_choices().failed.keys() == {"lerobot.robots.reachy2"}
        with pytest.raises(ConfigError) as raised:
            lerobot_flags.prepare(["--robot.type=nothing"], REGISTRIES)
        assert raised.value.__notes__[0].startswith("lerobot.robots.reachy2 could not be imported: ")
    finally:
        lerobot_flags.load_choices.cache_clear()


def test_aiorecords_own_types_stay_without_lerobot(monkeypatch):
    monkeypatch.setattr(lerobot_flags, "load_choices", None)  # calling it would fail
    argv = ["--robot.type=sim", "--teleop.type=replay"]
    assert lerobot_flags.prepare(argv, REGISTRIES) == argv
