"""Finds the platform's speech program, the same one that lerobot uses."""

from __future__ import annotations

import shutil
import sys


def speech_command(text: str) -> list[str] | None:
    """The command that speaks `text` here, None if its program is not installed."""
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
