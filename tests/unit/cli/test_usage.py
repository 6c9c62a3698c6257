"""What a command says to one who mistypes, leaves out or asks: in the words of its flags."""

import re

import pytest

from aiorecord.cli import COMMANDS, main
from aiorecord.cli.devices import parse_device_flags
from aiorecord.cli.record_config import RecordFlags
from aiorecord.flags.flag_names import nearest, spelled
from aiorecord.lerobot.drivers import device_flags

BASE = [
    *("--robot.type=sim", "--teleop.type=sim"),
    *("--dataset.repo_id=a/b", "--dataset.single_task=x"),
]


@pytest.fixture(autouse=True)
def without_lerobot(monkeypatch):
    """Where it is installed, the whole help would import it."""
    monkeypatch.setattr(device_flags, "is_installed", lambda: False)


OWN = [name for name in COMMANDS if not name.startswith("lerobot-")]


def parsed(*flags):
    return parse_device_flags(RecordFlags, [*BASE, *flags], prog="aiorecord record", examples="")


def refused(capsys, *argv):
    """What a command line that is wrong usage prints, without the line that names the help."""
    try:
        assert main(argv) == 2
    except SystemExit as end:
        assert end.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    for name in ("RecordFlags", "DatasetFlags", "Choice", "class", "_numbers"):
        assert name not in err
    return err


def test_hyphens_and_underscores_are_one_and_a_switch_needs_no_value():
    flags = parsed("--resume", "--display-data", "--dataset.async-saving", "false", "--dataset.private")
    assert (flags.resume, flags.display_data, flags.dataset.private) == (True, True, True)
    assert flags.dataset.async_saving is False
    assert parsed("--dataset.async-saving=false", "--max-hold-s=2").max_hold_s == 2


@pytest.mark.parametrize("task", ["--pick-up the cube", "--display-data", "a--b-c", "--not-a=flag at all"])
def test_text_stays_letter_by_letter(task):
    """Also a text that begins like a flag; what is a flag itself is only taken after ``=``."""
    assert parsed(f"--dataset.single_task={task}").dataset.single_task == task
    if " " in task:
        assert parsed("--dataset.single_task", task).dataset.single_task == task
    assert spelled(["--dataset.single-task", "--", "--a-b"], ["--dataset.single_task"])[2] == "--a-b"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["reccord"], "Did you mean record?"),
        (["record", *BASE, "--dataset.num_episode=3"], "Did you mean --dataset.num_episodes?"),
        (["record", *BASE, "--num-episodes=3"], "Did you mean --dataset.num_episodes?"),
        (["record", "--robot.typ=sim"], "Did you mean --robot.type?"),
        (["check", "x", "--fsat"], "Did you mean --fast?"),
        (["record", *BASE, "--robot.cameras={front: {widht: 3}}"], "Did you mean robot.cameras.front.width?"),
        (["record", *BASE, "--dataset.fps=abc"], "--dataset.fps takes a whole number, not 'abc'."),
        (["record", *BASE, "--display_port=x"], "--display_port takes a whole number, not 'x'."),
        (["record", *BASE, "--dataset.async-saving=maybe"], "takes true or false, not 'maybe'."),
        (["record", *BASE, "--dataset.root"], "--dataset.root needs a value"),
        (["record", *BASE, "sim"], "A value follows its flag"),
        (["bench", "--codecs=foo"], "Unknown video codec 'foo'"),
        (["bench", "--codecs=h264,libsvtva1"], "Did you mean libsvtav1?"),
        (["bench", "--codecs="], "takes codecs"),
        (["bench", "--cameras=0"], "a whole number from 1 on"),
        (["bench", "--sizes=big"], "640x480"),
        (["check"], "It needs ROOT."),
    ],
)
def test_what_is_mistyped_is_said_in_the_words_of_the_flags(capsys, argv, said):
    assert said in refused(capsys, *argv)


def test_a_bare_command_says_what_to_give(capsys):
    err = refused(capsys, "record")
    for flag in ("--robot.type=sim", "--teleop.type=sim", "--dataset.repo_id=", "--dataset.single_task="):
        assert f"\n  {flag}" in err
    assert "aiorecord record --robot.type=sim --teleop.type=sim" in err  # one that works
    err = refused(capsys, "record", "--robot.type=sim", "--dataset.repo_id=a/b")
    assert "--teleop.type=sim" in err
    assert "--robot.type=sim " not in err
    assert "--dataset.episode=0" in refused(capsys, "replay")
    assert "--teleop.type=sim" in refused(capsys, "teleoperate")


CONFIGS = {
    "fps: fast": "line 6, column 3: --dataset.fps takes a whole number, not 'fast'.",
    "num_episode: 3": "line 6, column 3: There is no setting 'dataset.num_episode'. Did you mean",
    "repo_id: c/d": "line 6, column 3: 'repo_id' is named twice.",
    "root: a: b": "line 6, column 10: this is not YAML",
    "rgb_encoder: {vcodec: foo}": "line 6, column 17: Unknown video codec 'foo'",
}


@pytest.mark.parametrize("line", CONFIGS)
def test_what_is_wrong_in_a_file_is_said_with_line_and_column(tmp_path, capsys, line):
    path = tmp_path / "record.yaml"
    path.write_text(
        f"robot: {{type: sim}}\nteleop: {{type: sim}}\ndataset:\n  repo_id: a/b\n  single_task: x\n  {line}\n"
    )
    assert f"{path}, {CONFIGS[line]}" in refused(capsys, "record", f"--config-path={path}")


def test_a_file_is_not_blamed_for_the_command_line(tmp_path, capsys):
    path = tmp_path / "record.yaml"
    path.write_text("dataset: {fps: 30}\n")
    assert f"{path}" not in refused(capsys, "record", *BASE, f"--config_path={path}", "--dataset.fps=fast")
    included = tmp_path / "cameras.yaml"
    included.write_text("front:\n  widht: 64\n")
    err = refused(capsys, "record", *BASE, f"--robot.cameras=include {included}")
    assert f"{included}, line 2, column 3" in err
    assert "nope.yaml cannot be read" in refused(capsys, "record", "--config_path=nope.yaml")


def test_resuming_what_is_not_there_is_wrong_usage_and_makes_nothing(tmp_path, capsys):
    err = refused(capsys, "record", *BASE, f"--dataset.root={tmp_path / 'set'}", "--resume")
    assert "no dataset" in err
    assert "--dataset.root" in err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("command", OWN)
def test_help_is_short_and_begins_with_examples_and_help_all_has_everything(capsys, command):
    def shown(flag):
        try:
            assert main([command, flag]) == 0
        except SystemExit as end:
            assert end.code == 0
        out, err = capsys.readouterr()
        assert not err
        return out

    short, everything = shown("--help"), shown("--help-all")
    assert shown("--help_all") == everything
    assert len(short.splitlines()) < 80
    for text in (short, everything):
        assert text.startswith(f"usage: aiorecord {command} ")
        first_flag = text.index("\n  --", text.index("exit codes"))
        assert text.index("examples:") < first_flag
    assert len(everything) >= len(short)
    if command == "record":
        assert "--dataset.video_encoding_batch_size" in everything
        assert "--dataset.video_encoding_batch_size" not in short
        assert "--help-all" in short


@pytest.mark.parametrize("command", OWN)
def test_every_flag_has_a_help_text(capsys, command):
    try:
        assert main([command, "--help-all"]) == 0
    except SystemExit as end:
        assert end.code == 0
    # Help is printed as one entry for each flag: the flag with its value, blanks, and the text.
    entries = re.split(r"\n  (?=-)", capsys.readouterr().out)[1:]
    assert entries
    for entry in entries:
        lines = entry.partition("\n\n")[0].splitlines()
        flag, _, text = lines[0].partition("  ")
        text = " ".join([text, *lines[1:]])
        assert re.search(r"\w{2}", re.sub(r"\(default: .*\)", "", text)), f"{flag} has no help text"


def test_nearest_is_silent_where_nothing_is_near():
    assert nearest("dance", COMMANDS) == ""
    assert nearest("--bogus", ["--robot.type"]) == ""
