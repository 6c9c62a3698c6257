"""What the machine did not let us read is no damage: it is said, and nothing is repaired."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from damaged import copy, edit_json, info_path, pool

from aiorecord.check.check_dataset import Check
from aiorecord.check.findings import ERROR, UNDETERMINED
from aiorecord.check.jobs import Job, Outcome, run_jobs
from aiorecord.check.repair import repair_dataset
from aiorecord.cli import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a file that gives EIO")

FILES = ("meta/info.json", "meta/tasks.parquet", "meta/stats.json", "meta/episodes", "data", "videos")


def refuse(path: Path) -> None:
    """A file that is there and cannot be read: reading it ends with EIO, see proc_pid_mem(5)."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


def look(root: Path) -> dict[str, tuple]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", FILES)
def test_a_disk_that_does_not_read_is_no_damage(name, good, tmp_path, capsys):
    root = copy(good, tmp_path / "set")
    path = root / name
    refuse(path if path.suffix else min(p for p in path.rglob("*") if p.suffix in (".parquet", ".mp4")))
    report = Check(root, pool(), 1).run().report
    assert "file-unread" in report.codes, report.as_dict()
    assert (report.exit_code, report.ok) == (3, False), report.as_dict()
    before = look(root)
    assert main(["check", str(root), "--repair", "--workers=1"]) == 3
    assert "refused" in capsys.readouterr().out
    assert look(root) == before


def test_what_is_damaged_stays_too_while_something_is_undetermined(loose, tmp_path):
    root = copy(loose, tmp_path / "set")
    first, second, _ = sorted(root.glob("data/*/*.parquet"))
    refuse(first)
    second.write_bytes(b"no table")
    report = Check(root, pool(), 1).run().report
    assert (report.count(ERROR) > 0, report.count(UNDETERMINED), report.exit_code) == (True, 1, 1)
    before = look(root)
    assert main(["check", str(root), "--repair", "--workers=1"]) == 3
    assert look(root) == before


def test_a_reader_that_starves_in_the_middle_of_a_repair_ends_it(good, tmp_path, monkeypatch):
    """Whichever of its steps it is, nothing is cut for want of an answer."""
    damaged = copy(good, tmp_path / "damaged")
    edit_json(info_path(damaged), lambda info: info.update(total_frames=1))
    shutil.rmtree(damaged / "meta/episodes")
    run_jobs = repair_dataset.run_jobs
    steps = 0

    def starving(pool, jobs, *args, **kwargs):
        nonlocal steps
        for outcome in run_jobs(pool, jobs, *args, **kwargs):
            steps += 1
            yield Outcome(outcome.job, None, "reader-starved", "no time") if steps == 1 else outcome

    monkeypatch.setattr(repair_dataset, "run_jobs", starving)
    before = look(damaged)
    assert main(["check", str(damaged), "--repair", "--workers=1"]) == 3
    assert steps == 1
    assert look(damaged) == before


@dataclass
class Looked:
    problem: str | None


def fail_once(path: Path, times: int, progress: object) -> Looked:
    """A reader whose disk fails at its first `times` looks."""
    seen = len(path.read_bytes())
    path.write_bytes(bytes(seen + 1))
    return Looked("a frame is not there" if seen < times else None)


@pytest.mark.parametrize(("times", "problem"), [(1, None), (99, "a frame is not there")])
def test_damage_is_what_two_looks_agree_on(times, problem, tmp_path):
    (tmp_path / "video.mp4").touch()
    job = Job(tmp_path / "video.mp4", fail_once, (tmp_path / "video.mp4", times))
    (outcome,) = run_jobs(pool(), [job], width=1)
    assert (outcome.code, outcome.value) == (None, Looked(problem))
