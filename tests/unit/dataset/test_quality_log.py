"""meta/aiorecord/episodes.jsonl: written with the commit, rolled back with it, and never in the way."""

import json
import os
import shutil

import numpy as np
import pytest
from faults import Killed, dying_after
from hypothesis import given
from hypothesis import strategies as st
from staged import EVERYTHING, VIDEO, check_dataset, commit, stage

from aiorecord.dataset.commit import writer as committing
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.format import quality_log
from aiorecord.encoding.encoded import EncodedEpisode
from aiorecord.errors import StorageError
from aiorecord.features import Schema
from aiorecord.quality import EpisodeQuality
from aiorecord.staging.folder import EpisodeFolder, Staging

FRONT = "observation.images.front"


def create(root, features=VIDEO):
    return DatasetWriter.create(root, fps=30, schema=Schema(features))


def path_of(root):
    return root / quality_log.PATH


def line(index, **changes):
    values = {"episode_index": index, "episode_id": f"{index:06d}-aa", "length": 3, "tasks": [], "fps": 30}
    return EpisodeQuality(**(values | changes)).to_line()


def write(root, content):
    path_of(root).parent.mkdir(parents=True, exist_ok=True)
    path_of(root).write_bytes(content)


def indices(root):
    return [json.loads(text)["episode_index"] for text in path_of(root).read_bytes().splitlines()]


def test_a_line_per_commit(tmp_path):
    writer = create(tmp_path, EVERYTHING)
    for episode in range(3):
        commit(writer, episode, 4 + episode, features=EVERYTHING, task=f"Task {episode}")
    records, problems = quality_log.read(tmp_path)
    assert problems == []
    assert list(records) == [0, 1, 2]
    first = records[0]
    assert (first.length, first.tasks, first.fps, first.interrupted) == (4, ["Task 0"], 30, False)
    assert first.effective_fps == pytest.approx(30.303, abs=0.001)  # the staged rows are 33 ms apart
    assert first.lateness["source"] == "rows"
    visual = {key for key, spec in EVERYTHING.items() if spec["dtype"] in ("video", "image")}
    assert set(first.encode) == set(first.cameras) == visual
    assert first.encode[FRONT]["codec"] == "h264"
    assert first.encode["observation.images.still"]["codec"] == "png"
    assert first.cameras[FRONT].captured == 4
    assert (first.cameras[FRONT].lost, first.cameras[FRONT].repeated) == (0, None)


def test_committing_again_adds_no_line(tmp_path):
    writer = create(tmp_path)
    folder, encoded = stage(tmp_path)
    writer.commit(folder, encoded)
    writer.commit(folder, encoded)
    assert indices(tmp_path) == [0]


def test_killed_after_every_change_the_record_is_that_of_the_dataset(tmp_path, monkeypatch):
    prepared = tmp_path / "prepared"
    writer = create(prepared)
    commit(writer, 0, 3)
    stage(prepared, 9, 4)
    counts = set()
    for changes in range(100):
        root = tmp_path / f"dataset-{changes}"
        shutil.copytree(prepared, root)
        writer = DatasetWriter.open(root)
        [path] = Staging(root).episode_paths()
        folder = EpisodeFolder.load(path)
        with dying_after(changes, monkeypatch) as faults:
            try:
                writer.commit(folder, EncodedEpisode.load(folder))
            except Killed:
                assert faults.struck
        total = json.loads((root / "meta/info.json").read_text())["total_episodes"]
        counts.add((total, len(indices(root))))
        writer = DatasetWriter.open(root)
        assert indices(root) == list(range(total))
        writer.commit(folder, EncodedEpisode.load(folder))
        assert indices(root) == [0, 1]
        if not faults.struck:
            break
    assert not faults.struck
    assert counts == {(1, 1), (1, 2), (2, 2)}  # also killed between the line and info.json


def test_a_failed_commit_takes_its_line_back(tmp_path, monkeypatch):
    writer = create(tmp_path)
    commit(writer, 0)
    monkeypatch.setattr(committing, "write_info", full)
    with pytest.raises(StorageError):
        commit(writer, 1)
    assert indices(tmp_path) == [0]


def full(*_):
    raise StorageError("No space left on device")


def test_the_first_line_of_a_failed_commit_takes_the_file_with_it(tmp_path, monkeypatch):
    writer = create(tmp_path)
    monkeypatch.setattr(committing, "write_info", full)
    with pytest.raises(StorageError):
        commit(writer, 0)
    assert not path_of(tmp_path).exists()


@given(keep=st.integers(0, 5), lines=st.integers(0, 5), cut=st.integers(0, 400))
def test_rolling_back_keeps_what_counts_wherever_the_file_ends(tmp_path_factory, keep, lines, cut):
    root = tmp_path_factory.mktemp("set")
    whole = [line(index, facts={"text": "x" * 30 * index}) for index in range(lines)]
    content = b"".join(whole)
    content = content[: max(0, len(content) - cut)]
    write(root, content)
    quality_log.roll_back(root, keep)
    left = path_of(root).read_bytes() if path_of(root).exists() else b""
    assert content.startswith(left)
    complete = [
        text for text, first in zip(content.splitlines(), whole, strict=False) if text + b"\n" == first
    ]
    assert left.splitlines() == [t for t in complete if json.loads(t)["episode_index"] < keep]
    quality_log.append(root, EpisodeQuality.parse(line(keep)))
    assert list(quality_log.read(root)[0]) == [*[i for i in range(len(complete)) if i < keep], keep]


def test_rolling_back_reads_the_end_only(tmp_path, monkeypatch):
    """A record of ten thousand episodes costs what one of ten does."""
    write(tmp_path, b"".join(line(index) for index in range(10_000)))
    read = []
    real = quality_log._episode_index
    monkeypatch.setattr(quality_log, "_episode_index", lambda text: read.append(text) or real(text))
    assert quality_log.roll_back(tmp_path, 9_998) == [path_of(tmp_path)]
    assert len(read) == 3
    assert quality_log.roll_back(tmp_path, 9_998) == []
    assert len(quality_log.read(tmp_path)[0]) == 9_998


@pytest.mark.parametrize(
    "content", [b"\n", b"not JSON\n", b'{"a": 1}\n', b"[1]\n", b"\xff\xfe\n", b"{}\n" * 3]
)
def test_what_others_wrote_is_left_alone_and_in_nobodys_way(tmp_path, content):
    writer = create(tmp_path)
    write(tmp_path, content)
    for episode in range(2):
        commit(writer, episode)
    assert path_of(tmp_path).read_bytes().startswith(content)
    DatasetWriter.open(tmp_path)
    records, problems = quality_log.read(tmp_path)
    assert list(records) == [0, 1]
    assert len(problems) == content.count(b"\n")
    check_dataset(tmp_path, [(0, 5), (1, 5)])


def test_a_line_without_its_end_does_not_swallow_the_next(tmp_path):
    write(tmp_path, line(0)[:-1])
    quality_log.append(tmp_path, EpisodeQuality.parse(line(1)))
    assert list(quality_log.read(tmp_path)[0]) == [0, 1]


def test_a_foreign_line_that_is_too_long(tmp_path):
    huge = b'{"x": "' + b"y" * (3 * quality_log.MAX_LINE_BYTES) + b'"}'
    write(tmp_path, line(0) + huge + b"\n" + line(1) + huge)
    assert quality_log.roll_back(tmp_path, 2) == []
    records, problems = quality_log.read(tmp_path)
    assert list(records) == [0, 1]
    assert len(problems) == 2
    assert "longer than" in problems[0]


def test_without_a_record_the_dataset_goes_on(tmp_path):
    """A dataset of lerobot, or one whose record somebody deleted."""
    writer = create(tmp_path)
    commit(writer, 0)
    shutil.rmtree(path_of(tmp_path).parent)
    assert quality_log.read(tmp_path) == ({}, [])
    writer = DatasetWriter.open(tmp_path)
    commit(writer, 1)
    assert list(quality_log.read(tmp_path)[0]) == [1]
    check_dataset(tmp_path, [(0, 5), (1, 5)])


@pytest.mark.parametrize("kind", ["folder", "link", "linked folder", "file for a folder", "pipe"])
def test_nothing_is_written_through_what_is_no_file(tmp_path, kind, caplog):
    root, outside = tmp_path / "set", tmp_path / "outside"
    writer = create(root)
    path, victim = path_of(root), outside / "episodes.jsonl"
    shutil.rmtree(path.parent)
    outside.mkdir()
    victim.write_bytes(b"precious\n")
    if kind == "linked folder":
        path.parent.symlink_to(outside)
    elif kind == "file for a folder":
        path.parent.write_bytes(b"x")
    else:
        path.parent.mkdir(parents=True)
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(victim)
        else:
            os.mkfifo(path)
    commit(writer, 0)
    assert "is not noted" in caplog.text
    assert victim.read_bytes() == b"precious\n"
    DatasetWriter.open(root)
    assert victim.read_bytes() == b"precious\n"
    assert quality_log.read(root)[1]
    assert [entry.name for entry in outside.iterdir()] == ["episodes.jsonl"]
    check_dataset(root, [(0, 5)])


@pytest.mark.parametrize(
    "quality",
    [
        {"cameras": 3, "lateness": "x", "versions": [1], "calls": {"a": 1}, "limits": {"nope": 1}},
        {"cameras": {FRONT: {"captured": -1}}, "started_unix_ns": 10**30, "limits": {"max_repeats": -2}},
        {"cameras": {FRONT: {"captured": 5, "repeated": "many"}}, "started_unix_ns": "now", "limits": 7},
        {"lateness": {"p50_ms": float("nan")}},
        {"note": "\ud800"},
        {"note": "x" * (2 * quality_log.MAX_LINE_BYTES)},
        {"limits": {"max_late_ms": 1, "max_repeats": None}, "lateness": {"worst_ms": "late"}},
    ],
)
def test_a_manifest_may_say_anything(tmp_path, quality):
    """Facts come back from disk; the episode is committed whatever became of them."""
    writer = create(tmp_path)
    folder, encoded = stage(tmp_path)
    manifest = json.loads((folder.path / "manifest.json").read_text())
    del manifest["crc32"]
    manifest["version"] = 1  # which had no checksum
    (folder.path / "manifest.json").write_text(json.dumps(manifest | {"quality": quality}))
    writer.commit(EpisodeFolder.load(folder.path), encoded)
    records, problems = quality_log.read(tmp_path)
    assert (list(records), problems) == ([0], [])
    assert records[0].cameras[FRONT].captured == 5


def test_rows_beyond_the_kept_frames_are_lost_ones(tmp_path):
    """A salvaged episode: three rows had no frames on disk."""
    writer = create(tmp_path)
    folder, encoded = stage(tmp_path, length=5, rows=8)
    folder.manifest.interrupted = True
    folder.save()
    writer.commit(folder, encoded)
    record = quality_log.read(tmp_path)[0][0]
    assert record.interrupted
    assert (record.cameras[FRONT].captured, record.cameras[FRONT].lost) == (8, 3)


def test_lateness_of_rows():
    times = np.array([0, 100, 250, 300, 1000]) * 1_000_000
    late = quality_log.lateness_of_rows(times, 10)
    assert (late["ticks"], late["late"], late["missed"]) == (5, 2, 7)
    assert (late["max_ms"], late["worst_ms"], late["source"]) == (600, 600, "rows")
    assert quality_log.lateness_of_rows(times[:1], 10) == {}
    assert quality_log.effective_fps(times) == 4
    assert quality_log.effective_fps(times[:1]) is None
    assert quality_log.effective_fps(times[[0, 0]]) is None


def test_the_newest_line_of_an_episode_counts(tmp_path):
    write(tmp_path, line(0, length=3) + line(1) + line(0, length=7) + line(5))
    records, _ = quality_log.read(tmp_path, total_episodes=2)
    assert {index: record.length for index, record in records.items()} == {0: 7, 1: 3}
