"""Describes the content of an episode folder whose manifest is unreadable, so that a person can decide about
it.
"""

from __future__ import annotations

from pathlib import Path

import av

from ..errors import DamageError, StorageError
from .folder import EpisodeFolder, check_plain_files
from .kind import SPILL_SUFFIX
from .kinds import KINDS
from .raw import RAW
from .rows import count_rows

_KIND_OF_SUFFIX = {kind.suffix: kind for kind in KINDS.values()} | {SPILL_SUFFIX: RAW}


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
        kind = _KIND_OF_SUFFIX.get(file.suffix)
        if kind is None:
            return ""
        frames = kind.count_any(file)
    except (DamageError, StorageError, av.FFmpegError) as error:
        return f"{file.name}: {error}"
    return f"{file.name}: {frames} frames"
