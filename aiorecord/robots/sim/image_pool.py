"""Reuses the memory of pictures."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

KEPT = 8
"""Most arrays that are reused; callers that hold more at once get new ones."""


class PictureMemory:
    """Arrays for pictures, which are reused once nothing else refers to them.

    The system clears each page of new memory at the first write, which takes longer than drawing a camera's
    background.

    Args:
        shape: of the pictures, uint8.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._arrays: list[NDArray[np.uint8]] = []

    def take(self) -> NDArray[np.uint8]:
        """An array with arbitrary content, the caller's as long as it, or a view of it, is referenced."""
        for index in range(len(self._arrays)):
            if _references(self._arrays, index) == _UNHELD:
                return self._arrays[index]
        array = np.empty(self._shape, np.uint8)
        if len(self._arrays) < KEPT:
            self._arrays.append(array)
        return array


def _references(arrays: list[NDArray[np.uint8]], index: int) -> int:
    """How many references there are to an array of a list; a view of it holds one, through its `base`."""
    array = arrays[index]
    return sys.getrefcount(array)


_UNHELD = _references([np.empty(1, np.uint8)], 0)
"""References to an array that only its list holds; what the call itself adds depends on the interpreter."""
