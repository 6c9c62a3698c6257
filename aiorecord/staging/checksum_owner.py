"""Seeds checksums with their owner, so that a file swapped with another episode's does not match."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

EPISODE_ID = re.compile(r"(\d{6,})-[0-9a-f]{8}")
"""The name of an episode folder."""


def owner_seed(path: Path) -> int:
    """The start value of a file's CRC-32, computed from its episode's id and its name, such as ``ID/NAME``.

    0, which is CRC-32's own start value, for a file outside an episode folder.
    """
    if EPISODE_ID.fullmatch(path.parent.name) is None:
        return 0
    return zlib.crc32(f"{path.parent.name}/{path.name}".encode(errors="surrogateescape"))
