"""Keeps the memory of aiorecord's own processes flat: the command and its workers.

Every episode starts new encoders, in threads of their own. glibc gives each thread an arena and keeps freed
pictures in it, so memory grows with the number of episodes. Two arenas, and a separate mapping for each
picture, keep it flat (mallopt(3), glibc manual 3.2.3.9). Arrow has its own allocator, which keeps 8 MB more;
it is set to use glibc's (Arrow's manual, ``ARROW_DEFAULT_MEMORY_POOL``).
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

ARENAS = 2
MAP_FROM_BYTES = 512 << 10
"""Blocks from this size on are returned to the system when freed: a camera's picture is larger."""

KEPT_BYTES = 4 << 20
"""Free memory that an arena keeps at its end. With glibc's 128 KiB every numpy array between that size and
`MAP_FROM_BYTES` would be requested from the system and returned each time."""


def configure_allocator() -> bool:
    """Make this process return freed memory to the system. Call it first, only in aiorecord's own processes.

    The user's choice for Arrow is kept. Processes that are started later inherit the settings.

    Returns:
        False where the C library has no such settings (only glibc does); then nothing is changed.
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    settings = (
        (_M_ARENA_MAX, ARENAS),
        (_M_MMAP_THRESHOLD, MAP_FROM_BYTES),
        (_M_TRIM_THRESHOLD, KEPT_BYTES),
    )
    if not all(mallopt(*setting) for setting in settings):
        return False
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    return True


def give_memory_back() -> None:
    """Return free memory to the system. Takes milliseconds; for a process that is idle now."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def load_when_used(name: str) -> None:
    """Let ``import name`` load the module only when something of it is used.

    A library that this process may never need then takes no memory. The standard library's
    `importlib.util.LazyLoader` does not help: with it the second ``import`` statement loads the module.

    Args:
        name: a top-level module. Nothing is done if it is already loaded, or not installed.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is not None:
        module = _LoadedWhenUsed(name)
        module.__spec__ = spec
        sys.modules[name] = module


def refuse(name: str) -> Callable[[], None]:
    """Let ``import name`` raise ModuleNotFoundError, unless the module is loaded already.

    Returns:
        A function that ends this.
    """
    finder = _Refused(name)
    sys.meta_path.insert(0, finder)
    return lambda: sys.meta_path.remove(finder)


def keep_pandas_out_of_arrow() -> None:
    """Keep pyarrow from importing pandas in this process, which must be one of aiorecord's own.

    pyarrow imports an installed pandas at the first array (pandas-shim.pxi), to recognise its series. That
    takes longer than everything else a command imports, and aiorecord has no series. Code that imports pandas
    itself still gets it, and so does ``to_pandas``.
    """
    if "pandas" in sys.modules:
        return
    allow = refuse("pandas")
    try:
        importlib.import_module("pyarrow").array([0])
    finally:
        allow()


class _Refused:
    """A finder that reports a module as missing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == self._name:
            raise ModuleNotFoundError(f"No module named {fullname!r} in this process.", name=fullname)


class _LoadedWhenUsed(types.ModuleType):
    """Stands in for a module until an attribute is asked for; importing the name again asks for none."""

    def __getattr__(self, attribute: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = importlib.import_module(self.__name__)
        self.__dict__.update(vars(module))
        return getattr(module, attribute)


def spare_collections() -> None:
    """Exclude permanent objects from garbage collection. Call it before the loop must be on time.

    Each full collection stops the loop for as long as it takes to visit every object: 10 ms with aiorecord's
    imports, 180 ms with those of lerobot and torch.
    """
    gc.collect()
    gc.freeze()


def _function(name: str) -> Any:
    """A function of glibc, None where there is none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process (proc(5), ``statm``); 0 where it has ended or the system does not tell.

    Args:
        pid: of the process; None for this one.
    """
    return _memory_pages(pid, 1)


def address_bytes(pid: int | None = None) -> int:
    """The size of a process's address space, as `resident_bytes`."""
    return _memory_pages(pid, 0)


def _memory_pages(pid: int | None, field: int) -> int:
    try:
        counts = Path(f"/proc/{'self' if pid is None else pid}/statm").read_bytes().split()
    except OSError:  # it has just ended, or there is no /proc
        return 0
    return int(counts[field]) * os.sysconf("SC_PAGE_SIZE")
