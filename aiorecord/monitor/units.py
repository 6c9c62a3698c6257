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
