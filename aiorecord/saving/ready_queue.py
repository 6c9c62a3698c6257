"""The queue of waiting saves, which decides which is encoded next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

MAX_OVERTAKEN = 4
"""So many shorter ones may go before the oldest of their priority; then that is next, however long it is."""


class SaveQueue[T](asyncio.Queue[T]):
    """A bounded queue that hands out an item of the highest priority: of those the smallest, then the oldest.

    What is compared is read when an item is taken, so it may change while the items wait. Within a priority
    the oldest item is overtaken a bounded number of times. One of a lower priority waits for as long as there
    are higher ones.

    Args:
        maxsize: items that may wait.
        size_of: the sort key within a priority, smallest first; a constant keeps the order of insertion.
        priority_of: higher first.
    """

    def __init__(
        self,
        maxsize: int,
        size_of: Callable[[T], int] = lambda item: 0,
        priority_of: Callable[[T], int] = lambda item: 0,
    ) -> None:
        super().__init__(maxsize)
        self._size_of = size_of
        self._priority_of = priority_of
        self._items: list[T] = []
        self._bounded = True
        self._overtaken: dict[int, int] = {}  # the oldest of each priority, in a row

    def put_beyond(self, items: Iterable[T]) -> None:
        """Put items whatever the queue's size; it is full until they are no more than that."""
        self._bounded = False
        try:
            for item in items:
                self.put_nowait(item)
        finally:
            self._bounded = True

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
        return self._bounded and 0 < self.maxsize <= len(self._items)

    def _put(self, item: T) -> None:
        self._items.append(item)

    def _get(self) -> T:
        highest = max(map(self._priority_of, self._items))
        equals = [n for n, item in enumerate(self._items) if self._priority_of(item) == highest]
        place = equals[0]
        overtaken = self._overtaken.pop(highest, 0)
        if overtaken < MAX_OVERTAKEN:
            place = min(equals, key=lambda n: self._size_of(self._items[n]))
        if place != equals[0]:
            self._overtaken[highest] = overtaken + 1
        return self._items.pop(place)
