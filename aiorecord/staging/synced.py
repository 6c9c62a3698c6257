"""Records how much of each file of a live episode is on the disk for certain, after each fsync.

``synced.log`` has one line per fsync: CRC-32 of the rest in 8 hexadecimal digits, a space, and a JSON object
of file names and sizes in bytes. A file's content below its recorded size was made durable: if it cannot be
read as whole, it is damaged. Content beyond that size may be torn by whatever ended the recording.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from .records import AppendFile
from .staged_file import StagedFile

SYNCED = "synced.log"

_MAX_BYTES = 64 << 20
"""Enough for days: one line of some hundred bytes per second."""


class SyncedLog:
    """Appends to ``synced.log``, from one thread at a time.

    Args:
        folder: the episode folder; the file is made with the first line.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SYNCED
        self._file: AppendFile | None = None
        self._closed = False
        self._noted: dict[str, int] = {}

    def note(self, sizes: Mapping[str, int]) -> None:
        """Record sizes that an fsync has just made durable; nothing if they are not new or it is closed."""
        if self._closed or sizes == self._noted:
            return
        if self._file is None:
            self._file = AppendFile(self._path)
        text = json.dumps(sizes, ensure_ascii=True).encode()
        self._file.append(b"%08x %s\n" % (zlib.crc32(text), text))
        self._noted = dict(sizes)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._closed = True
        if self._file is not None:
            self._file.close()


def synced_sizes(folder: Path) -> dict[str, int]:
    """The sizes in the newest whole line; empty if there is none."""
    file = StagedFile.open(folder / SYNCED)
    if file is None:
        return {}
    with file:
        lines = file.read(_MAX_BYTES).split(b"\n")
    for line in reversed(lines):
        check, _, text = line.partition(b" ")
        if text and check == b"%08x" % zlib.crc32(text):
            sizes = json.loads(text)
            return {str(name): int(size) for name, size in sizes.items()}
    return {}
