"""Flags are read by the type of their field: text letter by letter, the rest as YAML, nothing twice."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aiorecord.cli.commands.push import _names
from aiorecord.cli.commands.replay import ReplayFlags
from aiorecord.cli.commands.teleoperate import TeleoperateFlags
from aiorecord.cli.devices import parse_device_flags
from aiorecord.cli.record_config import RecordFlags

TEXTS = [
    "Pick up cube #3 and stop # now",
    "Stack: red on blue",
    "yes",
    "no",
    "null",
    "~",
    "1.0",
    "0x10",
    "2024-01-01",
    " leading and trailing ",
    "",
    "'quoted'",
    '"quoted"',
    "[a, b]",
    "{a: b}",
    "include the cube",
    "!tag x",
    "*star &and",
    "- item",
    "|",
    "line\nbreak\tand tab",
    "🤖 \N{ZERO WIDTH JOINER}",
    "@at `tick` %percent",
]
DEVICES = ["--robot.type=sim", "--teleop.type=sim"]


def record(*flags, devices=DEVICES):
    return parse_device_flags(RecordFlags, [*devices, *flags], prog="record", examples="")


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_taken_letter_by_letter(text):
    flags = record(
        f"--dataset.single_task={text}",
        f"--dataset.root={text}",
        f"--dataset.repo_id={text}",
        f"--report={text}",
        "--dataset.fps=15",
    )
    dataset = flags.dataset
    assert (dataset.single_task, dataset.root, dataset.repo_id, flags.report) == (text,) * 4
    assert dataset.fps == 15


@pytest.mark.parametrize("text", [text for text in TEXTS if text and text.isprintable()])
def test_text_in_nested_flags_too(text, capsys):
    assert record(f"--dataset.rgb_encoder.pix_fmt={text}") == 2
    assert repr(text)[:40] in capsys.readouterr().err


def test_text_in_other_commands():
    replay = parse_device_flags(
        ReplayFlags,
        ["--robot.type=sim", "--dataset.repo_id=yes", "--dataset.episode=0", "--dataset.root=/data/run #3"],
        prog="replay",
        examples="",
        fields=("robot",),
    )
    assert (replay.dataset.repo_id, replay.dataset.root) == ("yes", "/data/run #3")
    moved = parse_device_flags(
        TeleoperateFlags, [*DEVICES, "--display_ip=1.0"], prog="teleoperate", examples=""
    )
    assert moved.display_ip == "1.0"


def test_the_words_in_lists_and_dicts_are_those_that_were_written():
    flags = record("--dataset.tags=[yes, 1.0, ~, 'a # b']", "--max_hold_s_of={yes: 3, 1: 2}")
    assert flags.dataset.tags == ["yes", "1.0", "~", "a # b"]
    assert flags.max_hold_s_of == {"yes": 3.0, "1": 2.0}
    assert _names("[yes, 1.0]") == ["yes", "1.0"]
    assert _names("so101: #1") == ["so101: #1"]


def test_groups_of_a_choice():
    devices = [
        "--robot={type: replay, videos: {on: yes.mp4, 1: 1.0}}",
        "--teleop.type=replay",
        "--dataset.fps=30",
    ]
    assert record(devices=devices).robot.videos == {"on": "yes.mp4", "1": "1.0"}


FRONT = "{width: 64, height: 48}"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([f"--robot.cameras={{front: {FRONT}, front: {FRONT}}}"], "front"),
        ([f"--robot.cameras={{front: {FRONT}}}", f"--robot.cameras={{back: {FRONT}}}"], "robot.cameras"),
        ([f"--robot={{cameras: {{front: {FRONT}}}}}", f"--robot.cameras={{back: {FRONT}}}"], "robot.cameras"),
        (["--robot.cameras={front: {width: 64, width: 32, height: 48}}"], "width"),
        (["--dataset.tags=[a]", "--dataset.tags", "[b]"], "tags"),
    ],
)
def test_what_is_named_twice_is_refused(flags, named, capsys):
    assert record(*flags) == 2
    assert named in capsys.readouterr().err


def test_of_a_plain_value_the_last_one_counts():
    flags = record(
        "--dataset.single_task=a", "--dataset.fps=15", "--dataset.single_task=b", "--dataset.fps=20"
    )
    assert (flags.dataset.single_task, flags.dataset.fps) == ("b", 20)


def test_config_files(tmp_path, capsys):
    path = tmp_path / "record: #1.yaml"
    path.write_text(
        "robot: {type: sim, cameras: {front: {width: 64, height: 48}}}\nteleop: {type: sim}\n"
        "dataset: {single_task: yes, root: 1.0, repo_id: me/x, private: yes, fps: 15}\nreport: null\n"
    )
    flags = record(f"--config_path={path}", devices=[])
    dataset = flags.dataset
    assert (dataset.single_task, dataset.root, dataset.private, dataset.fps) == ("yes", "1.0", True, 15)
    assert flags.report is None
    assert list(flags.robot.cameras) == ["front"]

    for text, suffix in (("dataset: {fps: 1}\ndataset: {fps: 2}", "yaml"), ('{"fps": 1, "fps": 2}', "json")):
        twice = tmp_path / f"twice.{suffix}"
        twice.write_text(text)
        assert record(f"--config_path={twice}") == 2
        assert "twice" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{front: ", "[" * 2000, "- a\nb: c", "{a: !!python/object:os.system x}"])
def test_what_is_no_yaml_is_one_line(text, capsys):
    assert record(f"--robot.cameras={text}") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Try ")


@dataclass
class Mixed:
    """Fields of every kind."""

    path: Path = Path(".")
    maybe: Path | None = None
    port: int | str = 0
    index: int | Path = 0
    words: list[str] = field(default_factory=list)


def test_paths_and_unions():
    from aiorecord.cli.parse_flags import parse_flags

    flags = parse_flags(
        Mixed,
        ["--path=a #b", "--maybe=null", "--port=/dev/tty: #1", "--index=/dev/video #2", "--words=[on]"],
        prog="mixed",
        examples="",
    )
    assert flags == Mixed(Path("a #b"), Path("null"), "/dev/tty: #1", Path("/dev/video #2"), ["on"])
    assert parse_flags(Mixed, ["--port=7", "--index=2"], prog="mixed", examples="") == Mixed(port=7, index=2)
