"""Detects an unfinished commit or packing in a dataset, without changing anything."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.compute as pc

from ...system import storage
from ..exchange.pack_journal import PACK_FOLDER, is_decided
from ..format import layout
from ..format.info_json import DatasetInfo
from ..format.links import damage_errors
from ..format.numbered_files import numbered_files
from ..format.tables import read_table


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
        count = _temporaries(root)
        if count:
            found.append(f"temporary files are deleted: {count}")
    return found


def _exceeds(folder: Path, total_episodes: int) -> bool:
    """Whether the newest file of a folder has rows of episodes that do not count."""
    files = list(numbered_files(folder).values())
    if not files:
        return False
    episodes = read_table(files[-1], ["episode_index"])["episode_index"]
    return bool(len(episodes)) and pc.max(episodes).as_py() >= total_episodes


def _temporaries(root: Path) -> int:
    with storage.storage_errors(root, "search"):
        count = sum(name.endswith(storage.TEMPORARY_SUFFIX) for name in os.listdir(root))
        for top in ("meta", layout.DATA_FOLDER, layout.VIDEOS_FOLDER):
            for _, folders, names in os.walk(root / top):
                count += sum(name.endswith(storage.TEMPORARY_SUFFIX) for name in (*folders, *names))
    return count
