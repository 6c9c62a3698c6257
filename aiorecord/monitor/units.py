"""Formats sizes and times as text."""

from __future__ import annotations


def size_text(size: float) -> str:
    """A size in readable units: ``812 kB``, ``3.4 GB`` (powers of 1000)."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}" if size < 100 else f"{size:.0f} {unit}"
    return f"{size / 1000:.1f} TB"


def time_text(seconds: float) -> str:
    """A span of time: ``42 s``, ``12 min``, ``5.3 h``."""
    if seconds < 99:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def waiting_text(number: int, backlog_bytes: int, wait_s: float | None) -> str:
    """Why the next episode does not begin yet.

    Args:
        number: of that episode.
        backlog_bytes: space that ended episodes take on disk.
        wait_s: seconds until it may begin, None if that is not known.
    """
    known = "" if wait_s is None else f", about {time_text(wait_s)}"
    staged = size_text(backlog_bytes)
    return f"episode {number} waits until earlier ones are saved: {staged} in staging{known}"
