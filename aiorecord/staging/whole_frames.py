"""Turns an episode whose capture was interrupted into a complete, shorter one."""

from __future__ import annotations

from ..errors import DamageError
from .folder import EpisodeFolder
from .soundness import soundness


def whole_frames_of(folder: EpisodeFolder) -> tuple[int, int]:
    """How many frames of an incomplete episode can be kept. Reads its files.

    Returns:
        The frames that have a row and the image of every camera, and how many more rows or images of any one
        camera there are.

    Raises:
        DatasetError: the rows are of other features than the manifest's; a file is damaged (DamageError).
        StorageError: a file is there but cannot be read.
    """
    found = soundness(folder)
    if found.damage:
        raise DamageError(f"Episode {folder.id} is damaged: {'; '.join(found.damage)}.", path=folder.path)
    return found.frames, found.recorded - found.frames


def complete_cut(folder: EpisodeFolder, length: int) -> None:
    """Mark an incomplete episode as complete at a length that `whole_frames_of` found, durably.

    Raises:
        StorageError: the disk refused; the manifest is as it was before.
    """
    manifest = folder.manifest
    manifest.state, manifest.interrupted, manifest.length = "complete", True, length
    try:
        folder.save()
    except BaseException:
        manifest.state, manifest.length = "recording", None
        raise
