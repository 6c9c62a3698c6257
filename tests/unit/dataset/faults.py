"""A process that dies, or a disk that refuses, between any two changes of the file system."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiorecord.dataset.exchange import swap_folders

CHANGES = ("replace", "rename", "link", "unlink", "rmdir", "mkdir")


class Killed(BaseException):
    """The process died: nothing on disk changes any more."""


@dataclass
class Faults:
    """Changes counted so far, and whether the fault came."""

    changes: int = 0
    struck: bool = False


@contextlib.contextmanager
def dying_after(changes: int | None, monkeypatch: Any) -> Iterator[Faults]:
    """Let this many changes happen, then none: every further one raises `Killed`. None: only count."""
    faults = Faults()

    def before() -> None:
        if changes is not None and faults.changes >= changes:
            faults.struck = True
            raise Killed
        faults.changes += 1

    with _patched(before, monkeypatch):
        yield faults


@contextlib.contextmanager
def full_disk_at(change: int, monkeypatch: Any) -> Iterator[Faults]:
    """Refuse one change, as a full disk does; all others succeed."""
    faults = Faults()

    def before() -> None:
        faults.changes += 1
        if faults.changes - 1 == change:
            faults.struck = True
            raise OSError(errno.ENOSPC, "No space left on device")

    with _patched(before, monkeypatch):
        yield faults


@contextlib.contextmanager
def _patched(before: Any, monkeypatch: Any) -> Iterator[None]:
    def wrap(function: Any) -> Any:
        def changed(*args: Any, **kwargs: Any) -> Any:
            before()
            return function(*args, **kwargs)

        return changed

    with monkeypatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, wrap(getattr(os, name)))
        patch.setattr(swap_folders, "swap", wrap(swap_folders.swap))
        yield
