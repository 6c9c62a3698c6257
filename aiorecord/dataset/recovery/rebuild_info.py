"""Rebuilds a lost `meta/info.json` from the manifests in staging, if staging still holds every episode.

If every episode of the dataset is also in staging, nothing is lost with the old file. Half-written commits
are then rolled back and done again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...staging.folder import EpisodeFolder, Staging
from ...system.storage import is_there
from ..commit.already_committed import intended_index
from ..format import layout
from ..format.episodes import read_ids
from ..format.info_json import DatasetInfo, new_info, write_info
from ..format.links import check_links, damage_errors
from ..format.numbered_files import numbered_files
from ..format.tables import episode_column


def lost_info(root: Path) -> DatasetInfo | None:
    """The info of a dataset whose info.json is missing, without episodes. Writes nothing.

    Sizes of files and chunks are lerobot's defaults, since manifests do not have them.

    Returns:
        None if info.json is there.

    Raises:
        DatasetError: the folder holds no dataset, or one with episodes that are not in staging.
    """
    if is_there(root / layout.INFO_PATH):
        return None
    folders = []
    for path in Staging(root).episode_paths():
        try:
            folders.append(EpisodeFolder.load(path))
        except DatasetError:
            continue  # unreadable, so of no use here; it is reported with the rest of staging
    if not folders:
        raise DatasetError(f"{root} holds no dataset (there is no {layout.INFO_PATH}).", path=root)
    with damage_errors(root):
        check_links(root)
        _check_all_staged(root, {index: f.id for f in folders if (index := intended_index(f)) is not None})
    # The newest manifest has the latest settings; an older episode that differs is refused at its commit.
    manifest = folders[-1].manifest
    return new_info(manifest.schema(), fps=manifest.fps, robot_type=manifest.robot_type)


def rebuild_info(root: Path) -> bool:
    """Rebuild info.json if it is lost; see `lost_info`.

    The caller holds the dataset's lock.

    Returns:
        Whether it was lost.

    Raises:
        DatasetError: as `lost_info`.
    """
    info = lost_info(root)
    if info is not None:
        write_info(root, info)
    return info is not None


def _check_all_staged(root: Path, staged: dict[int, str]) -> None:
    """Check that every episode of the dataset is also in staging."""
    held: set[Any] = set()
    for path in numbered_files(root / layout.DATA_FOLDER).values():
        held |= set(episode_column(path).to_pylist())
    for path in numbered_files(root / layout.EPISODES_FOLDER).values():
        ids = read_ids(path)
        indices: list[Any] = episode_column(path).to_pylist()
        for index in indices:
            held.add(index if ids.get(index) == staged.get(index) else -1)
    videos = root / layout.VIDEOS_FOLDER
    cameras = [path for path in videos.iterdir() if path.is_dir()] if videos.is_dir() else []
    most_videos = max((len(numbered_files(path)) for path in cameras), default=0)
    if held - staged.keys() or most_videos > len(held):
        raise DatasetError(
            f"{root}: {layout.INFO_PATH} is gone, and the dataset holds episodes that are not in staging any "
            "more. Put it back from a copy, such as the one on the Hub, or run `aiorecord check --repair`, "
            "which rebuilds it from other files. Staging was not touched.",
            path=root,
        )
