"""Keeps the frames of a damaged staged episode that precede the damage, where the user gives up the rest.

Every file of staging is verified from its beginning up to the first byte that is not what was written, so the
frames before the damage are as good as those of an episode that was cut off there. Nothing is deleted: the
original folder is moved aside.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ...errors import AiorecordError, StorageError
from ...staging.folder import EpisodeFolder
from ...staging.whole_frames import soundness
from ...system import storage
from ..exchange.pack_evidence import free_aside
from ..format.numbered_files import link_or_copy
from .salvage import StagedEpisode, State, Step, complete_salvaged, undetermined


def cut_damaged(root: Path, found: list[StagedEpisode]) -> list[StagedEpisode]:
    """Turn damaged episodes into complete, shorter ones. Safe to be killed and run again. Blocking.

    Args:
        found: the episodes of staging; the notes of damaged ones are updated with the outcome.

    Returns:
        The episodes with at least one frame left, which can be saved. The others stay unchanged.

    Raises:
        StorageError: the disk refused to move a folder aside, or to write a manifest.
    """
    aside = free_aside(root)
    return [episode for episode in found if episode.state is State.DAMAGED and _cut(root, aside, episode)]


def note_cuts(found: list[StagedEpisode]) -> None:
    """Add to the notes of damaged episodes what `cut_damaged` would keep. Only reads; blocking."""
    for episode in found:
        if episode.state is State.DAMAGED and _measure(episode):
            episode.step = Step.SAVE
            episode.note = f"{_damage(episode)}; only the frames before it; its folder would be moved aside"


def _cut(root: Path, aside: Path, episode: StagedEpisode) -> bool:
    if not _measure(episode):
        return False
    folder, damage = episode.folder, _damage(episode)
    assert folder is not None
    kept = aside / episode.path.relative_to(root)
    with storage.storage_errors(kept, "set aside"):
        storage.make_folder(kept)
        for name in sorted(os.listdir(episode.path)):
            link_or_copy(episode.path / name, kept / name)
        storage.fsync_folder(kept)
    with storage.storage_errors(folder.path, "encode again"):
        (folder.path / EpisodeFolder.ENCODED).unlink(missing_ok=True)
    for key, camera in folder.manifest.cameras.items():  # its counts are those of the whole capture
        folder.manifest.cameras[key] = replace(camera, frames=None, spilled=0)
    complete_salvaged(folder.manifest, episode)
    folder.save()
    episode.state, episode.step = State.INTERRUPTED, Step.SAVE
    episode.note = f"{damage}; its original folder is in {aside.name}"
    return True


def _measure(episode: StagedEpisode) -> bool:
    """Count the frames before the damage; returns whether there are any and they could be read."""
    folder = episode.folder
    if folder is None:
        return False
    try:
        found = soundness(folder)
    except StorageError as error:
        episode.leave(State.UNDETERMINED, undetermined(error))
        return False
    except AiorecordError:
        return False
    length = folder.manifest.length
    recorded = max(found.recorded, length or 0)
    episode.frames = found.frames if length is None else min(found.frames, length)
    episode.lost = recorded - episode.frames
    episode.missing = {name: recorded - n for name, n in found.counts.items() if n < recorded}
    return episode.frames > 0


def _damage(episode: StagedEpisode) -> str:
    """The description of the damage, without the advice."""
    return episode.note.partition("; nothing was changed")[0].removeprefix("is ")
