"""Memory of processes that are aiorecord's own: the command and its workers.

Encoders come and go with every episode, in threads of their own. glibc gives each thread an arena and keeps
freed pictures in it; memory then grows with the number of episodes. Two arenas, and a map of its own for each
picture, keep it flat (mallopt(3), glibc manual 3.2.3.9).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

ARENAS = 2
MAP_FROM_BYTES = 512 << 10
"""Blocks from this size on go back to the system when they are freed: a picture of a camera is larger."""


def settle_allocator() -> bool:
    """Make this process give memory back. Call it first, in a process that is yours.

    Returns:
        False where the C library has no such settings (only glibc does); then nothing is changed.
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_ARENA_MAX, ARENAS)) and bool(mallopt(_M_MMAP_THRESHOLD, MAP_FROM_BYTES))


def give_memory_back() -> None:
    """Return what is free to the system. Takes milliseconds; for a process that is idle now."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def spare_collections() -> None:
    """Take what lives for ever out of the garbage collector's sight. Call it before the loop must be on time.

    Each full collection holds up the loop for as long as it takes to look at every object: 10 ms with
    aiorecord's imports, 180 ms with those of lerobot and torch.
    """
    gc.collect()
    gc.freeze()


def _function(name: str) -> Any:
    """A function of glibc, None where there is none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
