"""Which of the waiting saves is encoded next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_OVERTAKEN = 4
"""So many shorter ones may go before the oldest that waits; then it is its turn, however long it is."""


class ShortestFirstQueue[T](asyncio.Queue[T]):
    """A bounded queue that hands out the smallest item, and the oldest of equals.

    The oldest item is overtaken a bounded number of times, so nothing waits for ever.

    Args:
        maxsize: items that may wait.
        size_of: what is compared.
    """

    def __init__(self, maxsize: int, size_of: Callable[[T], int]) -> None:
        super().__init__(maxsize)
        self._size_of = size_of
        self._items: list[T] = []
        self._overtaken = 0

    # What asyncio's own priority queue overrides, too.
    def _init(self, maxsize: int) -> None:
        pass

    def qsize(self) -> int:
        """Items that wait."""
        return len(self._items)

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._items

    def full(self) -> bool:
        """Whether there is room for no more."""
        return 0 < self.maxsize <= len(self._items)

    def _put(self, item: T) -> None:
        self._items.append(item)

    def _get(self) -> T:
        place = 0
        if self._overtaken < MAX_OVERTAKEN:
            place = min(range(len(self._items)), key=lambda n: self._size_of(self._items[n]))
        self._overtaken = self._overtaken + 1 if place else 0
        return self._items.pop(place)
