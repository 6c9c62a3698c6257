"""Warns about a recorder that was never closed."""

from __future__ import annotations

import os
import shlex
import warnings
import weakref
from pathlib import Path


def watch_unclosed(recorder: object, root: Path) -> weakref.finalize[[Path, int], object]:
    """Warn when a recorder is garbage-collected, or the program ends, before the result is detached.

    Args:
        recorder: the recorder; it is not kept alive.
        root: of its dataset.

    Returns:
        The finalizer; call `detach` on it once the recorder is closed.
    """
    return weakref.finalize(recorder, _warn, root, os.getpid())


def _warn(root: Path, pid: int) -> None:
    if os.getpid() != pid:
        return  # a forked child ends; the recorder is its parent's
    warnings.warn(
        f"The recorder of {root} was never closed: leave its `async with` block, or `await "
        "recorder.aclose()`. Ended episodes that are not in the dataset wait in staging; "
        f"`aiorecord recover {shlex.quote(str(root))}` brings them in.",
        ResourceWarning,
        stacklevel=2,
    )
