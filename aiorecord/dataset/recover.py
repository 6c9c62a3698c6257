"""What an interrupted recording left in staging, made ready to be saved.

Recovery is one rule: undo what ``info.json`` does not count (`DatasetWriter.open` does that), then redo what
staging still holds. This module finds what it holds, and turns an episode that was being recorded into a
complete, shorter one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from ..capture.reader import count_frames
from ..capture.rows import read_rows
from ..capture.staging import EpisodeFolder, Staging
from ..errors import DatasetError
from .writer import DatasetWriter

logger = logging.getLogger(__name__)


@dataclass
class Salvage:
    """What was found in staging.

    Attributes:
        ready: complete episodes to be saved, in the order of recording.
        cut: for each episode that was being recorded, rows that could not be kept because the frames of a
            camera had not reached the disk (or frames without their row).
        committed: episodes that were in the dataset already; their leftovers were deleted.
        empty: folders without a single whole frame; deleted.
        unreadable: folders whose manifest cannot be read; left alone.
    """

    ready: list[EpisodeFolder] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)
    committed: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def salvage(writer: DatasetWriter, staging: Staging) -> Salvage:
    """Look through staging and make everything in it ready. Blocking; safe to be killed and run again.

    An episode that was being recorded is kept as far as its rows and the frames of every camera reach, and
    marked as interrupted.

    Raises:
        StorageError: the disk refused.
    """
    found = Salvage()
    for path in staging.episode_paths():
        try:
            folder = EpisodeFolder.load(path)
        except DatasetError as error:
            logger.warning("Left alone in staging: %s", error)
            found.unreadable.append(path.name)
            continue
        if writer.is_committed(folder) is not None:
            folder.remove()
            found.committed.append(folder.id)
        elif folder.manifest.state == "complete" or _complete(folder, found):
            found.ready.append(folder)
        else:
            folder.remove()
            found.empty.append(folder.id)
    return found


def _complete(folder: EpisodeFolder, found: Salvage) -> bool:
    """Turn an episode that was being recorded into a complete one; False if nothing whole is in it."""
    manifest = folder.manifest
    rows = read_rows(folder.rows_path, manifest.schema()).num_rows
    frames = {key: count_frames(folder, key) for key in manifest.cameras}
    length = min([rows, *frames.values()])
    if length == 0:
        return False
    found.cut[folder.id] = max([rows, *frames.values()]) - length
    manifest.state = "complete"
    manifest.interrupted = True
    manifest.length = length
    folder.save()
    return True
