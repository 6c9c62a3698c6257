from __future__ import annotations

import pytest

from aiorecord.dataset.format.layout import (
    FileIndex,
    data_path,
    episodes_path,
    next_loose,
    next_packed,
    parse_index,
    video_path,
)
from aiorecord.errors import DatasetError


def test_paths_are_lerobots():
    assert data_path(FileIndex(0, 7)) == "data/chunk-000/file-007.parquet"
    assert episodes_path(FileIndex(12, 0)) == "meta/episodes/chunk-012/file-000.parquet"
    assert video_path("observation.images.a", FileIndex(900, 1)) == (
        "videos/observation.images.a/chunk-900/file-001.mp4"
    )


def test_packed_files_are_numbered_as_lerobot_numbers_them():
    assert next_packed(None, 1000) == (0, 0)
    assert next_packed(FileIndex(0, 0), 1000) == (0, 1)
    assert next_packed(FileIndex(0, 999), 1000) == (1, 0)
    assert next_packed(FileIndex(3, 1), 2) == (4, 0)
    assert next_packed(FileIndex(0, 0), 1) == (1, 0)


def test_numbers_keep_three_digits_whatever_the_chunk_size():
    assert next_packed(FileIndex(0, 999), 5000) == (1, 0)


def test_packed_numbers_end_before_the_loose_ones():
    assert next_packed(FileIndex(899, 0), 2) == (899, 1)
    with pytest.raises(DatasetError, match="chunks_size"):
        next_packed(FileIndex(899, 1), 2)


def test_loose_files_follow_the_last_one():
    assert next_loose(None) == (900, 0)
    assert next_loose(FileIndex(0, 41)) == (900, 0)
    assert next_loose(FileIndex(900, 0)) == (900, 1)
    assert next_loose(FileIndex(900, 999)) == (901, 0)


def test_loose_numbers_end_with_advice():
    assert next_loose(FileIndex(999, 998)) == (999, 999)
    with pytest.raises(DatasetError, match="aiorecord recover"):
        next_loose(FileIndex(999, 999))


def test_names_sort_as_numbers():
    indices = [FileIndex(c, f) for c in (0, 1, 99, 899, 900, 999) for f in (0, 9, 10, 999)]
    assert sorted(indices) == indices
    assert sorted(data_path(index) for index in indices) == [data_path(index) for index in indices]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("chunk-000/file-000.parquet", (0, 0)),
        ("chunk-912/file-345.mp4", (912, 345)),
        ("chunk-1000/file-1000.mp4", (1000, 1000)),
        ("chunk-00/file-000.mp4", None),
        ("chunk-000/file-000.mp4.tmp", None),
        ("chunk-000/.file-000.mp4", None),
        ("chunk-000/file-00a.mp4", None),
        ("chunk-000/file-000.txt", None),
    ],
)
def test_parse_index(name, index):
    assert parse_index(name) == index
