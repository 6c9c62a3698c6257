"""`aiorecord recover` on what a killed recording left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from judged import check_content, recover, tree_hash
from killed_recording import ENDED, FRAMES

from aiorecord.cli import main
from aiorecord.dataset.commit.lock import DatasetLock
from aiorecord.dataset.format.quality_log import read as read_quality
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.rows import RowsJournal

CAMERA = "observation.images.front"


def running(root):
    """The interrupted episode's folder."""
    return EpisodeFolder.load(Staging(root).episode_paths()[ENDED])


def whole_frames(report):
    """What recovery kept of it: all, or all but the frame that the muxer held."""
    interrupted = report["episodes"][ENDED]
    assert interrupted["found"] == "interrupted"
    assert FRAMES - 1 <= interrupted["frames"] <= FRAMES
    assert interrupted["frames"] + interrupted["lost"] == FRAMES
    return interrupted["frames"]


def test_everything_is_finished_and_said(killed, capsys):
    code, report = recover(killed, capsys=capsys)
    kept = whole_frames(report)
    lost = FRAMES - kept
    assert code == report["exit_code"] == (3 if lost else 0)
    assert report["lost_frames"] == lost
    found = [(e["found"], e["step"], e["episode_index"]) for e in report["episodes"]]
    assert found == [
        ("complete", "save", 0),
        ("complete", "save", 1),
        ("interrupted", "save", 2),
        ("empty", "remove", None),
    ]
    if lost:
        assert report["episodes"][ENDED]["missing"] == {CAMERA: lost}
    check_content(killed, [FRAMES, FRAMES, kept])
    assert not (killed / ".aiorecord").exists()
    records, problems = read_quality(killed)
    assert not problems
    assert [records[n].interrupted for n in range(3)] == [False, False, True]
    assert records[2].facts["salvaged"]["lost"] == lost


def test_a_second_run_has_nothing_to_do(killed, capsys):
    recover(killed, capsys=capsys)
    before = tree_hash(killed)
    assert main(["recover", str(killed)]) == 0
    assert "nothing to recover" in capsys.readouterr().out
    assert tree_hash(killed) == before


def test_a_dry_run_writes_nothing_and_says_the_same(killed, capsys):
    before = tree_hash(killed)
    code, would = recover(killed, "--dry-run", capsys=capsys)
    assert tree_hash(killed) == before
    did, report = recover(killed, capsys=capsys)
    assert code == did
    assert would["episodes"] == report["episodes"]
    for name in ("lost_frames", "total_episodes", "total_frames", "exit_code"):
        assert would[name] == report[name]


def test_the_table_names_every_episode(killed, capsys):
    main(["recover", str(killed), "--dry-run"])
    out = capsys.readouterr().out
    for path in Staging(killed).episode_paths():
        assert path.name in out
    assert "leave in staging" not in out
    assert "the frames that reached the disk" in out


def test_dropping_says_how_many_frames(killed, capsys):
    code, report = recover(killed, "--partial=drop", capsys=capsys)
    dropped = report["episodes"][ENDED]
    assert (code, dropped["step"], dropped["episode_index"]) == (0, "drop", None)
    assert dropped["frames"] >= FRAMES - 1
    check_content(killed, [FRAMES, FRAMES])
    assert not (killed / ".aiorecord").exists()


def test_what_is_left_in_staging_is_untouched_and_can_be_kept_later(killed, capsys):
    path = running(killed).path
    before = tree_hash(path)
    for _ in range(2):
        code, report = recover(killed, "--partial=stage", capsys=capsys)
        assert code == 0
        assert tree_hash(path) == before
        check_content(killed, [FRAMES, FRAMES])
    assert [e["step"] for e in report["episodes"]] == ["stage"]
    code, report = recover(killed, capsys=capsys)
    assert report["episodes"][0]["episode_index"] == 2
    check_content(killed, [FRAMES, FRAMES, report["episodes"][0]["frames"]])


def test_a_copy_elsewhere_with_the_lock_of_a_dead_stranger(killed, tmp_path, capsys):
    copy = tmp_path / "other machine" / "copied set"
    shutil.copytree(killed, copy)
    shutil.rmtree(killed)
    lock = copy / ".aiorecord/lock"
    lock.write_text(json.dumps({"pid": 1, "host": "another-host", "started": 0}))
    assert recover(copy, "--dry-run", capsys=capsys)[0] in (0, 3)
    code, report = recover(copy, capsys=capsys)
    assert code in (0, 3)
    check_content(copy, [FRAMES, FRAMES, whole_frames(report)])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and users")
def test_a_copy_from_a_read_only_medium(killed, tmp_path):
    """Run as an ordinary user: root may write everywhere."""
    (killed / "meta/aiorecord").mkdir(exist_ok=True)
    (killed / "meta/aiorecord/episodes.jsonl").touch()
    for path in [killed, *killed.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    nobody = 65534
    if os.geteuid() == 0:
        for path in [killed, *killed.rglob("*")]:
            os.chown(path, nobody, nobody)
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
    program = (
        "import os, sys\n"
        "import aiorecord.cli.commands.recover\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from aiorecord.saving import saver\n"
        "from aiorecord.cli import main\n"
        "saver.WorkerPool = ThreadPoolExecutor\n"
        "if os.geteuid() == 0:\n"
        f"    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})\n"
        "sys.exit(main(['recover', sys.argv[1], '--no-pack']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(killed)], capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    total = json.loads((killed / "meta/info.json").read_text())["total_frames"]
    check_content(killed, [FRAMES, FRAMES, total - 2 * FRAMES])


def test_a_dataset_that_is_being_recorded_is_left_alone(killed, capsys):
    before = tree_hash(killed / "meta")
    with DatasetLock(killed):
        for flags in ((), ("--dry-run",)):
            code, said = recover(killed, *flags, capsys=capsys)
            assert code == 1
            assert "being written" in said["stderr"]
    assert tree_hash(killed / "meta") == before


@pytest.mark.parametrize("argv", [[], ["a", "b"], ["x", "--partial=some"], ["x", "--encode_workers=0"]])
def test_wrong_usage(argv, capsys):
    assert main(["recover", *argv]) == 2


def test_no_dataset_gets_no_files(tmp_path, capsys):
    for root in (tmp_path, tmp_path / "missing"):
        for flags in ([], ["--dry-run"]):
            assert main(["recover", str(root), *flags]) == 1
    assert not list(tmp_path.iterdir())


def test_an_unreadable_manifest_is_described_and_kept(killed, capsys):
    path = Staging(killed).episode_paths()[0]
    manifest = path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    before = tree_hash(path)
    for flags in (("--dry-run",), (), ()):
        code, report = recover(killed, *flags, capsys=capsys)
        assert code == 1
        [kept] = [e for e in report["episodes"] if e["found"] == "unreadable"]
        assert kept["step"] == "stage"
        assert f"{FRAMES} rows" in kept["note"]
        assert f"{CAMERA}.frames: {FRAMES} frames" in kept["note"]
        assert tree_hash(path) == before
    check_content(killed, [FRAMES, report["total_frames"] - FRAMES], contents=[1, 2])


def test_much_footage_without_rows_is_damage_and_kept(killed, capsys):
    folder = running(killed)
    folder.rows_path.write_bytes(b"\0" * 100)
    folder.manifest.fps = 1  # so that its frames are more than a kill explains
    folder.save()
    before = tree_hash(folder.path)
    code, report = recover(killed, capsys=capsys)
    assert code == 1
    kept = report["episodes"][ENDED]
    assert (kept["found"], kept["step"]) == ("damaged", "stage")
    assert "rows" in kept["note"]
    assert tree_hash(folder.path) == before


def test_less_than_a_second_without_rows_is_lost_and_counted(killed, capsys):
    folder = running(killed)
    # What a kill leaves before the first flush.
    folder.rows_path.unlink()
    RowsJournal(folder.rows_path, folder.manifest.schema()).abandon()
    (folder.path / "synced.log").unlink(missing_ok=True)
    del folder.manifest.quality["started_unix_ns"]
    folder.save()
    code, report = recover(killed, capsys=capsys)
    gone = report["episodes"][ENDED]
    assert (code, gone["step"], gone["frames"]) == (3, "remove", 0)
    assert report["lost_frames"] == gone["lost"] >= FRAMES - 1
    assert gone["missing"]["rows"] == gone["lost"]


class TestALostInfo:
    def test_is_made_anew_while_nothing_depends_on_it(self, killed, capsys):
        info = (killed / "meta/info.json").read_bytes()
        (killed / "meta/info.json").unlink()
        before = tree_hash(killed)
        assert recover(killed, "--dry-run", capsys=capsys)[0] in (0, 3)
        assert tree_hash(killed) == before
        code, report = recover(killed, capsys=capsys)
        assert code in (0, 3)
        assert "rebuilt" in report["notes"][0]
        check_content(killed, [FRAMES, FRAMES, whole_frames(report)])
        old, new = json.loads(info), json.loads((killed / "meta/info.json").read_text())
        for name in ("fps", "robot_type", "chunks_size", "data_files_size_in_mb", "codebase_version"):
            assert old[name] == new[name]
        assert old["features"].keys() == new["features"].keys()

    def test_also_in_the_middle_of_the_first_commit(self, killed, capsys):
        copy = killed.with_name("before")
        shutil.copytree(killed, copy)
        recover(killed, "--no-pack", capsys=capsys)
        shutil.rmtree(killed / ".aiorecord", ignore_errors=True)
        # Everything that the three commits wrote, their episodes still in staging, and no info.json.
        shutil.copytree(copy / ".aiorecord", killed / ".aiorecord")
        for index, path in enumerate(Staging(killed).episode_paths()[: ENDED + 1]):
            intent = {"episode_index": index, "from_index": index * FRAMES, "length": FRAMES}
            (path / "commit.json").write_text(json.dumps(intent))
        (killed / "meta/info.json").unlink()
        code, report = recover(killed, capsys=capsys)
        assert code in (0, 3), report
        check_content(killed, [FRAMES, FRAMES, whole_frames(report)])

    def test_is_not_made_up_where_episodes_depend_on_it(self, killed, capsys):
        recover(killed, "--partial=stage", capsys=capsys)
        (killed / "meta/info.json").unlink()
        before = tree_hash(killed)
        for flags in ((), ("--dry-run",)):
            code, said = recover(killed, *flags, capsys=capsys)
            assert code == 1
            assert "not in staging" in said["stderr"]
            assert tree_hash(killed) == before
