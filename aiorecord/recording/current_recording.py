"""What is recorded now, as the core of a recorder sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..clock import Ticker
from ..errors import StateError


@dataclass(frozen=True)
class Recording:
    """What is recorded now, as a core sees it: called on the event loop.

    Attributes:
        folder: the folder in staging that grows, None if there is none.
        request_end: asks that the recording ends now and is kept, for a reason in words; never blocks.
        interrupt: keeps in staging what was recorded so far: the recorder is closed.
        count_ticks_of: takes a ticker whose ticks are those of the recording.
        status: the fields of `RecorderStatus` that are about it.
    """

    folder: Callable[[], Path | None]
    request_end: Callable[[str], None]
    interrupt: Callable[[StateError], Awaitable[None]]
    count_ticks_of: Callable[[Ticker], None] = lambda ticker: None
    status: Callable[[], dict[str, Any]] = dict
