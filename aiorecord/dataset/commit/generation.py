"""Detects whether a dataset changed while it was read, by comparing its files before and after.

A reader needs no lock, so a commit or a packing may exchange files while it reads. It takes a look before and
after. If the two differ, a mismatch may come from one file read before the change and one read after it. This
also works where the writer's lock cannot be seen, such as on another host.

A file is identified by its size and modification time. Every writer here makes a new file and renames it, so
these change. Inode numbers are not compared: some network filesystems return a different one each time.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import AiorecordError
from ...staging.folder import STAGING_FOLDER
from ...system import storage
from ..exchange.pack_journal import is_decided
from ..format import layout
from .lock import LOCK_FILE, live_holder
from .lock_holder import is_dead, read_holder

_TRIES = 5
_PAUSE_S = 0.1
"""Seconds between tries: a packing exchanges its folders in less."""


@dataclass(frozen=True)
class Look:
    """The state of a dataset's files. Two looks are equal if nothing visible was written between them.

    Attributes:
        info: content of info.json; None if it is missing or cannot be read.
        files: size and time of change (ns) of every file in `layout.TOPS`, by its name relative to the root,
            with ``/``. If the system reports an error for a file, its number twice.
        staging: likewise for staging, which changes while an episode is recorded or saved.
        is_packing: a packing was decided and is not completed yet; files may not match each other.
        holder: the process that holds the dataset's lock, see `live_holder`.
        holder_is_dead: the lock file names a process that is known to have died.
    """

    info: bytes | None
    files: Mapping[str, tuple[int, int]]
    staging: Mapping[str, tuple[int, int]]
    is_packing: bool
    holder: str | None = field(compare=False)
    holder_is_dead: bool = field(compare=False)


def look(root: Path) -> Look:
    """Look at a dataset. Opens only info.json and the lock file; never raises because of files on disk."""
    # Counts first: everything they count exists already. A packing's files exist before it ends.
    info = _read(root / layout.INFO_PATH)
    holder = live_holder(root)
    named = read_holder(root / STAGING_FOLDER / LOCK_FILE)
    files: dict[str, tuple[int, int]] = {}
    for top in layout.TOPS:
        _list(root / top, top, files)
    staging: dict[str, tuple[int, int]] = {}
    _list(root / STAGING_FOLDER, STAGING_FOLDER, staging)
    is_dead_one = named is not None and is_dead(named)
    return Look(info, files, staging, is_decided(root), holder, is_dead_one)


def read_unchanged[T](root: Path, read: Callable[[], T]) -> T:
    """Call a function that reads a dataset; repeat it if it fails and files were exchanged. Blocking.

    Raises:
        AiorecordError: the error of `read`, if the dataset did not change or keeps changing.
    """
    for attempt in range(_TRIES):
        before = look(root)
        try:
            return read()
        except AiorecordError:
            after = look(root)
            if attempt + 1 == _TRIES or (after == before and not after.is_packing):
                raise
        time.sleep(_PAUSE_S)
    raise AssertionError


def _read(path: Path) -> bytes | None:
    try:
        storage.check_file(path)
        with path.open("rb") as file:
            return file.read(storage.MAX_JSON_BYTES + 1)
    except (OSError, ValueError):
        return None


def _list(folder: Path, name: str, found: dict[str, tuple[int, int]]) -> None:
    """All entries below a folder; links to folders are not followed."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        found[name] = (error.errno or 0,) * 2
        return
    for entry in entries:
        place = f"{name}/{entry.name}"
        try:
            if entry.is_dir(follow_symlinks=False):
                _list(Path(entry.path), place, found)
                continue
            status = entry.stat()
            regular = stat.S_ISREG(status.st_mode)
            found[place] = (status.st_size, status.st_mtime_ns) if regular else (-1, -1)
        except FileNotFoundError:
            if entry.is_symlink():
                found[place] = (-1, -1)
        except OSError as error:
            found[place] = (error.errno or 0,) * 2
