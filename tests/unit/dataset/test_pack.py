from __future__ import annotations

import errno
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from staged import (
    ENCODER,
    EVERYTHING,
    TWO_VIDEOS,
    VECTORS,
    VIDEO,
    check_dataset,
    commit,
    stage,
    tree,
    write_video,
)

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.exchange import swap_folders
from aiorecord.dataset.format import numbered_files
from aiorecord.dataset.format.episodes import read_ids
from aiorecord.dataset.packing.pack import PackResult, pack
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.errors import DatasetError, StorageError
from aiorecord.features import Schema
from aiorecord.system import storage

SMALL = {"data_files_size_in_mb": 1, "video_files_size_in_mb": 1}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "dataset"


def create(root, features=VIDEO, **options):
    return DatasetWriter.create(root, fps=30, schema=Schema(features), **options)


def loose(root):
    return [path for path in tree(root) if "chunk-9" in path]


@pytest.mark.parametrize(
    "features", [VECTORS, TWO_VIDEOS, EVERYTHING], ids=["vectors", "videos", "everything"]
)
def test_everything_becomes_one_file_of_each_kind(root, features):
    writer = create(root, features)
    contents = [(0, 5), (1, 1), (2, 7)]
    for content, length in contents:
        commit(writer, content, length, features=features)
    result = pack(writer)
    assert not loose(root)
    check_dataset(root, contents)
    videos = [key for key, spec in features.items() if spec["dtype"] == "video"]
    assert tree(root) == sorted(
        [
            "data/chunk-000/file-000.parquet",
            "meta/episodes/chunk-000/file-000.parquet",
            *("meta/aiorecord/dataset.json", "meta/aiorecord/episodes.jsonl"),
            *("meta/info.json", "meta/stats.json", "meta/tasks.parquet"),
            *(f"videos/{key}/chunk-000/file-000.mp4" for key in videos),
        ]
    )
    assert not (root / ".aiorecord/pack").exists()
    assert result == PackResult(1, len(videos), 3 * (1 + len(videos)), result.bytes, 1)
    with pq.ParquetFile(root / "data/chunk-000/file-000.parquet") as data:
        assert [data.metadata.row_group(n).num_rows for n in range(data.num_row_groups)] == [5, 1, 7]
        assert b"huggingface" in data.schema_arrow.metadata


def test_times_are_exact(root):
    writer = create(root)
    lengths = [7, 11, 13, 3]
    for episode, length in enumerate(lengths):
        commit(writer, episode, length)
    pack(writer)
    table = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet")
    starts = [sum(lengths[:n]) for n in range(5)]
    key = "videos/observation.images.front"
    assert table[f"{key}/from_timestamp"].to_pylist() == [start / 30 for start in starts[:-1]]
    assert table[f"{key}/to_timestamp"].to_pylist() == [start / 30 for start in starts[1:]]


def test_nothing_to_pack(root):
    writer = create(root)
    assert pack(writer) == PackResult()
    commit(writer, 0)
    pack(writer)
    before = tree(root)
    assert pack(writer) == PackResult()
    assert tree(root) == before
    assert not (root / ".aiorecord/pack").exists()


def test_recording_goes_on_after_packing(root):
    writer = create(root)
    contents = []
    for session in range(6):
        for _ in range(2):
            contents.append((len(contents), 3 + session))
            commit(writer, *contents[-1])
        check_dataset(root, contents)
        pack(writer)
        assert not loose(root)
        check_dataset(root, contents)
    writer = DatasetWriter.open(root)
    commit(writer, 99, 2)
    check_dataset(root, [*contents, (99, 2)])


def test_packed_files_are_extended_by_what_is_at_least_half_as_much(root):
    writer = create(root, VECTORS)
    for episode in range(3):
        commit(writer, episode, 4)
    pack(writer)
    commit(writer, 3, 400)
    pack(writer)
    check_dataset(root, [(0, 4), (1, 4), (2, 4), (3, 400)])
    data = [path for path in tree(root) if path.startswith("data")]
    assert data == ["data/chunk-000/file-000.parquet"]
    commit(writer, 4, 1)
    before = (root / data[0]).stat().st_ino
    pack(writer)
    assert (root / data[0]).stat().st_ino == before
    check_dataset(root, [(0, 4), (1, 4), (2, 4), (3, 400), (4, 1)])


def test_files_end_at_their_size(root):
    limit = 12 * 1024 / 2**20
    writer = create(root, data_files_size_in_mb=limit, video_files_size_in_mb=limit, chunks_size=2)
    contents = [(episode, 20) for episode in range(9)]
    for content in contents:
        commit(writer, *content)
    sizes = {path: (root / path).stat().st_size for path in tree(root) if "chunk-9" in path}
    result = pack(writer)
    check_dataset(root, contents)
    assert result.rounds > 1
    packed = [path for path in tree(root) if path.startswith(("data", "videos"))]
    assert "data/chunk-001/file-000.parquet" in packed
    assert not any("file-002" in path for path in packed)
    for path in packed:
        assert (root / path).stat().st_size < 1.2 * limit * 2**20
    assert sum(sizes.values()) > 0


def test_progress_counts_bytes(root):
    limit = 12 * 1024 / 2**20
    writer = create(root, data_files_size_in_mb=limit, video_files_size_in_mb=limit)
    for episode in range(6):
        commit(writer, episode, 20)
    size = sum((root / path).stat().st_size for path in loose(root))
    seen = []
    pack(writer, lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)
    assert len(seen) > 2


def test_another_encoder_begins_a_new_file(root):
    writer = create(root)
    other = RGBEncoderConfig(vcodec="h264", crf=18, preset="veryfast")
    contents = [(episode, 4) for episode in range(6)]
    for content, length in contents:
        commit(writer, content, length, encoder=other if content in (2, 3) else ENCODER)
    pack(writer)
    check_dataset(root, contents)
    assert [path for path in tree(root) if path.startswith("videos")] == [
        f"videos/observation.images.front/chunk-000/file-00{n}.mp4" for n in range(3)
    ]


def test_a_video_with_other_frames_than_rows_is_left_as_it_is(root):
    """lerobot drops frames when it is overloaded; its files are moved, never joined."""
    writer = create(root)
    for episode in range(3):
        commit(writer, episode, 4)
    path = root / "videos/observation.images.front/chunk-900/file-001.mp4"
    path.unlink()
    write_video(path, [50, 60, 70], 30, ENCODER)
    content = path.read_bytes()
    pack(writer)
    assert not loose(root)
    assert (root / "videos/observation.images.front/chunk-000/file-001.mp4").read_bytes() == content
    table = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet")
    assert table["videos/observation.images.front/from_timestamp"].to_pylist() == [0, 0, 0]
    assert table["videos/observation.images.front/file_index"].to_pylist() == [0, 1, 2]


def test_times_of_another_writer_are_kept(root):
    writer = create(root)
    for episode in range(2):
        commit(writer, episode, 4)
    path = root / "meta/episodes/chunk-900/file-000.parquet"
    table = pq.read_table(path)
    name = "videos/observation.images.front/to_timestamp"
    changed = [0.1, 4 / 30]
    table = table.set_column(table.column_names.index(name), name, [changed])
    with storage.replacing(path) as temporary:
        pq.write_table(table, temporary)
    pack(DatasetWriter.open(root))
    after = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet")
    assert after[name].to_pylist() == changed
    assert after["videos/observation.images.front/file_index"].to_pylist() == [0, 1]


def test_other_things_in_the_folders_stay(root):
    writer = create(root)
    commit(writer, 0)
    (root / "data/README.md").write_text("mine")
    (root / "meta/episodes/notes").mkdir()
    (root / "meta/episodes/notes/a.txt").write_text("mine too")
    pack(writer)
    assert (root / "data/README.md").read_text() == "mine"
    assert (root / "meta/episodes/notes/a.txt").read_text() == "mine too"


def test_an_episode_in_staging_is_still_known_to_be_committed(root):
    writer = create(root)
    kept, encoded = stage(root)
    writer.commit(kept, encoded)
    commit(writer, 1)
    failed, _ = stage(root, 5)
    (failed.path / "commit.json").write_bytes((kept.path / "commit.json").read_bytes())
    pack(writer)
    ids = read_ids(root / "meta/episodes/chunk-000/file-000.parquet")
    assert (ids[0], list(ids)) == (kept.id, [0, 1])
    for reader in (writer, DatasetWriter.open(root)):
        assert reader.is_committed(kept) == 0
        assert reader.is_committed(failed) is None


def test_without_hard_links(root, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(numbered_files.os, "link", refuse)
    limit = 12 * 1024 / 2**20
    writer = create(root, data_files_size_in_mb=limit, video_files_size_in_mb=limit)
    contents = [(episode, 20) for episode in range(6)]
    for content in contents:
        commit(writer, *content)
    assert pack(writer).rounds == 1
    check_dataset(root, contents)
    assert not loose(root)


def test_where_folders_cannot_be_swapped(root, monkeypatch):
    monkeypatch.setattr(swap_folders, "swap", lambda a, b: False)
    writer = create(root)
    for episode in range(3):
        commit(writer, episode)
    pack(writer)
    check_dataset(root, [(episode, 5) for episode in range(3)])
    assert not loose(root)


def test_swap_reports_what_the_disk_refuses(tmp_path):
    (tmp_path / "a").mkdir()
    try:
        with pytest.raises(FileNotFoundError):
            swap_folders.swap(tmp_path / "a", tmp_path / "b")
    except pytest.fail.Exception:
        if swap_folders.swap(tmp_path / "a", tmp_path / "b"):
            raise
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x").write_text("")
    if swap_folders.swap(tmp_path / "a", tmp_path / "b"):
        assert os.listdir(tmp_path / "a") == ["x"]


def test_no_room(root, monkeypatch):
    writer = create(root)
    commit(writer, 0)
    before = tree(root)
    monkeypatch.setattr(storage, "free_bytes", lambda path: 1000)
    with pytest.raises(StorageError, match="MB of free space"):
        pack(writer)
    assert tree(root) == before
    monkeypatch.undo()
    commit(writer, 1)
    check_dataset(root, [(0, 5), (1, 5)])


def test_a_linked_folder_is_refused(root, tmp_path):
    writer = create(root)
    commit(writer, 0)
    (root / "data").rename(tmp_path / "elsewhere")
    (root / "data").symlink_to(tmp_path / "elsewhere")
    before = tree(root)
    with pytest.raises(DatasetError, match="symbolic link"):
        pack(writer)
    assert tree(root) == before
    with pytest.raises(DatasetError, match="symbolic link"):
        DatasetWriter.open(root)
    check_dataset(root, [(0, 5)])


def test_a_missing_file(root):
    writer = create(root)
    for episode in range(2):
        commit(writer, episode)
    (root / "videos/observation.images.front/chunk-900/file-000.mp4").unlink()
    with pytest.raises(StorageError, match="file-000"):
        pack(writer)


def test_rows_that_do_not_add_up(root):
    writer = create(root)
    for episode in range(2):
        commit(writer, episode)
    path = root / "data/chunk-900/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 3), path)
    with pytest.raises(DatasetError, match="3 rows"):
        pack(writer)
    pq.write_table(table, path)
    pack(writer)
    check_dataset(root, [(0, 5), (1, 5)])


@pytest.mark.parametrize("text", ["", "[]", '{"token": "a", "removed": ["../../etc/passwd"]}'])
def test_a_broken_journal_stops_everything(root, text):
    commit(create(root), 0)
    (root / ".aiorecord/pack").mkdir(parents=True)
    (root / ".aiorecord/pack/journal.json").write_text(text)
    with pytest.raises(DatasetError, match="journal"):
        DatasetWriter.open(root)


def test_row_groups_of_another_writer_become_one_per_episode(root):
    writer = create(root, VECTORS)
    for episode in range(4):
        commit(writer, episode, 5)
    # Two episodes in one file, in row groups of three rows.
    paths = sorted(root.glob("data/*/*"))
    both = pa.concat_tables([pq.read_table(path) for path in paths[:2]])
    pq.write_table(both, paths[0], row_group_size=3)
    paths[1].unlink()
    path = root / "meta/episodes/chunk-900/file-000.parquet"
    table = pq.read_table(path)
    table = table.set_column(4, "data/file_index", [[0, 0, 2, 3]])
    pq.write_table(table, path)
    pack(DatasetWriter.open(root))
    check_dataset(root, [(episode, 5) for episode in range(4)])
    with pq.ParquetFile(root / "data/chunk-000/file-000.parquet") as data:
        assert [data.metadata.row_group(n).num_rows for n in range(data.num_row_groups)] == [5] * 4
    assert json.loads((root / "meta/info.json").read_text())["total_episodes"] == 4
