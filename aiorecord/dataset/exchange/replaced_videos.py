"""Keeps videos that a packing replaced as long as readers may need them, then deletes them.

A reader learns from `meta/episodes` which videos hold the episodes, and opens them later. So where readers
were seen or cannot be seen (`other_readers`), replaced videos stay under their names, which are not reused.
``meta/aiorecord/replaced.json`` lists them, so that they are not reported as leftovers of a commit. The first
commit, packing or opening after `GRACE_S` deletes them.

The list only names what may be deleted later. A file on it is deleted only if no episode refers to it and it
is the file that was replaced. Without the list, such a file counts as a leftover or an orphan.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import DamageError
from ...printable import get_logger
from ...staging.sealed_json import read_sealed, write_sealed
from ...system import storage
from ...system.machine_time import unix_ns
from ..format import layout
from ..format.episodes import episode_files, referred_files
from ..format.info_json import DatasetInfo
from ..format.layout import FileIndex
from ..format.links import damage_errors
from ..format.numbered_files import remove_files
from .other_readers import GRACE_S

logger = get_logger(__name__)

RECORD = "meta/aiorecord/replaced.json"

FREE_SHARE = 4
"""Kept videos take at most one part in this many of the free space: recording has priority over readers."""

_END_BYTES = 1 << 16


@dataclass(frozen=True)
class ReplacedFile:
    """A video that no episode refers to any more.

    Attributes:
        name: its path relative to the dataset's root, with ``/``.
        since_ns: when it was replaced, in Unix time.
        size: bytes.
        crc32: checksum of its first and last 64 KiB.
    """

    name: str
    since_ns: int
    size: int
    crc32: str

    @property
    def index(self) -> FileIndex:
        """The numbers in its name."""
        video = layout.parse_video(self.name)
        assert video is not None  # checked when it was read
        return video[1]

    @property
    def camera(self) -> str:
        """The feature key of its camera."""
        return self.name.split("/")[1]


def read_replaced(root: Path) -> list[ReplacedFile]:
    """The kept videos. None if the record is missing, or not what was written."""
    path = root / RECORD
    with storage.storage_errors(path, "read"):
        if not storage.is_own_file(path) or not path.exists():
            return []
    try:
        files = [ReplacedFile(**entry) for entry in read_sealed(path, required=lambda data: True)["files"]]
    except (DamageError, ValueError, TypeError, KeyError) as error:
        logger.warning("%s is not used: %s", path, error)
        return []
    return [file for file in files if _is_valid(file)]


def replaced_names(root: Path) -> set[str]:
    """The paths of the kept videos, relative to the root."""
    return {file.name for file in read_replaced(root)}


def is_due(root: Path, files: Sequence[ReplacedFile]) -> bool:
    """Whether `release` has anything to do.

    Raises:
        OSError: the free space cannot be determined.
    """
    oldest = min((file.since_ns for file in files), default=None)
    if oldest is None:
        return False
    return not 0 <= unix_ns() - oldest < GRACE_S * 1e9 or _exceeds(root, files)


def keep(root: Path, names: Iterable[str]) -> None:
    """Record durably that these videos stay although no episode refers to them.

    Missing ones are left out, and those for which there is too little space (`FREE_SHARE`).
    """
    files = {file.name: file for file in read_replaced(root)}
    room = storage.free_bytes(root) // FREE_SHARE - sum(file.size for file in files.values())
    for name in names:
        if layout.parse_video(name) is not None and _is_plain_file(root, name):
            with storage.storage_errors(root / name, "read"):
                size, crc32 = _identity(root / name)
            room -= size
            if room >= 0:
                files[name] = ReplacedFile(name, unix_ns(), size, crc32)
    _write(root, files.values())


def release(root: Path, info: DatasetInfo, grace_s: float = GRACE_S) -> list[ReplacedFile]:
    """Delete the videos that were kept for long enough, or that now take too much space.

    The caller holds the dataset's lock. A video that an episode refers to, or that was replaced by another
    file, is not deleted.

    Args:
        info: its info.json.
        grace_s: seconds that a video stays at least, if there is space.

    Returns:
        The videos that are still kept.
    """
    before = read_replaced(root)
    now = unix_ns()
    # The clock was set back, so the elapsed time is unknown: it begins again.
    files = [replace(file, since_ns=now) if file.since_ns > now else file for file in before]
    if _exceeds(root, files):
        grace_s = 0
    expired = [file for file in files if now - file.since_ns >= grace_s * 1e9]
    if expired:
        with damage_errors(root):
            prefixes = [f"videos/{key}" for key in info.video_keys]
            referred = referred_files(episode_files(root), prefixes)
        with storage.storage_errors(root, "read the videos of"):
            unneeded = [
                file
                for file in expired
                if file.name not in referred
                and _is_plain_file(root, file.name)
                and _identity(root / file.name) == (file.size, file.crc32)
            ]
        remove_files(root / file.name for file in unneeded)
        files = [file for file in files if file not in expired]
    if files != before:
        _write(root, files)
    return files


def newest_packed(files: Iterable[ReplacedFile], camera: str) -> FileIndex | None:
    """The highest number of a camera's packed videos that are kept; None if there are none."""
    numbers = (file.index for file in files if file.camera == camera)
    return max((index for index in numbers if not index.is_loose), default=None)


def _exceeds(root: Path, files: Sequence[ReplacedFile]) -> bool:
    return sum(file.size for file in files) > storage.free_bytes(root) // FREE_SHARE


def _write(root: Path, files: Iterable[ReplacedFile]) -> None:
    entries = [asdict(file) for file in files]
    path = root / RECORD
    with storage.storage_errors(path, "write"):
        if not storage.is_own_file(path):
            return  # a link leads elsewhere; without a record the files are leftovers
        if entries:
            write_sealed(path, {"files": entries})
        elif path.exists():
            path.unlink()
            storage.fsync_folder(path.parent)


def _is_valid(file: ReplacedFile) -> bool:
    types: list[tuple[Any, type]] = [(file.since_ns, int), (file.size, int), (file.crc32, str)]
    if not isinstance(file.name, str) or not all(isinstance(value, kind) for value, kind in types):
        return False
    return layout.parse_video(file.name) is not None


def _is_plain_file(root: Path, name: str) -> bool:
    """Whether it is a file in the dataset itself: neither it nor a folder above it is a link."""
    path = root / name
    with storage.storage_errors(path, "read"):
        for place in (path, *path.parents):
            if place == root:
                return True
            try:
                mode = place.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                return False
            if not (stat.S_ISREG(mode) if place == path else stat.S_ISDIR(mode)):
                return False
    return False


def _identity(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        crc = zlib.crc32(file.read(_END_BYTES))
        file.seek(max(0, size - _END_BYTES))
        return size, f"{zlib.crc32(file.read(_END_BYTES), crc):08x}"
