"""Which episodes of staging are in the dataset already. Only reads."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from .. import storage
from ..capture.sealed import read_sealed
from ..capture.staging import EpisodeFolder
from ..errors import DatasetError
from . import layout
from .episodes import read_file, read_ids
from .files import numbered_files
from .tables import read_table


def committed_index(root: Path, total_episodes: int, folder: EpisodeFolder) -> int | None:
    """The episode's index if it is in the dataset already, else None.

    The intent in the episode's folder says that a commit has begun, whatever else it says; `meta/episodes`
    says which episode it was that got each index.

    Args:
        root: the dataset's root folder.
        total_episodes: how many count; `meta/episodes` may hold more.
        folder: the episode.

    Raises:
        DatasetError: `meta/episodes` cannot be read.
        StorageError: the disk refused.
    """
    if not storage.is_there(folder.path / EpisodeFolder.COMMIT):
        return None
    for path in numbered_files(root / layout.EPISODES_FOLDER).values():
        for index, id_ in read_ids(path).items():
            if id_ == folder.id and 0 <= index < total_episodes:
                return index
    return None


def intended_index(folder: EpisodeFolder) -> int | None:
    """The index that a commit was about to give the episode; None when there is no intent that is whole.

    Raises:
        StorageError: the intent cannot be read.
    """
    path = folder.path / EpisodeFolder.COMMIT
    if not storage.is_there(path):
        return None
    try:
        index = read_sealed(path)["episode_index"]
    except (ValueError, TypeError, KeyError):
        return None
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None


def span_of(root: Path, index: int) -> tuple[int, int]:
    """Dataset-wide indices of a committed episode's first frame, and of the one after its last.

    Raises:
        DatasetError: `meta/episodes` cannot be read, or does not have the episode.
        StorageError: the disk refused.
    """
    for path in numbered_files(root / layout.EPISODES_FOLDER).values():
        episodes = read_table(path, ["episode_index"])["episode_index"]
        place = pc.index(episodes, index).as_py()
        if place >= 0:
            row = read_file(path, ["dataset_from_index", "dataset_to_index"]).slice(place, 1).to_pylist()[0]
            return int(row["dataset_from_index"]), int(row["dataset_to_index"])
    raise DatasetError(f"{root}: meta/episodes does not hold episode {index}.", path=root)
