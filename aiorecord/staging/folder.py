"""The staging area: one folder per captured episode, described by its manifest.

::

    <root>/.aiorecord/
        episodes/<sequence>-<random>/
            manifest.json      what is captured, how, and how far: see Manifest
            rows.arrows        the rows (Arrow IPC stream)
            <camera>.frames    the frames; or <camera>.raw, .mkv: by the kind of capture, see kinds
            <camera>.spill     frames that the capture encoder could not take in time, raw, in order
            <camera>.hist      per-frame pixel histograms of colour cameras, for exact statistics
            <file>.crc         checksums of a live capture, and of histograms: see checksums
            synced.log         how much of each file is on the disk for certain: see synced
            <camera>.mp4       the final video, once encoded;  <camera>.png.arrow for `image` features
            encoded.json       written when every camera is encoded and verified
            commit.json        the episode index this episode is about to get

Sequence numbers order episodes as they were recorded; a clock that steps back does not matter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DatasetError, StorageError
from ..system.storage import (
    TEMPORARY_SUFFIX,
    each,
    fsync_folder,
    is_there,
    make_folder,
    remove_entry,
    remove_tree,
    storage_errors,
    write_json,
)
from .checksum_owner import EPISODE_ID
from .manifest import Manifest
from .sealed_json import read_sealed, write_sealed

STAGING_FOLDER = ".aiorecord"


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
    def rows_path(self) -> Path:
        """The rows journal."""
        return self.path / self.ROWS

    def save(self, facts: Mapping[str, Any] | None = None) -> None:
        """Write the manifest durably.

        Args:
            facts: added to its quality facts on disk, as they are so far; the manifest here does not change.
        """
        data = dataclasses.asdict(self.manifest)
        data["quality"] = {**data["quality"], **(facts or {})}
        if not data["priority"]:
            del data["priority"]  # versions that know no priority can read it too
        if self.manifest.has_sums:
            write_sealed(self.path / self.MANIFEST, data)
        else:
            write_json(self.path / self.MANIFEST, data)

    @classmethod
    def load(cls, path: Path) -> EpisodeFolder:
        """Read an episode folder.

        Raises:
            DatasetError: the manifest is missing or invalid; its file names leave the folder; the folder
                is a symbolic link, or something in it is not a plain file (a link would lead elsewhere, a
                pipe would never answer); the manifest does not match its checksum.
            StorageError: the folder or the manifest cannot be read.
        """
        # Imported here: the kinds of capture need libav, and who only names folders does not.
        from .manifest_checks import parse_manifest

        file = path / cls.MANIFEST
        try:
            with storage_errors(path, "read"):
                check_plain_files(path)
            # Version 1 had no checksum.
            data = read_sealed(file, required=lambda found: found.get("version") != 1)
            manifest = parse_manifest(data)
        except StorageError as error:
            if not is_there(path):
                raise DatasetError(f"{path} is missing.", path=path) from error
            raise
        except DatasetError:
            raise
        except KeyError as error:
            raise DatasetError(f"{file} cannot be read as a manifest: it lacks {error}", path=file) from error
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise DatasetError(f"{file} cannot be read as a manifest: {error}", path=file) from error
        return cls(path, manifest)

    def size_bytes(self) -> int:
        """Bytes of the captured frames on disk. Reads the folder; a file that vanishes meanwhile counts 0."""
        total = 0
        for camera in self.manifest.cameras.values():
            for name in (camera.file, camera.spill):
                path = self.path / name
                with storage_errors(path, "read"), contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_size
        return total

    def remove(self) -> None:
        """Delete the folder; readers never see a half-deleted one."""
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
            StorageError: the staging area is a symbolic link, or cannot be read.
        """
        return [path for _, path in self._numbered()]

    def create(self, manifest: Manifest) -> EpisodeFolder:
        """Make the next episode's folder with its manifest, durably."""
        self._check_place()
        with storage_errors(self.episodes_path, "create the staging folder"):
            make_folder(self.episodes_path)
            if not self._sequence:
                numbered = self._numbered()
                self._sequence = numbered[-1][0] if numbered else 0
            self._sequence += 1
            path = self.episodes_path / f"{self._sequence:06d}-{os.urandom(4).hex()}"
            path.mkdir()
            folder = EpisodeFolder(path, manifest)
            try:
                folder.save()
                fsync_folder(self.episodes_path)
            except OSError:
                # Nothing refers to it. If it cannot be deleted either, the next opening of the dataset does
                # it.
                with contextlib.suppress(OSError):
                    remove_entry(path)
                raise
        return folder

    def remove_leftovers(self) -> list[Path]:
        """Delete folders whose creation or removal was interrupted; they hold no episode.

        The caller holds the dataset's lock, and captures nothing yet.

        Returns:
            What was removed.

        Raises:
            StorageError: the disk refused to remove one, or to list them; the others are removed.
        """
        found = self.leftovers()

        def remove(path: Path) -> None:
            with storage_errors(path, "remove"):
                shutil.rmtree(path)

        each(found, remove)
        return found

    def leftovers(self) -> list[Path]:
        """The folders that `remove_leftovers` would remove. Only reads."""
        return [path for path in self._entries() if _is_leftover(path)]

    def _numbered(self) -> list[tuple[int, Path]]:
        """The episode folders with their sequence numbers, in order."""
        return sorted((int(m[1]), p) for p in self._entries() if (m := EPISODE_ID.fullmatch(p.name)))

    def _entries(self) -> list[Path]:
        self._check_place()
        if not is_there(self.episodes_path):
            return []
        with storage_errors(self.episodes_path, "read"):
            return list(self.episodes_path.iterdir())

    def _check_place(self) -> None:
        """Check that files written and deleted here are inside the dataset."""
        for path in (self.path, self.episodes_path):
            with storage_errors(path, "read"):
                is_link = path.is_symlink()
            if is_link:
                raise StorageError(f"{path} is a symbolic link; nothing is written through it.", path=path)

    def tidy(self) -> None:
        """Delete the folder of episodes if it is empty. Releasing the lock then deletes the rest."""
        with contextlib.suppress(OSError):  # not empty, or never made
            self.episodes_path.rmdir()


def check_plain_files(folder: Path) -> None:
    """Check that a path is a folder that holds nothing but plain files.

    Raises:
        ValueError: it is a link, or holds a link, a folder, a pipe or a device.
        OSError: it cannot be read.
    """
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise ValueError(f"{folder.name} is not a folder")
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) and is_there(folder / entry.name):
                raise ValueError(f"{entry.name!r} is not a plain file")


def _is_leftover(path: Path) -> bool:
    """Whether a folder was being removed (it has a temporary name), or was made and got no manifest.

    A folder that cannot be read counts as an episode, whose check reports the problem.
    """
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            return False
        if path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX):
            return True
        if not EPISODE_ID.fullmatch(path.name):
            return False
        names = os.listdir(path)
    except OSError:
        return False
    # Only a half-written manifest: any other file may belong to an episode that had a manifest.
    began = f".{EpisodeFolder.MANIFEST}."
    return all(name.startswith(began) and name.endswith(TEMPORARY_SUFFIX) for name in names)
