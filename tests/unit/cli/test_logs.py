"""`--log_level` and `--log_file`: lines of JSON with times, of what matters in a report of a fault."""

import json
import logging
import queue
from datetime import datetime

import pytest

from aiorecord.cli import main
from aiorecord.cli.commands import info
from aiorecord.cli.logs import LogFlags, _Lines, _Queued, logging_as, take_log_flags
from aiorecord.errors import ConfigError

BASE = [
    *("record", "--robot.type=sim", "--teleop.type=sim", "--robot.cameras={front: {width: 96, height: 64}}"),
    *("--dataset.repo_id=a/b", "--dataset.single_task=x", "--dataset.num_episodes=1"),
    *("--dataset.episode_time_s=0.1", "--dataset.reset_time_s=0", "--play_sounds=false", "--display=none"),
    *("--dataset.rgb_encoder.vcodec=h264", "--encode=deferred", "--encode_workers=1"),
]


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_recording_is_told_from_start_to_end(tmp_path, capsys, steady_clock):
    log = tmp_path / "log.jsonl"
    assert main([*BASE, f"--dataset.root={tmp_path / 'set'}", f"--log-file={log}"]) == 0
    out, err = capsys.readouterr()
    assert "contents  1 episode" in out
    assert err == ""
    lines = lines_of(log)
    assert (lines[0]["message"], lines[-1]["message"]) == ("started", "ended")
    assert lines[0]["arguments"][0] == "record"
    assert {"aiorecord", "python", "system"} <= lines[0].keys()
    assert lines[-1]["exit_code"] == 0
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times == sorted(times)
    assert all(time.tzinfo is not None for time in times)
    (episode,) = [line for line in lines if line["message"] == "take 1 ended and is kept"]
    assert episode["frames"] == 3
    assert episode["lateness"]["ticks"] == 3
    messages = [line["message"] for line in lines]
    for phase in ("connecting", "recording", "saving", "packing"):
        assert f"phase: {phase}" in messages
    assert not logging.getLogger("aiorecord").handlers
    assert logging.getLogger("aiorecord").propagate


def test_what_goes_wrong_is_logged_too(tmp_path, capsys, monkeypatch):
    log = tmp_path / "log.jsonl"
    assert main(["info", str(tmp_path), "--log_file", str(log)]) == 1
    assert [line["level"] for line in lines_of(log)] == ["info", "error", "info"]
    assert "no meta/info.json" in lines_of(log)[1]["message"]
    assert capsys.readouterr().err.count("no meta/info.json") == 1

    def broken(root):
        raise RuntimeError("never \x1b[31mseen")

    monkeypatch.setattr(info, "read_facts", broken)
    assert main(["info", str(tmp_path), f"--log_file={log}"]) == 1
    last = lines_of(log)[-2:]
    assert (last[0]["level"], last[1]["exit_code"]) == ("critical", 1)
    assert "RuntimeError" in last[0]["traceback"]
    assert "\x1b" not in log.read_text(encoding="utf-8")


def test_the_terminal_gets_the_lines_where_no_file_is_named(capsys):
    with logging_as(LogFlags("info"), ["x"]):
        logging.getLogger("aiorecord.x").info("heard")
        logging.getLogger("aiorecord.x").debug("not heard")
        logging.getLogger("lerobot").info("heard as well")
    err = capsys.readouterr().err
    assert "info: heard\n" in err
    assert "info: heard as well" not in err  # the root's own level decides on what is not ours
    assert "not heard" not in err


def test_flags_are_taken_out_of_every_command_line(tmp_path):
    log = tmp_path / "x"
    flags, rest = take_log_flags(["check", "--log-level=DEBUG", "root", "--log_file", str(log), "--fast"])
    assert (flags, rest) == (LogFlags("debug", log), ["check", "root", "--fast"])
    assert take_log_flags(["record", "--", "--log_file=x"])[1] == ["record", "--", "--log_file=x"]
    for wrong in (["--log_level=loud"], ["--log_file"], [f"--log_file={tmp_path}/no/x"]):
        with pytest.raises(ConfigError, match="log_"):
            take_log_flags(wrong)
    assert main(["info", "x", "--log_level=loud"]) == 2


def test_a_disk_that_stalls_delays_nothing_and_takes_no_memory():
    handler = _Queued(queue.Queue(2))
    handler.setFormatter(_Lines())
    for number in range(5):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "%d", (number,), None))
    assert handler.lost == 3
