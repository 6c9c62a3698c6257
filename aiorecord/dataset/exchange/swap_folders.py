"""Swaps two folders, atomically where the system can, so that a reader always finds one of them.

Linux: renameat2(2) with RENAME_EXCHANGE. macOS: renamex_np(2) with RENAME_SWAP. Elsewhere, and on filesystems
without it, two renames, between which the target is missing for a moment.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RENAME_SWAP = 2
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def exchange_folders(new: Path, target: Path, aside: Path) -> None:
    """Replace `target` by `new`. The old content of `target` is afterwards in `new` or in `aside`.

    Not durable by itself. When interrupted between two renames, `target` is missing and `aside` and `new`
    are there.

    Args:
        new: the folder to publish; same filesystem as `target`.
        target: the folder to replace; it may be missing.
        aside: a free name for the old content of `target`.

    Raises:
        OSError: the disk refused.
    """
    if not target.exists():
        os.rename(new, target)
    elif not swap(new, target):
        os.rename(target, aside)
        os.rename(new, target)


def swap(a: Path, b: Path) -> bool:
    """Let two existing folders swap places atomically; False when system or filesystem cannot.

    Raises:
        OSError: swapping is supported, but the disk refused.
    """
    call = _system_call()
    if call is None:
        return False
    ctypes.set_errno(0)
    if call(os.fsencode(a), os.fsencode(b)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(b))


@functools.cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    if sys.platform == "win32":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        renamex = getattr(libc, "renamex_np", None)
        return renamex and (lambda a, b: int(renamex(a, b, _RENAME_SWAP)))
    renameat2 = getattr(libc, "renameat2", None)  # glibc has it since 2.28, musl since 1.2.6
    return renameat2 and (lambda a, b: int(renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE)))
