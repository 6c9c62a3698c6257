"""`aiorecord doctor`: a line for everything, with what to do; fit for a report of a fault; its exit code."""

import json
import os
from pathlib import Path

import pytest

from aiorecord.cli import main
from aiorecord.doctor import Finding, Level, as_text, blocks, codec_speed, device_checks, look
from aiorecord.doctor import disk_checks as disk_part
from aiorecord.doctor.codec_speed import _finding


def run(capsys, *flags):
    code = main(["doctor", *flags])
    out, err = capsys.readouterr()
    assert not err
    return code, out


def test_everything_is_looked_at_and_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(codec_speed, "MEASURE_S", 0.02)
    monkeypatch.setattr(codec_speed, "SOFTWARE", ("libsvtav1", "h264"))
    code, out = run(capsys, str(tmp_path), "--json")
    found = json.loads(out)
    assert (code, found["blocked"]) == (0, False)
    lines = {(each["section"], each["name"]): each for each in found["findings"]}
    for section in ("versions", "machine", "permissions", "cameras", "disk", "codecs"):
        assert any(key[0] == section for key in lines), section
    for key in (("versions", "aiorecord"), ("permissions", "priority"), ("permissions", "keys")):
        assert key in lines
    for codec in ("capture", "libsvtav1 (the default)", "h264"):
        assert "frames/s" in lines["codecs", codec]["text"]
    assert "MB/s" in lines["disk", "speed"]["text"]
    for each in found["findings"]:
        assert each["level"] in ("ok", "note", "warn", "block")
        assert each["advice"] or each["level"] in ("ok", "note"), each
    assert list(tmp_path.iterdir()) == []


def test_the_text_is_fit_for_a_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code, out = run(capsys, str(tmp_path / "data"), "--fast")
    assert code == 0
    assert "secret" not in out
    assert str(tmp_path) not in out.replace(str(Path.cwd()), "")
    assert "~/data" in out
    assert max(map(len, out.splitlines())) <= 160
    out.encode("ascii", "strict" if out.isascii() else "replace")
    assert "frames/s" not in out
    assert "Nothing here blocks recording." in out


def test_what_blocks_recording_is_the_exit_code(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(disk_part, "RESERVE_BYTES", 1e18)
    code, out = run(capsys, str(tmp_path), "--fast")
    assert code == 1
    assert "BLOCK space" in out
    assert "-> Make room" in out.replace("\n            ", " ")
    assert "cannot record as it is. 1 block" in out


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_blocks(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert run(capsys, str(tmp_path), "--fast")[0] == 1


def test_a_part_that_fails_is_a_line_and_the_others_follow(tmp_path, monkeypatch):
    def broken():
        raise OSError("the bus is gone\x1b[31m")
        yield

    monkeypatch.setattr(device_checks, "cameras", broken)
    findings = list(look(tmp_path, fast=True))
    (line,) = [each for each in findings if each.section == "cameras"]
    assert line.level is Level.WARN
    assert "the bus is gone" in line.text
    assert findings[-1].section == "disk"
    assert "\x1b" not in as_text(findings)


def test_what_is_said_of_a_codec():
    assert _finding("capture", "no such codec").level is Level.BLOCK
    assert _finding("h264", "it failed").level is Level.WARN
    slow = _finding("libsvtav1", (1.0, 10.0))
    assert slow.level is Level.NOTE
    assert "saves wait on disk" in slow.text
    assert _finding("h264", (300.0, 0.001)) == Finding(
        "h264", "300 frames/s of 640x480, 1.0 ms of processor time each"
    )
    assert blocks([_finding("capture", "x")])
    assert not blocks([slow])


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_lines_fit_the_terminal(width):
    finding = Finding("space", "word " * 30, Level.BLOCK, "do " * 30, section="disk")
    lines = as_text([finding], width).splitlines()
    assert max(map(len, lines[:-1])) <= width
