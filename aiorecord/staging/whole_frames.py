"""Reads all files of an interrupted episode, to find how far it is whole and where it is damaged."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..system.storage import is_there
from .checksums import sums_path
from .folder import EpisodeFolder
from .kinds import KINDS
from .reader import count_frames, read_histograms
from .rows import read_rows
from .staged_file import Extent
from .synced import synced_sizes


@dataclass
class Soundness:
    """How much of an episode's files is whole, and what is damaged.

    Attributes:
        counts: whole rows (``rows``), and whole frames of each camera (its feature key).
        damage: content that is not what was written, a phrase each; without a torn end of the recording.
    """

    counts: dict[str, int]
    damage: list[str] = field(default_factory=list)

    @property
    def recorded(self) -> int:
        """Frames with a row or an image."""
        return max(self.counts.values())

    @property
    def frames(self) -> int:
        """Frames with a row and the image of every camera."""
        return min(self.counts.values())


def soundness(folder: EpisodeFolder) -> Soundness:
    """Read all files of an episode that did not come to its end.

    Content that an fsync had made durable (`synced`) must be whole, and so must the beginning of every file
    once the first second was recorded; a missing file counts as lost if others hold frames.

    Raises:
        DatasetError: the rows are of other features than the manifest's; a file is not a plain file.
        StorageError: a file cannot be read.
    """
    manifest = folder.manifest
    extents: dict[str, Extent] = {folder.ROWS: Extent()}
    counts = {"rows": read_rows(folder.rows_path, manifest.schema(), extent=extents[folder.ROWS]).num_rows}
    for key in manifest.cameras:
        counts[key] = count_frames(folder, key, extents)
        for _ in read_histograms(folder, key, extents):
            pass
    found = Soundness(counts)
    durable = synced_sizes(folder.path)
    for name, extent in extents.items():
        if extent.end < durable.get(name, 0):
            fault = extent.fault or ("it is missing" if not extent.present else "it is shorter than it was")
            found.damage.append(f"{name}: {fault}")
    told = {line.partition(": ")[0] for line in found.damage}
    # The folder's names are made durable before the first frame, the first second before the manifest
    # says that the episode was started.
    started = "started_unix_ns" in manifest.quality
    main = {folder.ROWS: "rows"} | {camera.file: key for key, camera in manifest.cameras.items()}
    for name, key in main.items():
        extent = extents[name]
        if name in told or counts[key]:
            continue
        if not extent.present and (started or found.recorded):
            found.damage.append(f"{name}: it is missing")
        elif started and extent.end < extent.size:
            found.damage.append(f"{name}: {extent.fault or 'nothing in it can be read'}")
    return found


def check_present(folder: EpisodeFolder) -> list[str]:
    """The missing files of a complete episode's manifest, a phrase each. Checks names only."""
    manifest = folder.manifest
    names = [folder.ROWS]
    # An encoded episode needs its captures only if the encoded result is not what was written.
    encoded = is_there(folder.path / folder.ENCODED)
    for camera in manifest.cameras.values() if not encoded else ():
        names += [camera.file] if camera.frames != 0 else []
        names += [camera.spill] if camera.spilled else []
        if KINDS[camera.capture].has_sums and manifest.has_sums and camera.frames != 0:
            names.append(sums_path(folder.path / camera.file).name)
    return [f"{name}: it is missing" for name in names if not is_there(folder.path / name)]
