"""A cell that cannot be measured is named at the end, and the command does not end with 0."""

import json

from aiorecord.bench.cell import SYSTEMS, Cell, Measurement
from aiorecord.bench.runner import failures
from aiorecord.cli.commands import bench
from aiorecord.cli.commands.bench import run
from aiorecord.errors import EncodeError


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


def test_a_codec_that_cannot_be_calibrated_is_named_too(monkeypatch, capsys):
    asked = []

    def refuse(question, pool, **options):
        asked.append(question.encoder.vcodec)
        raise EncodeError("it does not open")

    monkeypatch.setattr(bench, "calibrate", refuse)
    arguments = ["--calibrate", "--cameras=1", "--sizes=96x64", "--codecs=h264,h264_nvenc,libsvtav1"]
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    assert asked == ["h264", "h264_nvenc"]
    for codec in asked:
        assert f"not measured: 1x96x64@30 {codec}: it does not open" in err
    assert "1x96x64@30 libsvtav1: deferred" in out, "the others are measured"
