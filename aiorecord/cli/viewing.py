"""Opens the viewer that lerobot's `--display_*` flags ask for, for as long as a command runs."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from ..monitor.viewer import Viewer
from ..system.threads import run_in_thread
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
    viewer: Viewer | None = None

    def open_viewer() -> Viewer:
        nonlocal viewer  # set in the thread: whoever is cancelled meanwhile must close it all the same
        viewer = Viewer.open(
            session_name,
            flags.display_mode,
            flags.display_ip,
            flags.display_port,
            flags.display_compressed_images,
        )
        return viewer

    try:
        opened = await run_in_thread(open_viewer)
        for text in (opened.note, opened.hint):
            if text is not None:
                say(f"note: {text}", file=sys.stderr, flush=True)
        yield opened
    finally:
        if viewer is not None:
            await run_in_thread(viewer.close)
        if viewer is not None and viewer.dropped:
            total = viewer.shown + viewer.dropped
            say(
                f"note: the viewer was too slow for {viewer.dropped} of {total} views; they were not shown. "
                "The recording has every frame.",
                file=sys.stderr,
            )
