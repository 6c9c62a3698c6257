"""Opens the viewer that lerobot's `--display_*` flags ask for, for as long as a command runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from ..monitor.viewer import Viewer
from .output import say


class DisplayFlags(Protocol):
    """The flags that select what is shown, and where."""

    display_data: bool
    display_mode: str
    display_ip: str | None
    display_port: int | None
    display_compressed_images: bool


@asynccontextmanager
async def viewing(flags: DisplayFlags, session_name: str) -> AsyncIterator[Viewer | None]:
    """Open the viewer that the flags ask for, close it at the end, and report views it could not show.

    Yields:
        The viewer, or None when none is wanted.

    Raises:
        ConfigError: it cannot be opened.
        StateError: it does not start.
    """
    if not flags.display_data:
        yield None
        return
    viewer = await asyncio.to_thread(
        Viewer.open,
        session_name,
        flags.display_mode,
        flags.display_ip,
        flags.display_port,
        flags.display_compressed_images,
    )
    for text in (viewer.note, viewer.hint):
        if text is not None:
            say(f"note: {text}", file=sys.stderr, flush=True)
    try:
        yield viewer
    finally:
        await asyncio.to_thread(viewer.close)
        if viewer.dropped:
            total = viewer.shown + viewer.dropped
            say(
                f"note: the viewer was too slow for {viewer.dropped} of {total} views; they were not shown. "
                "The recording has every frame.",
                file=sys.stderr,
            )
