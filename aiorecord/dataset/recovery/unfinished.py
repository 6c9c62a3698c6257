"""Detects an unfinished commit or packing in a dataset, without changing anything."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from ...system import storage
from ..exchange.pack_journal import PACK_FOLDER, is_decided
from ..format import layout
from ..format.info_json import DatasetInfo
from ..format.links import damage_errors
from ..format.numbered_files import numbered_files, temporary_files
from ..format.tables import episode_column


def unfinished(root: Path, info: DatasetInfo) -> list[str]:
    """What opening the dataset for writing will finish or undo, a sentence each. Only reads.

    Args:
        info: the counted episodes.
    """
    found = []
    with damage_errors(root):
        if is_decided(root):
            return ["a decided packing is completed"]
        if (root / PACK_FOLDER).exists():
            found.append("a packing that was only prepared is undone")
        tops = (layout.EPISODES_FOLDER, layout.DATA_FOLDER)
        if any(_exceeds(root / top, info.total_episodes) for top in tops):
            found.append(f"the half-written commit of episode {info.total_episodes} is undone")
        with storage.storage_errors(root, "search"):
            count = len(temporary_files(root))
        if count:
            found.append(f"temporary files are deleted: {count}")
    return found


def _exceeds(folder: Path, total_episodes: int) -> bool:
    """Whether the newest file of a folder has rows of episodes that do not count."""
    files = list(numbered_files(folder).values())
    if not files:
        return False
    episodes = episode_column(files[-1])
    return bool(len(episodes)) and pc.max(episodes).as_py() >= total_episodes
