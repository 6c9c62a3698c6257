"""Files that a command writes at its end are asked for at its beginning."""

import os

import pytest

from aiorecord.cli.devices import parse_device_flags
from aiorecord.cli.output_files import check_output
from aiorecord.cli.record_config import RecordFlags, check_flags
from aiorecord.errors import ConfigError


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    bad = [tmp_path, tmp_path / "none" / "x", tmp_path / "file" / "x", tmp_path / ("n" * 256)]
    bad += [tmp_path / "dangling", tmp_path / "loop", tmp_path / "pipe"]
    before = sorted(os.listdir(tmp_path))
    for path in bad:
        with pytest.raises(ConfigError, match="report"):
            check_output(path, "report")
    check_output(tmp_path / "new.json", "report")
    check_output(tmp_path / "file", "report")
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "wrong",
    [
        "--report=/nowhere/x.json",
        "--dataset.episode_time_s=0.001",
        "--dataset.episode_time_s=.inf",
        "--dataset.reset_time_s=-1",
        "--slow_call_s=.nan",
        "--dataset.fps=0",
        "--source_timeout_s=0",
    ],
)
def test_record_refuses_before_it_connects(wrong):
    given = ["--robot.type=sim", "--teleop.type=sim", "--dataset.repo_id=me/x", "--dataset.single_task=t"]
    flags = parse_device_flags(RecordFlags, [*given, wrong], prog="record", examples="")
    with pytest.raises(ConfigError):
        check_flags(flags, terminal=False)
