"""Describes the content of an episode folder whose manifest is unreadable, so that a person can decide about
it.
"""

from __future__ import annotations

from pathlib import Path

import av

from ..errors import DamageError, StorageError
from .folder import EpisodeFolder, check_plain_files
from .matroska_file import opened_capture
from .records import read_records
from .rows import count_rows


def describe(path: Path) -> str:
    """The rows and frames that a folder holds, by its files. Only reads; follows no link.

    Args:
        path: the episode folder.

    Returns:
        A phrase such as ``"300 rows; front.mkv: 299 frames"``.
    """
    try:
        check_plain_files(path)
        files = sorted(path.iterdir())
    except (OSError, ValueError) as error:
        return str(error)
    found = [text for file in files if (text := _describe(file))]
    return "; ".join(found) or "nothing else is in it"


def _describe(file: Path) -> str:
    try:
        if file.name == EpisodeFolder.ROWS:
            rows = count_rows(file)
            return f"{rows} rows"
        if file.suffix == ".mkv":
            with opened_capture(file) as opened:
                frames = 0 if opened is None else sum(1 for _ in opened.packets())
        elif file.suffix in (".frames", ".raw", ".spill"):
            frames = sum(1 for _ in read_records(file))
        else:
            return ""
    except (DamageError, StorageError, av.FFmpegError) as error:
        return f"{file.name}: {error}"
    return f"{file.name}: {frames} frames"
