"""Counts repeated frames: pixels equal to the frame before, or a camera time that did not advance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PROBED_ROWS = 16
"""Rows compared first. Frames of a real camera differ there, by noise, and the rest is not read."""


class Repeats:
    """Counts repeated frames and the longest run of them. Frames come in order, from one thread at a time.

    The pixels of the newest frame are read again when the next one comes; they must not change before.

    Attributes:
        count: frames whose pixels equal those of the frame before them.
        longest: the most of them in a row.
    """

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0
        self._run = 0
        self._last: NDArray[Any] | None = None

    def add(self, pixels: NDArray[Any]) -> None:
        """Compare a frame with the one before. numpy leaves the GIL to others meanwhile."""
        if self._last is not None and same_pixels(self._last, pixels):
            self.count += 1
            self._run += 1
            self.longest = max(self.longest, self._run)
        else:
            self._run = 0
        self._last = pixels

    def forget(self) -> None:
        """Release the newest frame's memory; the counts stay."""
        self._last = None


class StaleTimes:
    """Counts frames that are not newer than the frame before, by the camera's own time.

    Attributes:
        count: stale frames.
        known: frames with a known time.
    """

    def __init__(self) -> None:
        self.count = 0
        self.known = 0
        self._last_ns: int | None = None

    def add(self, taken_ns: int | None) -> None:
        """Count a frame; None when its time is not known."""
        if taken_ns is None:
            return
        self.known += 1
        if self._last_ns is not None and taken_ns <= self._last_ns:
            self.count += 1
        else:
            self._last_ns = taken_ns


def same_pixels(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two frames of one shape and dtype are equal bit for bit (NaN equals itself)."""
    if one.dtype.kind == "f":
        unsigned = np.dtype(f"u{one.dtype.itemsize}")
        one, other = one.view(unsigned), other.view(unsigned)
    step = max(1, len(one) // PROBED_ROWS)
    return np.array_equal(one[::step], other[::step]) and np.array_equal(one, other)
