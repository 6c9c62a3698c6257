"""Readers that crash, hang or starve end as findings, and the jobs after them go on."""

from __future__ import annotations

import sys
from pathlib import Path

import check_jobs
import pytest

from aiorecord.check.jobs import Job, is_regular, run_jobs
from aiorecord.workers import watched
from aiorecord.workers.pool import WorkerPool


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (check_jobs.crash, "reader-crashed"),
        (check_jobs.hang, "reader-stalled"),
        (check_jobs.busy, "reader-stalled"),
        (check_jobs.killed, "reader-killed"),
        (check_jobs.fail, "reader-crashed"),
        pytest.param(
            check_jobs.eat,
            "reader-memory",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="limits memory on Linux only"),
        ),
    ],
)
def test_a_bad_reader_is_a_finding(job, code):
    with WorkerPool(1) as pool:
        jobs = [Job(Path("a"), job, (), 10), Job(Path("b"), check_jobs.work, ())]
        seen: list[tuple[int, int]] = []
        outcomes = list(
            run_jobs(
                pool,
                jobs,
                lambda *done: seen.append(done),
                width=1,
                stall_s=2.0 if job in (check_jobs.hang, check_jobs.busy) else 120,
            )
        )
    assert [(o.job.path.name, o.value, o.code) for o in outcomes] == [("a", None, code), ("b", "done", None)]
    assert seen[-1] == (11, 11)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process waits for")
def test_a_reader_that_is_stopped_is_not_the_file(monkeypatch):
    monkeypatch.setattr(watched, "STARVED_FACTOR", 2)
    with WorkerPool(1) as pool:
        (outcome,) = run_jobs(pool, [Job(Path("a"), check_jobs.stop, (), 10)], width=1, stall_s=1.0)
    assert outcome.code == "reader-starved"


def test_one_crash_is_no_evidence(tmp_path):
    with WorkerPool(1) as pool:
        jobs = [
            Job(Path("a"), check_jobs.crash_once, (tmp_path / "a",)),
            Job(Path("b"), check_jobs.crash_then_killed, (tmp_path / "b",)),
        ]
        outcomes = {o.job.path.name: (o.value, o.code) for o in run_jobs(pool, jobs, width=1)}
    assert outcomes == {"a": ("done", None), "b": (None, "reader-killed")}


def test_what_is_a_file(tmp_path):
    import os

    file = tmp_path / "file"
    file.write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    answers = {
        name: is_regular(tmp_path / name) for name in ("file", "link", "pipe", "loop", "none", "file/x")
    }
    assert answers == {
        "file": True, "link": True, "pipe": False, "loop": False, "none": None, "file/x": False,
    }  # fmt: skip
    assert is_regular(tmp_path / ("x" * 300)) is False
