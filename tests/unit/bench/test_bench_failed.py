"""A cell that cannot be measured is named at the end, and the command does not end with 0."""

import json

from aiorecord.bench.cell import SYSTEMS, Cell, Measurement
from aiorecord.bench.runner import failures
from aiorecord.cli.commands.bench import run


def test_the_command_says_which_and_measures_the_others(tmp_path, monkeypatch, capsys):
    """The program that measures dies at once here, so that the test takes no time."""
    monkeypatch.setitem(SYSTEMS, "aiorecord", "aiorecord.no_such_module")
    monkeypatch.setitem(SYSTEMS, "bare", "aiorecord.no_such_module")
    report = tmp_path / "bench.json"
    arguments = ["--cameras=1,2", "--sizes=96x64", "--codecs=h264", "--episodes=1", "--seconds=0.2"]
    assert run([*arguments, f"--json={report}"]) == 1
    said = capsys.readouterr().err
    for label in ("1x96x64@30 h264", "2x96x64@30 h264"):
        assert f"not measured: {label} (aiorecord, bare): " in said
    assert "no_such_module" in said
    assert "Traceback" not in said
    assert len(json.loads(report.read_text())["measurements"]) == 4, "all were tried, and are in the file"


def test_a_cell_that_fails_for_two_reasons_has_two_lines():
    cell = Cell(cameras=1)
    results = [Measurement("aiorecord", cell, error="no such codec"), Measurement("bare", cell)]
    results += [Measurement("lerobot-png", cell, error="Traceback\n ...\nOSError: disk")] * 2
    assert failures(results) == [
        f"{cell.label()} (aiorecord): no such codec",
        f"{cell.label()} (lerobot-png): OSError: disk",
    ]
