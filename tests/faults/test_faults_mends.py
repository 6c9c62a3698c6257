"""What the sweeps found, each in its smallest form."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from fault_runs import record_argv
from fault_staged import make_staged
from helpers import FEATURES

from aiorecord.cli import main
from aiorecord.cli.output import lasting_output
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.recovery.salvage import ready, salvage
from aiorecord.errors import DatasetError, StorageError
from aiorecord.features import Schema
from aiorecord.recording.standby import Standby
from aiorecord.staging import folder
from aiorecord.staging.folder import Staging
from aiorecord.system import storage

pytestmark = pytest.mark.smoke


def test_what_an_interrupted_removal_left_is_deleted(tmp_path):
    root = tmp_path / "set"
    make_staged(root, packed=[3], staged=[4, 5])
    first, second = Staging(root).episode_paths()
    first.rename(first.with_name(f".{first.name}.123.aiorecord-tmp"))
    unborn = second.with_name("000009-0123abcd")
    unborn.mkdir()
    (unborn / ".manifest.json.123.aiorecord-tmp").write_bytes(b"{")
    found = salvage(DatasetWriter.open(root), Staging(root))
    assert [folder.path for folder in ready(found)] == [second]
    assert len(found) == 1
    assert list(second.parent.iterdir()) == [second]


def test_a_removed_folder_has_lost_its_name_for_good_before_its_content_goes(tmp_path, monkeypatch):
    (tmp_path / "episode").mkdir()
    (tmp_path / "episode/commit.json").write_text("{}")
    order = []
    for module, name in ((os, "replace"), (storage, "fsync_folder"), (storage, "remove_entry")):
        real = getattr(module, name)

        def told(*args, real=real, name=name):
            order.append(name)
            return real(*args)

        monkeypatch.setattr(module, name, told)
    storage.remove_tree(tmp_path / "episode")
    assert order == ["replace", "fsync_folder", "remove_entry", "fsync_folder"]
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_manifest_that_holds_anything_is_left_alone(tmp_path):
    root = tmp_path / "set"
    make_staged(root, packed=[3], staged=[4])
    [path] = Staging(root).episode_paths()
    (path / "manifest.json").unlink()
    assert Staging(root).remove_leftovers() == []
    assert (path / "rows.arrows").exists()


@pytest.mark.parametrize("call", ["save", "fsync_folder"])
def test_a_folder_that_a_full_disk_kept_from_being_made_is_not_left_behind(tmp_path, monkeypatch, call):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    made = Staging(tmp_path / "set")
    place = folder.EpisodeFolder if call == "save" else folder
    make_staged(tmp_path / "other", packed=[3], staged=[3], encoded=False)
    [path] = Staging(tmp_path / "other").episode_paths()
    staged = folder.EpisodeFolder.load(path)
    with monkeypatch.context() as patch:
        patch.setattr(place, call, full)
        with pytest.raises(StorageError, match="No space"):
            made.create(staged.manifest)
    assert list(made.episodes_path.iterdir()) == []
    assert made.create(staged.manifest).path.is_dir()


def test_a_prepared_folder_that_cannot_be_removed_does_not_cost_the_summary(tmp_path, monkeypatch, capsys):
    discard = Standby.discard

    def refused(self):
        discard(self)  # its capture has ended by then
        raise StorageError("Could not remove the folder: Read-only file system", path=tmp_path)

    monkeypatch.setattr(Standby, "discard", refused)
    argv = record_argv(tmp_path / "set", 1, "--dataset.fps=30", "--dataset.num_episodes=1")
    argv = [flag for flag in argv if "session" not in flag and "type=coded" not in flag]
    said = tmp_path / "report.json"
    more = ["--robot.type=sim", "--teleop.type=sim", "--dataset.episode_time_s=0.2", f"--report={said}"]
    assert main([*argv, *more, "--robot.cameras={front: {width: 96, height: 64}}"]) == 1
    printed = capsys.readouterr()
    assert "Read-only" in printed.err
    assert "1 episode" in printed.out
    assert "Read-only" in json.loads(said.read_text())["error"]


@pytest.mark.parametrize("left", [[], [".info.json.123.aiorecord-tmp"]])
def test_a_dataset_whose_making_was_interrupted_is_made_anew(tmp_path, left):
    (tmp_path / "set/meta").mkdir(parents=True)
    for name in left:
        (tmp_path / "set/meta" / name).write_bytes(b"{")
    assert DatasetWriter.create(tmp_path / "set", fps=30, schema=Schema(FEATURES)).total_episodes == 0


def test_a_foreign_meta_folder_is_not_a_free_place(tmp_path):
    (tmp_path / "set/meta").mkdir(parents=True)
    (tmp_path / "set/meta/notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not empty"):
        DatasetWriter.create(tmp_path / "set", fps=30, schema=Schema(FEATURES))


def test_output_that_nobody_reads(monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w"))
    stream = sys.stdout
    with lasting_output():
        print("read", flush=True)
        assert os.read(reading, 100) == b"read\n"
        os.close(reading)
        print("not read", flush=True)
        print("nor this", flush=True)
    assert sys.stdout is stream
    stream.close()


WATCH = """
import asyncio, os, signal
from aiorecord.cli.stop_signals import watch_signals
from aiorecord.system.tasks import beside
async def main():
    seen = []
    async with beside(watch_signals(lambda: seen.append(1)), "watch"):
        await asyncio.sleep(0.05)
        for number in {numbers}:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
    print(len(seen))
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("numbers", "ignored", "requests"),
    [
        ([signal.SIGHUP], False, 1),
        ([signal.SIGHUP, signal.SIGHUP], False, 1),
        ([signal.SIGTERM, signal.SIGHUP], False, 1),
        ([signal.SIGHUP, signal.SIGINT], False, 2),
        ([signal.SIGHUP, signal.SIGINT], True, 1),  # under nohup
    ],
)
def test_a_closed_terminal_is_the_first_request_and_never_the_second(numbers, ignored, requests):
    code = WATCH.format(numbers=[int(number) for number in numbers])
    if ignored:
        code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(requests), done.stderr
