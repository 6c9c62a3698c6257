"""`log_file` and `log_level` in a file of flags."""

import json
import os

import pytest

from aiorecord.cli import main
from aiorecord.cli.logs import LogFlags, take_log_flags
from aiorecord.errors import ConfigError


def flags_in(folder, text, name="record.yaml"):
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize("spelled", ["--config_path={}", "--config-path={}", "--config_path {}"])
def test_a_file_of_flags_says_where_to_log(tmp_path, spelled):
    log = tmp_path / "log.jsonl"
    file = flags_in(tmp_path, f"log_level: debug\nlog_file: {log}\nplay_sounds: false\n")
    argv = ["record", *spelled.format(file).split(), "--display=none"]
    flags, rest = take_log_flags(argv)
    assert flags == LogFlags("debug", log)
    assert rest == [a.replace("config-path", "config_path") for a in argv], "the command reads it too"
    assert take_log_flags([*argv, "--log-level=error"])[0] == LogFlags("error", log)


def test_the_command_does_not_take_them_for_settings_of_its_own(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    file = flags_in(tmp_path, json.dumps({"log_file": str(log), "dataset": {"fps": "fast"}}), "record.json")
    argv = ["record", "--robot.type=sim", "--teleop.type=sim", "--dataset.repo_id=a/b"]
    assert main([*argv, "--dataset.single_task=x", f"--config_path={file}"]) == 2
    assert "--dataset.fps takes a whole number" in capsys.readouterr().err
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[0]["message"] == "started"
    assert lines[-1]["exit_code"] == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nlog_level: loud\n", "line 2, column 1: log_level is debug, info, warning, error, not 'loud'"),
        ("log_file: 3\n", "line 1, column 1: log_file is text, not 3"),
        ("log_file: no/such/folder/log\n", "no/such/folder"),
    ],
)
def test_what_cannot_be_is_said_with_its_place(tmp_path, text, said):
    with pytest.raises(ConfigError) as error:
        take_log_flags(["record", f"--config_path={flags_in(tmp_path, text)}"])
    assert said in str(error.value)


def test_files_that_cannot_be_read_are_the_commands_to_report(tmp_path):
    for text in ("{", "- a\n", "log_file: [\n"):
        assert take_log_flags([f"--config_path={flags_in(tmp_path, text)}"])[0] == LogFlags()
    assert take_log_flags(["--config_path=nope.yaml"])[0] == LogFlags()
    assert take_log_flags(["record", "--config_path"])[0] == LogFlags()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_is_left_to_the_command(tmp_path):
    pipe = tmp_path / "flags.yaml"
    os.mkfifo(pipe)
    assert take_log_flags([f"--config_path={pipe}"])[0] == LogFlags(), "reading it would wait, or eat it"
