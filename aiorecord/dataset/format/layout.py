"""Where things are in a LeRobotDataset v3.0: paths and file numbers. Pure: no I/O.

::

    meta/info.json                                    counts, features; its replacement commits an episode
    meta/stats.json                                   statistics over all episodes
    meta/tasks.parquet                                task strings and their numbers
    meta/episodes/chunk-000/file-000.parquet          a row per episode: where its parts are, its statistics
    data/chunk-000/file-000.parquet                   a row per frame
    videos/<camera>/chunk-000/file-000.mp4            episodes one after the other

Names and numbering follow lerobot 0.6.1 (`lerobot/datasets/utils.py`). lerobot reads every Parquet file under
``data`` and ``meta/episodes`` in the order of their names, so names must sort as the episodes do.

*Loose* files hold one commit each; episode 0 is in ``chunk-900/file-000``. Packing merges them into files
numbered as lerobot numbers them, from ``chunk-000/file-000``. The two ranges sort in the right order and
never collide.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ...errors import DatasetError

INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
EPISODES_FOLDER = "meta/episodes"
DATA_FOLDER = "data"
VIDEOS_FOLDER = "videos"
TOPS = ("meta", DATA_FOLDER, VIDEOS_FOLDER)
"""The folders that a dataset is made of."""

DATA_TEMPLATE = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_TEMPLATE = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_TEMPLATE = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

CHUNKS_SIZE = 1000
DATA_FILES_SIZE_IN_MB = 100
VIDEO_FILES_SIZE_IN_MB = 200
"""Defaults of lerobot; a megabyte is 1024 * 1024 bytes, as there."""
MEGABYTE = 1024 * 1024

FIRST_LOOSE_CHUNK = 900
MAX_NUMBERS = 1000
"""File numbers have three digits; a fourth would break the order of names, in which lerobot reads."""

_FIRST_LOOSE_CHUNKS = (MAX_NUMBERS - FIRST_LOOSE_CHUNK) // 2
"""After a packing, loose files begin in one of these first loose folders, so that half are left for more."""

_FILE = re.compile(r"chunk-(\d{3,})/file-(\d{3,})\.(?:parquet|mp4)")


class FileIndex(NamedTuple):
    """The two numbers in a file's name. Compares in the order of the names.

    Attributes:
        chunk: number of the folder.
        file: number of the file inside the folder.
    """

    chunk: int
    file: int

    @property
    def is_loose(self) -> bool:
        """Whether it was written by a commit and is not packed yet."""
        return self.chunk >= FIRST_LOOSE_CHUNK


def next_packed(last: FileIndex | None, chunks_size: int) -> FileIndex:
    """The number after the last packed file's.

    Args:
        last: the last packed file, None when there is none.
        chunks_size: files per folder, as in info.json.

    Raises:
        DatasetError: every number below the loose files is taken.
    """
    if last is None:
        return FileIndex(0, 0)
    full = last.file + 1 >= min(chunks_size, MAX_NUMBERS)
    after = FileIndex(last.chunk + 1, 0) if full else FileIndex(last.chunk, last.file + 1)
    if after.is_loose:
        raise DatasetError(
            f"The dataset has {FIRST_LOOSE_CHUNK} folders of {chunks_size} files, the most that fit. "
            "Raise chunks_size, or the file sizes, in meta/info.json."
        )
    return after


def next_loose(last: FileIndex | None, episode: int = 0) -> FileIndex:
    """The number of the next loose file.

    Loose folders hold 1000 files whatever `chunks_size` is: a small value must not use up the folder numbers.
    After a packing, numbering continues with the episode's number, so that names are not reused soon: a
    reader that learned an episode's file before the packing must not find another episode there.

    Args:
        last: the file of the last episode (packed or loose), None when there is none.
        episode: index of the (first) episode in the new file.

    Raises:
        DatasetError: all numbers are taken; the dataset must be packed.
    """
    if last is None or not last.is_loose:
        chunk, file = divmod(episode, MAX_NUMBERS)
        return FileIndex(FIRST_LOOSE_CHUNK + chunk % _FIRST_LOOSE_CHUNKS, file)
    full = last.file + 1 >= MAX_NUMBERS
    after = FileIndex(last.chunk + 1, 0) if full else FileIndex(last.chunk, last.file + 1)
    if after.chunk >= MAX_NUMBERS:
        raise DatasetError("The dataset cannot hold more unpacked episodes. `aiorecord recover` packs it.")
    return after


def data_path(index: FileIndex) -> str:
    """Path of a data file, relative to the dataset's root."""
    return DATA_TEMPLATE.format(chunk_index=index.chunk, file_index=index.file)


def video_path(key: str, index: FileIndex) -> str:
    """Path of a camera's video file, relative to the dataset's root."""
    return VIDEO_TEMPLATE.format(video_key=key, chunk_index=index.chunk, file_index=index.file)


def episodes_path(index: FileIndex) -> str:
    """Path of a file of `meta/episodes`, relative to the dataset's root."""
    return EPISODES_TEMPLATE.format(chunk_index=index.chunk, file_index=index.file)


def file_path(prefix: str, index: FileIndex) -> str:
    """Path of a file by the prefix of its columns in `meta/episodes`: ``data`` or ``videos/<key>``."""
    return data_path(index) if prefix == "data" else video_path(prefix.removeprefix("videos/"), index)


def parse_index(path: str) -> FileIndex | None:
    """The numbers in ``chunk-NNN/file-NNN.<parquet|mp4>``, None for any other name.

    Args:
        path: with ``/`` between folder and file.
    """
    match = _FILE.fullmatch(path)
    return FileIndex(int(match[1]), int(match[2])) if match else None


def parse_video(path: str) -> tuple[str, FileIndex] | None:
    """The camera and the numbers of a video, see `video_path`; None for any other path."""
    folder, _, name = path.partition("/")
    camera, _, file = name.partition("/")
    index = parse_index(file) if folder == VIDEOS_FOLDER and is_plain(camera) else None
    return (camera, index) if index is not None and video_path(camera, index) == path else None


def is_plain(name: str) -> bool:
    """Whether a name is of one part, and does not lead out of its folder."""
    return bool(name) and not name.startswith(".") and name.isprintable() and not {"/", "\\"} & set(name)
