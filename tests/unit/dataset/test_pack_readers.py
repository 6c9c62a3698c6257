"""Packing beside programs that have the dataset open: what they learned of can still be opened."""

from __future__ import annotations

import json
import sys

import pyarrow.parquet as pq
import pytest
from faults import full_disk_at
from staged import TWO_VIDEOS, VIDEO, check_dataset, commit

from aiorecord.check.repair.repair_dataset import repair_dataset
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.exchange import other_readers, pack_journal, replaced_videos
from aiorecord.dataset.exchange.other_readers import ReaderWatch
from aiorecord.dataset.exchange.replaced_videos import RECORD, read_replaced, replaced_names
from aiorecord.dataset.format import layout
from aiorecord.dataset.format.layout import FileIndex, next_loose
from aiorecord.dataset.packing import pack as packing
from aiorecord.dataset.packing.pack import pack
from aiorecord.errors import EncodeError, StorageError
from aiorecord.features import Schema
from aiorecord.staging.sealed_json import read_sealed, write_sealed
from aiorecord.system import storage

seen_here = pytest.mark.skipif(sys.platform != "linux", reason="inotify")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "dataset"


def create(root, features=VIDEO, **options):
    writer = DatasetWriter.create(root, fps=30, schema=Schema(features), **options)
    writer.watch_readers()
    return writer


def open_again(root):
    writer = DatasetWriter.open(root)
    writer.watch_readers()
    return writer


def read_places(root):
    """What a reader does first; the videos that it opens later."""
    info = json.loads((root / "meta/info.json").read_text())
    keys = [key for key, spec in info["features"].items() if spec["dtype"] == "video"]
    rows = [r for p in sorted(root.glob("meta/episodes/*/*.parquet")) for r in pq.read_table(p).to_pylist()]
    places = [
        FileIndex(r[f"videos/{k}/chunk_index"], r[f"videos/{k}/file_index"]) for r in rows for k in keys
    ]
    return {layout.video_path(k, place) for k, place in zip(keys * len(rows), places, strict=True)}


def stored(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.glob("videos/*/*/*.mp4")}


def age(root, seconds=other_readers.GRACE_S):
    """Make what is kept so much older."""
    entries = read_sealed(root / RECORD)["files"]
    aged = [{**entry, "since_ns": entry["since_ns"] - int(seconds * 1e9)} for entry in entries]
    write_sealed(root / RECORD, {"files": aged})


def test_videos_stay_until_the_commit_after_the_grace_period(root):
    writer = create(root, TWO_VIDEOS)
    for n in range(3):
        commit(writer, n, features=TWO_VIDEOS)
    learned, before = read_places(root), stored(root)
    pack(writer)
    assert len(learned) == 6
    assert {name: stored(root)[name] for name in learned} == before
    assert replaced_names(root) == learned
    commit(writer, 3, features=TWO_VIDEOS)
    check_dataset(root, [(n, 5) for n in range(4)])
    assert replaced_names(root) == learned <= stored(root).keys()
    age(root)
    writer = open_again(root)
    assert not (root / RECORD).exists()
    assert not learned & stored(root).keys()
    check_dataset(root, [(n, 5) for n in range(4)])


def test_a_commit_deletes_them_too(root):
    writer = create(root)
    commit(writer, 0)
    learned = read_places(root)
    pack(writer)
    age(root)
    writer.rollback()  # reads the record anew, and is an opening in small
    assert not learned & stored(root).keys()
    learned = read_places(root)
    commit(writer, 1)
    pack(writer)
    writer._replaced = []
    age(root)
    writer._replaced = read_replaced(root)
    commit(writer, 2)
    assert not learned & stored(root).keys()
    check_dataset(root, [(n, 5) for n in range(3)])


@seen_here
def test_nothing_is_kept_where_nobody_has_opened_the_dataset(root):
    writer = create(root)
    for n in range(2):
        commit(writer, n)
        pack(writer)
    assert not (root / RECORD).exists()
    assert len(stored(root)) == 1


def test_the_next_session_knows_of_the_readers_of_the_one_before(root):
    writer = create(root)
    commit(writer, 0)
    read_places(root)
    pack(writer)
    writer = open_again(root)
    commit(writer, 1)
    before = stored(root)
    pack(writer)
    assert before.items() <= stored(root).items()
    check_dataset(root, [(0, 5), (1, 5)])


@pytest.mark.parametrize("why", ["another machine may read it", "no inotify"])
def test_where_readers_cannot_be_seen_everything_is_kept(root, monkeypatch, why):
    if why == "no inotify":
        monkeypatch.setattr(other_readers, "_calls", lambda: None)
    else:
        monkeypatch.setattr(other_readers, "_LOCAL", set())
    writer = create(root)
    commit(writer, 0)
    before = stored(root)
    pack(writer)
    assert replaced_names(root) == before.keys() < stored(root).keys()


def test_no_name_gets_another_content(root):
    """Readers that keep files open by name, as lerobot does, would read the old one for ever."""
    writer = create(root)
    contents = {}
    for n in range(5):
        commit(writer, n, 3 + n)
        read_places(root)
        contents.update({name: data for name, data in stored(root).items() if name not in contents})
        pack(writer)
        if n == 2:
            age(root)
        for name, data in stored(root).items():
            assert contents.setdefault(name, data) == data, name
    check_dataset(root, [(n, 3 + n) for n in range(5)])


def test_loose_numbers_go_on_and_leave_room():
    assert next_loose(None, 0) == next_loose(FileIndex(0, 0), 0) == FileIndex(900, 0)
    assert next_loose(FileIndex(0, 0), 1234) == FileIndex(901, 234)
    assert next_loose(FileIndex(901, 234), 1235) == FileIndex(901, 235)
    assert next_loose(FileIndex(0, 0), 49_999) == FileIndex(949, 999)
    assert next_loose(FileIndex(0, 0), 50_000) == FileIndex(900, 0)


def test_a_rollback_leaves_what_is_kept_and_removes_what_a_commit_left(root, monkeypatch):
    writer = create(root)
    for n in range(2):
        commit(writer, n)
    learned = read_places(root)
    pack(writer)
    with full_disk_at(9, monkeypatch) as faults, pytest.raises(StorageError):
        commit(writer, 2)
    assert faults.struck
    writer = open_again(root)
    assert learned <= stored(root).keys()
    assert len(stored(root)) == 3
    check_dataset(root, [(0, 5), (1, 5)])


@seen_here
def test_what_the_writer_reads_itself_is_no_reader(root, monkeypatch):
    writer = create(root)
    commit(writer, 0)
    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "_identity", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            commit(writer, 1)  # it counts already
    with full_disk_at(20, monkeypatch), pytest.raises(StorageError):
        pack(writer)
    pack(writer)
    assert not (root / RECORD).exists()
    check_dataset(root, [(0, 5), (1, 5)])


def test_a_packing_that_is_finished_later_keeps_them(root, monkeypatch):
    writer = create(root)
    for n in range(2):
        commit(writer, n)
    learned = read_places(root)
    monkeypatch.setattr(packing, "roll_forward", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError), monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "rollback", lambda self: None)
        pack(writer)
    open_again(root)
    assert learned <= stored(root).keys()
    assert replaced_names(root) == learned
    check_dataset(root, [(0, 5), (1, 5)])


def test_check_and_repair_know_them(root):
    writer = create(root)
    for n in range(2):
        commit(writer, n)
    learned = read_places(root)
    pack(writer)
    orphan = root / "videos/observation.images.front/chunk-000/file-077.mp4"
    orphan.write_bytes(stored(root)[min(learned)])
    result = repair_dataset(root, workers=1)
    assert result.before.codes == {"video-replaced", "video-orphan"}
    assert result.after.codes == {"video-replaced", "aside-folder"}
    assert learned <= stored(root).keys()
    assert not orphan.exists()


def test_they_do_not_fill_the_disk(root, monkeypatch):
    writer = create(root)
    for n in range(2):
        commit(writer, n)
    learned = read_places(root)
    pack(writer)
    assert replaced_names(root) == learned
    with monkeypatch.context() as patch:
        patch.setattr(replaced_videos, "FREE_SHARE", 1 << 60)
        commit(writer, 2)
        assert not learned & stored(root).keys()
        read_places(root)
        pack(writer)
        assert not (root / RECORD).exists()
    commit(writer, 3)
    read_places(root)
    pack(writer)
    kept = replaced_names(root)
    assert kept
    commit(writer, 4)
    monkeypatch.setattr(storage, "free_bytes", lambda path: 0 if (root / RECORD).exists() else 1 << 40)
    pack(writer)  # there is no room with them
    assert not kept & stored(root).keys()
    check_dataset(root, [(n, 5) for n in range(5)])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes().replace(b'"size"', b'"Size"')),
        lambda path: path.write_text("[]"),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["flipped", "another", "folder"],
)
def test_a_broken_record_deletes_nothing_that_counts(root, damage):
    writer = create(root)
    for n in range(2):
        commit(writer, n)
        read_places(root)
        pack(writer)
    writer.unwatch_readers()
    damage(root / RECORD)
    writer = open_again(root)
    commit(writer, 2)
    pack(writer)
    check_dataset(root, [(n, 5) for n in range(3)])
    writer.unwatch_readers()


@pytest.mark.parametrize("what", ["in use", "another file", "elsewhere"])
def test_a_forged_record_deletes_nothing_that_counts(root, what):
    writer = create(root)
    commit(writer, 0)
    read_places(root)
    pack(writer)
    age(root)
    (entry,) = read_sealed(root / RECORD)["files"]
    victim = root.parent / "victim.mp4"
    if what == "in use":
        (used,) = read_places(root)
        (root / used).read_bytes()
        name, victim = used, root / used
        size, crc = packing_identity(victim)
        entry |= {"size": size, "crc32": crc}
    elif what == "another file":
        name, victim = entry["name"], root / entry["name"]
        victim.unlink()  # it is the packed file too
        victim.write_bytes(b"something else")
    else:
        name = "videos/observation.images.front/../../../victim.mp4"
        victim.write_bytes(b"x")
    write_sealed(root / RECORD, {"files": [{**entry, "name": name}]})
    content = victim.read_bytes()
    open_again(root)
    # What no episode refers to and no record names is a leftover of a commit, as ever.
    assert what == "another file" or victim.read_bytes() == content
    check_dataset(root, [(0, 5)])


def packing_identity(path):
    from aiorecord.dataset.exchange.replaced_videos import _identity

    return _identity(path)


@seen_here
def test_tables_are_exchanged_when_nobody_is_between_listing_and_opening_them(root, monkeypatch):
    writer = create(root)
    commit(writer, 0)
    read_places(root)
    tables = [*root.glob("data/*/*.parquet"), *root.glob("meta/episodes/*/*.parquet")] * 2
    watch, waits, really = writer.readers, [], other_readers.select.select

    def opened_meanwhile(*arguments):
        waits.append(arguments[-1])
        if tables:
            tables.pop().read_bytes()
        return really(*arguments)

    monkeypatch.setattr(other_readers.select, "select", opened_meanwhile)
    monkeypatch.setattr(other_readers, "LIMIT_S", 1e6)
    watch.wait_until_quiet()
    assert not tables
    assert len(waits) == 5
    monkeypatch.setattr(other_readers, "LIMIT_S", 0.05)
    tables = [next(root.glob("data/*/*.parquet"))] * 1_000_000
    watch.wait_until_quiet()  # a reader that never stops is not waited for without end
    assert tables


@seen_here
def test_nobody_waits_where_nobody_reads(root, monkeypatch):
    monkeypatch.setattr(other_readers.select, "select", lambda *args: pytest.fail("waits"))
    monkeypatch.setattr(other_readers.time, "sleep", lambda seconds: pytest.fail("waits"))
    writer = create(root)
    for n in range(2):
        commit(writer, n)
        pack(writer)


@seen_here
def test_the_watch_of_a_dataset_that_was_there_waits_for_who_began_before_it(root, monkeypatch):
    commit(DatasetWriter.create(root, fps=30, schema=Schema(VIDEO)), 0)
    slept = []
    monkeypatch.setattr(other_readers.time, "sleep", slept.append)
    ReaderWatch(root).wait_until_quiet()
    assert len(slept) == 1
    assert 0 < slept[0] <= other_readers.QUIET_S


def test_a_journal_that_the_disk_does_not_give_is_no_damage(root, monkeypatch):
    writer = create(root)
    commit(writer, 0)
    (root / pack_journal.PACK_FOLDER).mkdir(parents=True)
    (root / pack_journal.PACK_FOLDER / "journal.json").write_text("{}")

    def refuse(path, **options):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(storage, "read_json", refuse)
    with pytest.raises(StorageError, match=r"journal\.json"):
        pack_journal.roll_forward(root)


def test_a_group_that_does_not_fit_together_leaves_the_next_to_the_next_round(root, monkeypatch):
    writer = DatasetWriter.create(root, fps=30, schema=Schema(VIDEO), video_files_size_in_mb=0.006)
    contents = [(0, 5)]
    commit(writer, 0)
    pack(writer)
    for n in range(1, 8):
        contents.append((n, 5))
        commit(writer, n)
    really, failed = packing.concat_videos, []

    def fail_once(*arguments):
        if not failed:
            failed.append(arguments)
            raise EncodeError("does not fit")
        return really(*arguments)

    monkeypatch.setattr(packing, "concat_videos", fail_once)
    pack(writer)
    assert failed
    check_dataset(root, contents)
