"""`aiorecord check` as it is called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from damaged import cut_footer, data_file, record
from helpers import FEATURES

from aiorecord.cli import main


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return record(tmp_path_factory.mktemp("cli") / "set", FEATURES, (5, 4))


def test_a_good_dataset(good, capsys):
    assert main(["check", str(good), "--workers=1"]) == 0
    assert "ok, 0 warnings (2 episodes, 9 rows, 9 video frames decoded" in capsys.readouterr().out


def test_a_real_process_and_json(good):
    command = [sys.executable, "-m", "aiorecord", "check", str(good), "--json", "--fast", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["ok"], report["fast"], report["findings"]) == (True, True, [])


def test_damage_and_repair(tmp_path, capsys):
    root = record(tmp_path / "set", FEATURES, (5, 4))
    cut_footer(data_file(root))
    assert main(["check", str(root), "--workers=1"]) == 1
    out = capsys.readouterr().out
    assert "ERROR lerobot-killed-footerless-parquet" in out
    assert f"aiorecord check {root} --repair" in out
    assert main(["check", str(root), "--repair", "--json", "--workers=1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["after"]["ok"]
    assert not result["before"]["ok"]
    assert Path(result["aside"]).is_dir()


@pytest.mark.parametrize(
    "arguments", [[], ["{root}", "--workers=0"], ["{root}", "--fast", "--repair"], ["nowhere"]]
)
def test_wrong_usage(arguments, good, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["check", *(argument.format(root=good) for argument in arguments)])
    assert exit_.value.code == 2


def test_no_dataset(tmp_path, capsys):
    assert main(["check", str(tmp_path), "--workers=1"]) == 1
    assert "info-missing" in capsys.readouterr().out
    assert main(["check", str(tmp_path), "--repair", "--workers=1"]) == 1
    assert list(tmp_path.iterdir()) == []
