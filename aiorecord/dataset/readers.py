"""Other programs that read a dataset while it is written: seen by what they open, with Linux's inotify(7).

A reader opens `meta/info.json` first. Then it lists `meta/episodes` and `data`, and a moment later opens the
files that it found, one by one; no order of steps can exchange several files under such a reader (see ADR 13).
So a packing waits for a moment in which nobody has just listed or opened any of them.

Where there is no inotify, and for readers on other hosts, nothing can be seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import select
import struct
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import layout

QUIET_S = 0.3
"""For so long nobody has listed or opened a table when a packing exchanges them. lerobot 0.6.1 opens what it has
listed 52 ms later (`meta/episodes`) and 23 ms later (`data`), on an idle machine."""

LIMIT_S = 5.0
"""A packing waits no longer. The longer it has waited, the shorter a quiet moment is taken, down to none."""

RECENT_S = 60.0
"""A packing waits only if a reader opened the dataset in so many seconds before."""

_IN_OPEN = 0x20
_EVENT = struct.Struct("=iIII")
_INFO, _EPISODES, _DATA = (
    name.rpartition("/")[2].encode()
    for name in (layout.INFO_PATH, layout.EPISODES_FOLDER, layout.DATA_FOLDER)
)


class ReaderWatch:
    """Sees other programs read a dataset, from its making on. Not for several threads at once.

    What this process opens is seen like anything else, unless it happens in `ignoring`.

    Args:
        root: the dataset's root folder, which has its `meta`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = False
        self._last: float | None = None
        self._fd = _watch([root, root / layout.INFO_PATH.split("/")[0]])
        if self._fd is not None:
            weakref.finalize(self, os.close, self._fd)

    @property
    def can_see(self) -> bool:
        """Whether readers on this host can be seen."""
        return self._fd is not None

    @property
    def seen(self) -> bool:
        """Whether another program has opened the dataset, or may have, since it cannot be seen."""
        self._take()
        return self._seen or not self.can_see

    @contextlib.contextmanager
    def ignoring(self) -> Iterator[None]:
        """Take nothing that is opened in this block for a reader."""
        self._take()
        try:
            yield
        finally:
            self._events()

    def wait_until_quiet(self) -> None:
        """Wait for a moment in which no reader is between listing tables and opening them. Blocking.

        Returns at once if no reader was seen of late, at the latest after `LIMIT_S`.
        """
        self._take()
        begun = last = time.monotonic()
        if self._fd is None or self._last is None or begun - self._last > RECENT_S:
            return
        with _watching(self._fd, self._tables()):
            self._events()  # of listing them
            while True:
                now = time.monotonic()
                wanted = QUIET_S * max(0.0, 1 - (now - begun) / LIMIT_S)
                if now - last >= wanted:
                    return
                if select.select([self._fd], [], [], wanted - (now - last))[0] and self._take():
                    last = time.monotonic()

    def _tables(self) -> list[Path]:
        """The folders in which tables are."""
        found: list[Path] = []
        for name in (layout.EPISODES_FOLDER, layout.DATA_FOLDER):
            with contextlib.suppress(OSError):
                found += [path for path in (self._root / name).iterdir() if path.is_dir()]
        return found

    def _take(self) -> bool:
        """Read what was opened; whether any of it is a reader's doing."""
        names = self._events()
        if _INFO in names:
            self._seen, self._last = True, time.monotonic()
        return bool(names)

    def _events(self) -> set[bytes]:
        """What was opened since the last call: info.json, the folders of tables, tables."""
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
                if mask & _IN_OPEN and (name in (_INFO, _EPISODES, _DATA) or name.endswith(b".parquet")):
                    names.add(name)
                elif mask & _IN_OVERFLOW:
                    names.add(_INFO)  # too many to be told: it may have been among them
        return names


_IN_OVERFLOW = 0x4000


def _watch(folders: list[Path]) -> int | None:
    """A descriptor that tells what is opened in folders; None where that cannot be had."""
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


@contextlib.contextmanager
def _watching(fd: int, folders: list[Path]) -> Iterator[None]:
    """Watch more folders for a while."""
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
