"""Limits the memory that waiting frames may take, over all cameras of all live captures."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

DEFAULT_LIMIT_BYTES = 256 << 20

SPARE_FRAMES = 8
"""How many free frames of each shape are kept for reuse."""


class ByteAccount:
    """Counts the waiting bytes of one camera. Each counter is written by one thread only, so none needs a
    lock.

    Attributes:
        added: bytes ever queued; written by the thread that adds frames.
        encoded: bytes the encoder is done with; written by its thread.
        spilled: bytes the spill is done with; written by its thread.
        kept: bytes the encoder is done with, kept until they are certainly in its file; set under the
            camera's lock.
    """

    def __init__(self) -> None:
        self.added = 0
        self.encoded = 0
        self.spilled = 0
        self.kept = 0

    @property
    def waiting(self) -> int:
        """Bytes queued now, those being worked on included."""
        # In this order, a frame that finishes during the reads is counted and not missed.
        done = self.encoded + self.spilled
        return self.added - done


class ByteBudget:
    """A limit of bytes shared by cameras.

    A camera whose queue is empty may always queue a frame, so one frame per camera may come on top.

    Args:
        limit_bytes: beyond this a camera stops encoding and spills to disk. Half as much again may wait
            while it spills; beyond that frames are refused.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.hard_limit_bytes = limit_bytes + limit_bytes // 2
        self._accounts: tuple[ByteAccount, ...] = ()  # replaced as a whole: readers need no lock
        self._spare: dict[tuple[int, ...], deque[Any]] = {}
        self._changing = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that wait now or are kept."""
        return sum(account.waiting + account.kept for account in self._accounts)

    @property
    def keeps_too_much(self) -> bool:
        """Whether frames that encoders hold back take more than half of the limit."""
        return sum(account.kept for account in self._accounts) > self.limit_bytes // 2

    @property
    def is_overfull(self) -> bool:
        """Whether the spill is too slow as well: half of the extra memory above the limit is used."""
        return self.used > (self.limit_bytes + self.hard_limit_bytes) // 2

    def spare(self, shape: tuple[int, ...]) -> deque[Any]:
        """Free memory of frames of this shape, for the next frames of any camera and episode.

        The first write to new memory costs a page fault for every 4 kB. Any thread may take from one end and
        give back at the other; surplus memory is dropped.
        """
        with self._changing:
            return self._spare.setdefault(shape, deque(maxlen=SPARE_FRAMES))

    def open_account(self) -> ByteAccount:
        """Begin to count a camera."""
        account = ByteAccount()
        with self._changing:
            self._accounts = (*self._accounts, account)
        return account

    def close_account(self, account: ByteAccount) -> None:
        """Stop counting a camera: its queue is gone. Idempotent."""
        with self._changing:
            self._accounts = tuple(a for a in self._accounts if a is not account)
