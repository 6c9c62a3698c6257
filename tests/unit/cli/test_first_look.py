"""What a command does not do before it does its work."""

import inspect

from draccus.wrappers import docstring

from aiorecord.cli import devices, parse_flags
from aiorecord.cli.commands import record
from aiorecord.robots import SimRobot

ARGUMENTS = [
    "--robot.type=sim",
    "--teleop.type=sim",
    "--dataset.repo_id=me/x",
    "--dataset.single_task=t",
]


def parsed():
    return parse_flags.parse_flags(record.RecordFlags, ARGUMENTS, prog="aiorecord record", examples="")


def test_no_source_is_parsed_for_help_that_nobody_asked_for(monkeypatch):
    docstring._get_class_source.cache_clear()
    read = []
    getsource = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda thing: read.append(thing) or getsource(thing))
    assert parsed().dataset.repo_id == "me/x"
    assert read == []


def test_help_still_has_the_comments_after_a_command_was_parsed(capsys):
    parsed()
    assert (
        parse_flags.parse_flags(record.RecordFlags, ["--help-all"], prog="aiorecord record", examples="") == 0
    )
    assert "Report calls of a lerobot driver" in capsys.readouterr().out


def test_the_scene_is_begun_with_the_devices(monkeypatch):
    begun = []

    def prepare(robot):
        begun.append(robot)

    monkeypatch.setattr(SimRobot, "prepare", prepare)
    chosen = parsed()
    made = devices.CommandDevices(chosen.robot, chosen.teleop)
    assert begun == [made.robot]
