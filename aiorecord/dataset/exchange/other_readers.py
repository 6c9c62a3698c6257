"""Detects other programs that read a dataset while it is written, by the files they open (Linux: inotify(7)).

A reader opens `meta/info.json` first. It then lists `meta/episodes` and `data`, and a moment later opens the
tables that it found, one by one. No order of steps can exchange several files under such a reader (ADR 18),
so a packing waits for a moment in which no program lists or opens any of them. A video that a packing
replaced is deleted at once only if no program has opened the dataset recently, see
`ReaderWatch.are_expected`.

Readers on other machines cannot be seen, so on network filesystems, and where there is no inotify, readers
are assumed to be present at any time.
"""

from __future__ import annotations

import ctypes
import functools
import os
import select
import struct
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...system.machine_time import monotonic_s
from ..format import layout

GRACE_S = 3600.0
"""How long after opening a dataset a reader may look for its videos by name. lerobot 0.6.1 checks that all
exist 0.4 s after it has read their names, and opens each when its first frame is requested."""

QUIET_S = 0.3
"""A packing exchanges tables if no reader has listed or opened one for this long. lerobot 0.6.1 opens
tables 52 ms (`meta/episodes`) and 23 ms (`data`) after listing them, on an idle machine."""

LIMIT_S = 5.0
"""Longest wait of a packing. The longer it has waited, the shorter a quiet moment is enough, down to none."""

RECENT_S = 60.0
"""A packing waits only if a reader opened the dataset within this many seconds before."""

_LOCAL = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs", "tmpfs", "ramfs", "overlay"),
    *("vfat", "exfat", "ntfs3"),
}
"""Types of local filesystems: all their readers use this kernel."""

_IN_OPEN = 0x20
_IN_OVERFLOW = 0x4000
_EVENT = struct.Struct("=iIII")
_INFO, _EPISODES, _DATA = (
    name.rpartition("/")[2].encode()
    for name in (layout.INFO_PATH, layout.EPISODES_FOLDER, layout.DATA_FOLDER)
)


class ReaderWatch:
    """Detects other programs that read a dataset, from its creation on. Not thread-safe.

    Files that this process opens are detected as well, so its owner opens `meta/info.json` only in
    `ignoring`.

    Args:
        root: the dataset's root folder, which has its `meta`.
        expected: a reader may have opened it just now, as an earlier watch detected.
    """

    def __init__(self, root: Path, expected: bool = False) -> None:
        self._root = root
        self._fd = _watch([root, root / layout.INFO_PATH.split("/")[0]]) if _is_local(root) else None
        self._closing = weakref.finalize(self, os.close, self._fd) if self._fd is not None else None
        self._is_new = not (root / layout.EPISODES_FOLDER).exists()
        self._began = monotonic_s()
        self._opened = self._began if expected else None

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._closing is not None:
            self._closing()
        self._fd = None

    @property
    def are_expected(self) -> bool:
        """Whether a reader may know the current files and open them later.

        False if no program has opened the dataset in the last `GRACE_S` seconds, or since this watch began.
        """
        if self._fd is None:
            return True
        self._take()
        return self._opened is not None and monotonic_s() - self._opened < GRACE_S

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Ignore everything that is opened during this block, which should be short."""
        self._take()
        try:
            yield
        finally:
            self._events()

    def wait_until_quiet(self) -> None:
        """Wait for a moment in which no reader is between listing tables and opening them. Blocking.

        Returns at once if no reader was detected recently, at the latest after `LIMIT_S`.
        """
        if self._fd is None:
            return
        self._take()
        begun = last = monotonic_s()
        if self._opened is None or begun - self._opened > RECENT_S:
            # A reader that began before this watch soon finishes opening its tables.
            if begun - self._began < QUIET_S and not self._is_new:
                time.sleep(self._began + QUIET_S - begun)
                self._take()
            if self._opened is None or begun - self._opened > RECENT_S:
                return
        with _watching(self._fd, self._tables()):
            self._events()  # of listing them
            while True:
                now = monotonic_s()
                wanted = QUIET_S * max(0.0, 1 - (now - begun) / LIMIT_S)
                if now - last >= wanted:
                    return
                if select.select([self._fd], [], [], wanted - (now - last))[0] and self._take():
                    last = monotonic_s()

    def _tables(self) -> list[Path]:
        """The folders that contain tables."""
        found: list[Path] = []
        for name in (layout.EPISODES_FOLDER, layout.DATA_FOLDER):
            with suppress(OSError):
                found += [path for path in (self._root / name).iterdir() if path.is_dir()]
        return found

    def _take(self) -> bool:
        """Read the events since the last call; returns whether a reader may have caused one."""
        names = self._events()
        if _INFO in names:
            self._opened = monotonic_s()
        return bool(names)

    def _events(self) -> set[bytes]:
        """The files opened since the last call: info.json, the folders of tables, tables."""
        names: set[bytes] = set()
        while self._fd is not None:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                break
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                at += _EVENT.size + length
                if mask & _IN_OVERFLOW:
                    names.add(_INFO)  # the event queue overflowed: it may have been among the lost ones
                elif name in (_INFO, _EPISODES, _DATA) or name.endswith(b".parquet"):
                    names.add(name)
        return names


def _is_local(root: Path) -> bool:
    """Whether a folder is known to be on a local filesystem."""
    try:
        real = os.path.realpath(root)
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    found = ("", "")
    for _, place, kind, *_ in map(str.split, mounts):
        place = place.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(found[0]):  # of two mounts at one path, the later one hides the other
            found = (place, kind)
    return found[1] in _LOCAL


def _watch(folders: list[Path]) -> int | None:
    """An inotify descriptor for files opened in folders; None if it cannot be created."""
    calls = _calls()
    if calls is None:
        return None
    init, add, _ = calls
    fd = int(init(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        return None
    if any(add(fd, os.fsencode(folder), _IN_OPEN) < 0 for folder in folders):
        os.close(fd)
        return None
    return fd


@contextmanager
def _watching(fd: int, folders: list[Path]) -> Iterator[None]:
    """Watch more folders during the block."""
    calls = _calls()
    assert calls is not None
    _, add, remove = calls
    watches = [int(add(fd, os.fsencode(folder), _IN_OPEN)) for folder in folders]
    try:
        yield
    finally:
        for watch in watches:
            if watch >= 0:
                remove(fd, watch)


@functools.cache
def _calls() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        return libc.inotify_init1, libc.inotify_add_watch, libc.inotify_rm_watch
    except AttributeError:
        return None
