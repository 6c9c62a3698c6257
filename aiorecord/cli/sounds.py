"""Speaks announcements (`--play_sounds`) with the platform's speech program."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys


def speech_command(text: str) -> list[str] | None:
    """The command that speaks `text` here (lerobot's choice of programs), None if there is none."""
    if sys.platform == "darwin":
        command = ["say", text]
    elif sys.platform == "win32":
        quoted = text.replace("'", "''")
        script = (
            f"Add-Type -A System.Speech; (New-Object Speech.Synthesis.SpeechSynthesizer).Speak('{quoted}')"
        )
        command = ["PowerShell", "-Command", script]
    else:
        command = ["spd-say", text]
    return command if shutil.which(command[0]) else None


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
