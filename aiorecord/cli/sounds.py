"""Speaks announcements (`--play_sounds`) with the platform's speech program."""

from __future__ import annotations

import asyncio
import contextlib

from ..system.speech import speech_command


class Speaker:
    """Speaks one announcement at a time; a newer one replaces those that wait.

    Args:
        enabled: False says nothing.
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._next: str | None = None
        self._wake = asyncio.Event()

    def say(self, text: str) -> None:
        """Announce a text; returns at once."""
        if self._enabled:
            self._next = text
            self._wake.set()

    async def run(self) -> None:
        """Speak the announcements, until cancelled. Cancelling stops the speech program."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            text, self._next = self._next, None
            command = speech_command(text) if text else None
            if command is not None:
                await _speak(command)


async def _speak(command: list[str]) -> None:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                process.terminate()
            await process.wait()
