"""The staging area: one folder per captured episode, described by its manifest.

::

    <root>/.aiorecord/
        episodes/<sequence>-<random>/
            manifest.json      what is captured, how, and how far: see Manifest
            rows.arrows        the rows (Arrow IPC stream)
            <camera>.frames    lossless frames; or <camera>.raw or .mkv, see Camera.capture
            <camera>.spill     frames that the capture encoder could not take in time, raw, in order
            <camera>.hist      per-frame pixel histograms of colour cameras, for exact statistics
            <camera>.mp4       the final video, once encoded;  <camera>.png.arrow for `image` features
            encoded.json       written when every camera is encoded and verified
            commit.json        the episode index this episode is about to get

Sequence numbers order episodes as they were recorded; a clock that steps back does not matter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DatasetError, StorageError
from ..storage import (
    TEMPORARY_SUFFIX,
    fsync_folder,
    make_folder,
    read_json,
    remove_entry,
    remove_tree,
    storage_errors,
    write_json,
)
from .manifest import MANIFEST_VERSION, Camera, CaptureKind, Manifest, State, parse_manifest

__all__ = [
    "MANIFEST_VERSION",
    "STAGING_FOLDER",
    "Camera",
    "CaptureKind",
    "EpisodeFolder",
    "Manifest",
    "Staging",
    "State",
    "check_plain_files",
]

STAGING_FOLDER = ".aiorecord"
_ID = re.compile(r"(\d{6,})-[0-9a-f]{8}")


class EpisodeFolder:
    """One captured episode on disk.

    Attributes:
        path: the folder.
        id: its name.
        manifest: what it holds. Change it, then call `save`.
    """

    MANIFEST = "manifest.json"
    ROWS = "rows.arrows"
    ENCODED = "encoded.json"
    COMMIT = "commit.json"

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.id = path.name
        self.manifest = manifest

    @property
    def sequence(self) -> int:
        """Position in the order of recording."""
        match = _ID.fullmatch(self.id)
        assert match, self.id  # folders with other names are never opened, see Staging.episodes
        return int(match[1])

    @property
    def rows_path(self) -> Path:
        """The rows journal."""
        return self.path / self.ROWS

    def save(self, facts: Mapping[str, Any] | None = None) -> None:
        """Write the manifest durably.

        Args:
            facts: added to its quality facts on disk, as they are so far; the manifest here does not change.

        Raises:
            StorageError: the disk refused.
        """
        data = dataclasses.asdict(self.manifest)
        data["quality"] = {**data["quality"], **(facts or {})}
        write_json(self.path / self.MANIFEST, data)

    @classmethod
    def load(cls, path: Path) -> EpisodeFolder:
        """Read an episode folder.

        Raises:
            DatasetError: the manifest is missing or is not one; its file names leave the folder; the folder
                is a symbolic link, or something in it is no plain file (a link would lead elsewhere, a pipe
                would never answer).
        """
        file = path / cls.MANIFEST
        try:
            check_plain_files(path)
            manifest = parse_manifest(read_json(file))
        except KeyError as error:
            raise DatasetError(f"{file} cannot be read as a manifest: it lacks {error}", path=file) from error
        except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise DatasetError(f"{file} cannot be read as a manifest: {error}", path=file) from error
        return cls(path, manifest)

    def size_bytes(self) -> int:
        """What the captured frames take on disk. Reads the folder; a file that vanishes meanwhile counts 0.

        Raises:
            StorageError: the folder cannot be read.
        """
        total = 0
        for camera in self.manifest.cameras.values():
            for name in (camera.file, camera.spill):
                path = self.path / name
                with storage_errors(path, "read"), contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_size
        return total

    def remove(self) -> None:
        """Delete the folder; readers never see half of it."""
        remove_tree(self.path)


class Staging:
    """The staging area of one dataset.

    Args:
        root: the dataset's root folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / STAGING_FOLDER
        self.episodes_path = self.path / "episodes"
        self._sequence = 0

    def episode_paths(self) -> list[Path]:
        """Every episode folder, in the order of recording, whatever its state.

        Raises:
            StorageError: the staging area is a symbolic link.
        """
        self._check_place()
        if not self.episodes_path.is_dir():
            return []
        found = [(int(m[1]), p) for p in self.episodes_path.iterdir() if (m := _ID.fullmatch(p.name))]
        return [path for _, path in sorted(found)]

    def create(self, manifest: Manifest) -> EpisodeFolder:
        """Make the next episode's folder with its manifest, durably.

        Raises:
            StorageError: the disk refused.
        """
        self._check_place()
        with storage_errors(self.episodes_path, "create the staging folder"):
            make_folder(self.episodes_path)
            if not self._sequence:
                paths = self.episode_paths()
                self._sequence = EpisodeFolder(paths[-1], manifest).sequence if paths else 0
            self._sequence += 1
            path = self.episodes_path / f"{self._sequence:06d}-{os.urandom(4).hex()}"
            path.mkdir()
            folder = EpisodeFolder(path, manifest)
            try:
                folder.save()
                fsync_folder(self.episodes_path)
            except OSError:
                # Nobody knows of it. What the disk does not let go of either, the next opening removes.
                with contextlib.suppress(OSError):
                    remove_entry(path)
                raise
        return folder

    def remove_leftovers(self) -> list[Path]:
        """Delete folders whose removal, or whose making, was interrupted; they hold no episode.

        The caller holds the dataset's lock, and captures nothing yet.

        Returns:
            What was removed.

        Raises:
            StorageError: the disk refused.
        """
        found = self.leftovers()
        for path in found:
            with storage_errors(path, "remove"):
                shutil.rmtree(path)
        return found

    def leftovers(self) -> list[Path]:
        """What `remove_leftovers` would remove. Only reads.

        Raises:
            StorageError: the disk refused.
        """
        self._check_place()
        if not self.episodes_path.is_dir():
            return []
        with storage_errors(self.episodes_path, "read"):
            return [path for path in self.episodes_path.iterdir() if _is_leftover(path)]

    def _check_place(self) -> None:
        """What is written and deleted here must be in the dataset."""
        for path in (self.path, self.episodes_path):
            if path.is_symlink():
                raise StorageError(f"{path} is a symbolic link; nothing is written through it.", path=path)

    def tidy(self) -> None:
        """Delete the folder of episodes if none is left in it. The lock's release then deletes the rest."""
        with contextlib.suppress(OSError):  # not empty, or never made
            self.episodes_path.rmdir()


def check_plain_files(folder: Path) -> None:
    """Check that a folder is one itself and holds nothing but plain files.

    Raises:
        ValueError: it is a link, or holds a link, a folder, a pipe or a device.
        OSError: it cannot be read.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"{folder.name} is not a folder")
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                raise ValueError(f"{entry.name!r} is not a plain file")


def _is_leftover(path: Path) -> bool:
    """Whether a folder was being removed (it has a temporary name), or was made and got no manifest."""
    if path.is_symlink() or not path.is_dir():
        return False
    if path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX):
        return True
    names = [child.name for child in path.iterdir()] if _ID.fullmatch(path.name) else ["foreign"]
    return all(name.startswith(".") and name.endswith(TEMPORARY_SUFFIX) for name in names)
