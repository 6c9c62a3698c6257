"""A check of a dataset that somebody writes: nothing is an error that is none, and no repair is offered."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from damaged import FPS, H264, copy, data_file, edit_json, edit_table, info_path, pool
from helpers import FEATURES, record_episode

from aiorecord import Recorder
from aiorecord.check.check_dataset import TRIES, Check, check_dataset, run_until_agreed
from aiorecord.check.findings import ERROR, NOTE, Report
from aiorecord.check.repair.repair_dataset import repair_dataset
from aiorecord.cli import main
from aiorecord.dataset.commit.lock import DatasetLock


class Between:
    """A progress callback that changes the dataset when a stage is reached, and counts the passes."""

    def __init__(self, stage: str, change: Callable[[], object], times: int = 1) -> None:
        self._stage, self._change, self._times = stage, change, times
        self._last, self.passes = "", 0

    def __call__(self, what: str, done: int, total: int) -> None:
        begins = what != self._last
        self._last = what
        self.passes += begins and what == "tasks"
        if begins and what == self._stage and self._times:
            self._times -= 1
            self._change()


def check(root: Path, between: Between, fast: bool = True) -> Report:
    report = run_until_agreed(root, pool(), 1, fast, between)
    assert not any("--repair" in f.hint or "recover" in f.hint for f in report.findings), report.as_dict()
    return report


def serious(report: Report) -> list[tuple[str, str]]:
    return [(f.code, f.message) for f in report.findings if f.severity != NOTE]


def grow(root: Path, pack: bool) -> Callable[[], None]:
    """Record one more episode; the recorder's lock is gone afterwards."""

    async def record() -> None:
        options = {"fps": FPS, "features": FEATURES, "rgb_encoder": H264, "pack": pack, "resume": True}
        async with Recorder("test/set", root=root, **options) as recorder:
            await record_episode(recorder, 6, 3, "Another task")

    return lambda: asyncio.run(record())


@pytest.mark.parametrize(("stage", "pack"), [("tasks", 0), ("rows", 0), ("metadata", 1), ("videos", 1)])
def test_a_commit_or_a_packing_meanwhile_is_no_error(stage, pack, loose, tmp_path):
    root = copy(loose, tmp_path / "set")
    between = Between(stage, grow(root, bool(pack)))
    report = check(root, between)
    assert serious(report) == []
    assert between.passes <= (2 if pack else 1)
    assert report.episodes == (4 if between.passes == 2 else 3)


def test_damage_is_found_while_episodes_are_added(loose, tmp_path):
    root = copy(loose, tmp_path / "set")
    edit_table(data_file(root), timestamp=lambda v: [v[0], 9.0, *v[2:]])
    between = Between("rows", grow(root, False))
    report = check(root, between)
    assert {code for code, _ in serious(report)} == {"rows-timestamp", "stats-stale"}
    assert (between.passes, report.exit_code) == (1, 1)
    assert "dataset-locked" in report.codes  # though no lock was to be seen, somebody wrote


def test_a_dataset_that_keeps_changing_is_undetermined(good, loose, tmp_path):
    """Half of the files are of one state, half of another, at every try."""
    root, other = copy(loose, tmp_path / "set"), copy(good, tmp_path / "other")

    def exchange() -> None:
        for top in ("data", "videos", "meta"):
            os.rename(root / top, tmp_path / "aside")
            os.rename(other / top, root / top)
            os.rename(tmp_path / "aside", other / top)

    between = Between("metadata", exchange, times=99)
    report = check(root, between)
    assert [code for code, _ in serious(report)] == ["dataset-changed"]
    assert (between.passes, report.exit_code, report.ok) == (TRIES, 3, False)


def test_what_did_not_change_is_said_of_one_that_keeps_changing(loose, tmp_path):
    root = copy(loose, tmp_path / "set")
    first, *_, last = sorted(root.glob("data/*/*.parquet"))
    edit_table(first, timestamp=lambda v: [v[0], 9.0, *v[2:]])
    edit_table(last, timestamp=lambda v: [v[0], 9.0, *v[2:]])
    seconds = itertools.count(10**9)
    report = check(root, Between("rows", lambda: os.utime(last, (0, next(seconds))), times=99))
    errors = [f for f in report.findings if f.severity == ERROR]
    assert {f.place for f in errors} == {first.relative_to(root).as_posix()}
    assert ("dataset-changed" in report.codes, report.exit_code) == (True, 1)


def half_committed(loose: Path, root: Path) -> Path:
    """As between two steps of a commit: all is there but the counts."""
    copy(loose, root)
    keep = {"total_episodes": 2, "total_frames": 36, "splits": {"train": "0:2"}}
    edit_json(info_path(root), lambda info: info.update(keep))
    (root / ".aiorecord/episodes/000003-abcdef01").mkdir(parents=True)
    (root / "data/.x.1.aiorecord-tmp").touch()
    return root


AHEAD = {"episodes-uncounted", "data-orphan", "video-orphan", "stats-total"}
AHEAD |= {"temporary-file", "staging-unfinished"}


def test_a_commit_under_way_is_no_error_under_a_lock(loose, tmp_path, capsys):
    root = half_committed(loose, tmp_path / "set")
    (root / ".aiorecord/lock").write_text(json.dumps({"pid": 7, "host": "another-host"}))
    report = Check(root, pool(), 1, True).run().report
    assert (report.codes, report.exit_code, report.episodes) == ({"dataset-locked"}, 0, 2)
    (root / ".aiorecord/lock").unlink()
    assert Check(root, pool(), 1, True).run().report.codes == AHEAD
    with DatasetLock(root):
        assert main(["check", str(root), "--workers=1", "--fast"]) == 0
    assert "repair" not in capsys.readouterr().out


def test_a_commit_that_no_lock_tells_of_is_waited_for(loose, tmp_path):
    root = half_committed(loose, tmp_path / "set")
    waited = []

    def end() -> None:
        waited.append(True)
        shutil.copy(loose / "meta/info.json", info_path(root))

    report = Check(root, pool(), 1, True, wait_for_commit=end).run().report
    assert (report.codes, report.exit_code) == ({"dataset-locked"}, 0)
    (root / ".aiorecord/lock").write_text(json.dumps({"pid": 2**31 - 5, "host": os.uname().nodename}))
    Check(root, pool(), 1, True, wait_for_commit=end).run()
    assert waited == [True]  # not for one who is known to be dead


def test_real_damage_under_a_lock_advises_no_repair_and_repair_refuses_at_once(good, tmp_path, capsys):
    root = copy(good, tmp_path / "set")
    data_file(root).write_bytes(b"no table")
    with DatasetLock(root):
        assert main(["check", str(root), "--workers=1", "--fast"]) == 1
        out = capsys.readouterr().out
        assert "ERROR data-unreadable" in out
        assert "--repair" not in out
        assert main(["check", str(root), "--repair"]) == 3
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert f"is being written by another recorder of this process ({os.getpid()})" in said.err
    assert data_file(root).read_bytes() == b"no table"


@pytest.mark.parametrize("name", [".aiorecord/episodes/000001-abcdef01/rows.arrows", "data/chunk-900/x"])
def test_nothing_is_repaired_where_somebody_writes_who_does_not_see_the_lock(name, loose, tmp_path):
    root = copy(loose, tmp_path / "set")
    data_file(root).write_bytes(b"no table")

    def write() -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"row")

    result = repair_dataset(root, workers=1, progress=Between("rows", write), accept_loss=True)
    assert "undetermined" in result.undetermined
    assert (result.actions, result.aside) == ([], None)
    assert data_file(root).read_bytes() == b"no table"


def test_a_check_while_a_recorder_records_and_packs(tmp_path):
    root, stop = tmp_path / "set", tmp_path / "stop"
    child = Path(__file__).with_name("recording_packing.py")
    recording = subprocess.Popen([sys.executable, str(child), str(root), str(stop)], stdout=subprocess.PIPE)
    assert recording.stdout is not None
    try:
        assert recording.stdout.readline() == b"packed\n"
        reports: list[Report] = []
        while not reports or reports[-1].episodes < 12:
            reports.append(check(root, Between("", lambda: None)))
            assert recording.poll() is None
    finally:
        stop.touch()
        recording.communicate(timeout=60)
    # Where it packs faster than it is read, nothing can be said; and a busy machine records too slowly.
    allowed = {"dataset-changed", "episode-flagged"}
    assert {code for report in reports for code, _ in serious(report)} <= allowed
    assert recording.returncode == 0
    assert check_dataset(root, fast=True, workers=1).codes <= {"episode-flagged", "video-replaced"}
