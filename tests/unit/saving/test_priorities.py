"""Priorities of saves: which one is encoded and committed next, and that a kill keeps them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import FPS, STATES, episodes_of, record_episode, rows_of
from rich.console import Console
from test_backlog import recorder_for

from aiorecord import ConfigError, Recorder, StorageError
from aiorecord.check.check_dataset import check_dataset
from aiorecord.cli import main
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.format import quality_log
from aiorecord.monitor.live_view import render
from aiorecord.monitor.sinks.notebook import StatusView
from aiorecord.monitor.sinks.plain import describe
from aiorecord.monitor.snapshot import Observer
from aiorecord.saving.pending import PendingSaves
from aiorecord.saving.ready_queue import MAX_OVERTAKEN, SaveQueue
from aiorecord.session import Session, SessionPlan
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.manifest_checks import parse_manifest
from aiorecord.testing import ControlledEncoder


def test_the_highest_goes_first_and_a_change_counts_while_they_wait():
    priorities = {"a": 0, "bb": 0, "c": 1, "d": 1, "e": -1}
    queue = SaveQueue(10, priority_of=priorities.__getitem__)
    for item in priorities:
        queue.put_nowait(item)
    assert [queue.get_nowait(), queue.get_nowait()] == ["c", "d"]
    priorities["e"] = 3
    assert [queue.get_nowait() for _ in range(3)] == ["e", "a", "bb"]


def test_the_shortest_of_a_priority_overtakes_as_often_as_ever():
    queue = SaveQueue(100, size_of=len, priority_of=lambda item: item.isupper())
    for item in ("low", "LONG", *"ABCDEF"):
        queue.put_nowait(item)
    taken = [queue.get_nowait() for _ in range(8)]
    assert taken.index("LONG") == MAX_OVERTAKEN
    assert taken[-1] == "low"


def test_what_is_put_beyond_the_bound_leaves_no_room_for_more():
    queue = SaveQueue(2)
    queue.put_beyond("abc")
    assert queue.full()
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait("d")
    assert [queue.get_nowait(), queue.get_nowait()] == ["a", "b"]
    queue.put_nowait("d")


def shown_of(snapshot):
    console = Console(width=100, file=io.StringIO())
    console.print(render(snapshot, width=100))
    return console.file.getvalue()


class Still:
    """A robot that is never asked."""

    name = "still"


async def test_a_view_looks_at_a_backlog_as_often_however_long_it_is(tmp_path, monkeypatch):
    """A thousand saves may wait, and the view is drawn on the loop."""
    looks, by_turn = [], PendingSaves.by_turn

    def counted(pending):
        looks.append(None)
        return by_turn(pending)

    monkeypatch.setattr(PendingSaves, "by_turn", counted)

    counts = []
    with ControlledEncoder(held=True) as executor:
        async with recorder_for(tmp_path, executor) as recorder:
            observer = Observer(Session(recorder, Still(), Still(), SessionPlan("x", 1, 1, 0)))
            for e in range(8):
                await (await record_episode(recorder, 2, e)).save.durable()
                looks.clear()
                rows = observer.take().saves
                assert [row.label for row in rows] == [f"episode {n}" for n in range(e + 1)]
                counts.append(len(looks))
            executor.let(8)
    assert counts[0] == counts[-1]


async def test_a_backlog_is_saved_by_priority_and_the_dataset_stays_in_order(tmp_path, capsys):
    """Recorded: 9 frames first, then 20, 5 with priority 5, 12, and 3 that is raised while it waits."""
    lengths, given = [9, 20, 5, 12, 3], [0, 0, 5, -2, 0]

    with ControlledEncoder(held=True) as executor:
        async with recorder_for(tmp_path, executor) as recorder:
            saves = []
            for e, (length, priority) in enumerate(zip(lengths, given, strict=True)):
                saves.append((await record_episode(recorder, length, e, priority=priority)).save)
                while e == 0 and saves[0].job.encoding is None:  # it is the one under way
                    await asyncio.sleep(0.001)
            for save in saves:
                await save.durable()
            with pytest.raises(ConfigError, match="whole number"):
                saves[4].priority = 1.5
            saves[4].priority = 7
            assert [save.length for save in recorder.saver.pending] == [3, 5, 9, 20, 12]
            status = recorder.saver.get_status()
            assert list(status["pending_priorities"].items()) == [("7", 1), ("5", 1), ("0", 2), ("-2", 1)]
            assert [save.priority for save in recorder.get_status().pending] == [7, 5, 0, 0, -2]
            views = Observer(Session(recorder, Still(), Still(), SessionPlan("x", 1, 1, 0))).take()
            assert f"saving {views.saves[0].label} durable, priority 7 0%" in describe(views), describe(views)
            assert "durable, priority 7" in shown_of(views)
            assert "encoding, priority" not in shown_of(views)
            assert "durable, priority 5" in StatusView(recorder)._repr_html_()
            while EpisodeFolder.load(saves[4].job.source.path).manifest.priority != 7:
                await asyncio.sleep(0.001)
            assert main(["info", str(recorder.root)]) == 0
            executor.let(len(lengths))
            results = [await save for save in saves]
        assert executor.lengths == [9, 3, 5, 20, 12]
        assert [r.episode_index for r in results] == [0, 3, 2, 4, 1]
        assert [r.priority for r in results] == [0, 0, 5, -2, 7]
        saves[4].priority = 1  # too late
        assert saves[4].priority == 7
    root = tmp_path / "set"
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "saved in this order: 1 of priority 7, then 1 of priority 5, then 2 of priority 0, "
        "then 1 of priority -2" in shown
    )
    assert [e["length"] for e in episodes_of(root)] == [9, 3, 5, 20, 12]
    assert [row["index"] for row in rows_of(root)] == list(range(sum(lengths)))
    assert [row["action"][1] - 1 for row in rows_of(root) if not row["frame_index"]] == [0, 4, 2, 1, 3]
    saved = [quality.save.get("priority") for _, quality in sorted(quality_log.read(root, 5)[0].items())]
    assert saved == [None, 7, 5, None, -2]
    assert main(["info", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "priority 7" in shown
    assert "priority 0" not in shown
    assert check_dataset(root, fast=True, workers=1).exit_code == 0


def without_cameras(root, **options):
    """Nothing has to be encoded: what decides is the order of commits."""
    return Recorder("a/b", root=root / "set", fps=FPS, features=STATES, encode_workers=1, **options)


@pytest.fixture
def commits(monkeypatch):
    """Commits begin, and wait until this is set."""
    gate, original = threading.Event(), DatasetWriter.commit

    def commit(*args):
        assert gate.wait(30)
        return original(*args)

    monkeypatch.setattr(DatasetWriter, "commit", commit)
    return gate


async def test_what_is_ready_waits_for_no_higher_one(tmp_path):
    async with without_cameras(tmp_path) as recorder:
        low = (await record_episode(recorder, 5, 0)).save
        held = (await record_episode(recorder, 4, 1, priority=9, hold=True)).save
        assert (await low).episode_index == 0  # the held one is higher
        held.release()
        assert (await held).episode_index == 1


async def test_within_a_priority_commits_keep_the_order_of_submission(tmp_path, commits):
    """A save that is raised leaves the row it stood in, and joins that of its new priority in its place."""

    async with without_cameras(tmp_path) as recorder:
        saves = [(await record_episode(recorder, 4, e)).save for e in range(4)]
        while not all(save.job.encoded for save in saves) or not saves[0].job.committing:
            await asyncio.sleep(0.001)
        for number in (3, 2, 0):  # the last of these too late
            saves[number].priority = 1
        commits.set()
        results = [await save for save in saves]
        assert [result.episode_index for result in results] == [0, 3, 1, 2]
        assert [result.priority for result in results] == [0, 0, 1, 1]


async def test_a_disk_that_refuses_the_note_costs_the_priority_nothing_in_this_session(
    tmp_path, monkeypatch, caplog, commits
):
    async with without_cameras(tmp_path) as recorder:
        saves = [(await record_episode(recorder, 4 + e, e)).save for e in range(3)]
        for save in saves:
            await save.durable()

        def refuse(folder):
            raise StorageError("no")

        with monkeypatch.context() as patched:
            patched.setattr(EpisodeFolder, "save", refuse)
            saves[2].priority = 4
            while "is not on disk" not in caplog.text:
                await asyncio.sleep(0.001)
        commits.set()
        assert [(await save).episode_index for save in saves] in ([0, 2, 1], [1, 2, 0])


async def test_a_save_that_fails_keeps_its_priority_and_can_be_taken_back(tmp_path, monkeypatch):
    async with without_cameras(tmp_path) as recorder:

        def refuse(*args):
            raise StorageError("no")

        with monkeypatch.context() as patched:
            patched.setattr(DatasetWriter, "commit", refuse)
            save = (await record_episode(recorder, 4, priority=2)).save
            with pytest.raises(Exception, match="no"):
                await save
        save.priority = 6
        assert await recorder.take_back(save)  # also while its manifest is being written
        assert not save.job.source.path.exists()
        assert (await (await record_episode(recorder, 3)).save).episode_index == 0


CHILD = """
import asyncio, sys, threading
from pathlib import Path
from helpers import STATES, make_frame, record_episode
from test_priorities import DatasetWriter, without_cameras

DatasetWriter.commit = lambda *args: threading.Event().wait()

async def main():
    async with without_cameras(Path(sys.argv[1])) as recorder:
        given = enumerate([0, 0, 3, 0])
        saves = [(await record_episode(recorder, 4 + e, e, priority=p)).save for e, p in given]
        for save in saves:
            await save.durable()
        saves[3].priority = 8
        async with recorder.episode("cut off", priority=5) as episode:
            episode.add_frame(make_frame(0, 4, STATES))
            print("recorded", flush=True)
            await asyncio.Event().wait()  # until it is killed

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A dataset whose recorder was killed: four ended episodes, one of them raised, and a running one."""
    folder = tmp_path_factory.mktemp("killed")
    here = Path(__file__).parent
    modules = os.pathsep.join(map(str, (here, here.parents[1])))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        env={**os.environ, "PYTHONPATH": modules},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert child.stdout.readline().strip() == b"recorded"
        deadline = time.monotonic() + 30
        while True:
            paths = Staging(folder / "set").episode_paths()
            # The folder of the next episode is being made: its manifest comes last.
            folders = [EpisodeFolder.load(path) for path in paths if (path / "manifest.json").exists()]
            started = "started_unix_ns" in folders[4].manifest.quality if len(folders) > 4 else False
            if started and folders[3].manifest.priority == 8:
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    return folder / "set"


def tasks_and_lengths(root):
    return [(episode["tasks"][0], episode["length"]) for episode in episodes_of(root)]


IN_ORDER = [("Test", 7), ("cut off", 1), ("Test", 6), ("Test", 4), ("Test", 5)]


async def test_resuming_saves_what_a_kill_left_by_priority(tmp_path, killed):
    shutil.copytree(killed, tmp_path / "set")

    async with without_cameras(tmp_path, resume=True) as recorder:
        save = (await record_episode(recorder, 3, 9)).save
        assert (await save).episode_index == 5
    assert tasks_and_lengths(tmp_path / "set") == [*IN_ORDER, ("Test", 3)]


def test_recover_saves_what_a_kill_left_by_priority(tmp_path, killed, capsys):
    root = shutil.copytree(killed, tmp_path / "set")
    assert main(["recover", str(root), "--encode_workers=1"]) == 0
    assert tasks_and_lengths(root) == IN_ORDER


def test_priorities_of_a_manifest_are_checked(killed):
    plain, *_, raised = [
        json.loads((path / "manifest.json").read_text()) for path in Staging(killed).episode_paths()[:4]
    ]
    assert "priority" not in plain  # versions that know of none read it
    raised.pop("crc32")
    assert parse_manifest(raised).priority == 8
    for bad in ("1", True, 1.0, None, 10**9):
        with pytest.raises(ValueError, match="priority"):
            parse_manifest({**raised, "priority": bad})
