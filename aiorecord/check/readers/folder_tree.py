"""Lists what a dataset's folder holds besides the dataset: leftover files by name, and a running recorder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...dataset.exchange.pack_evidence import ASIDE
from ...dataset.exchange.pack_journal import PACK_FOLDER
from ...dataset.format import layout
from ...dataset.format.layout import FileIndex
from ...dataset.format.numbered_files import temporary_files
from ...staging.folder import STAGING_FOLDER, Staging
from ...system import storage
from ..findings import Finding

IMAGES_FOLDER = "images"
"""The folder where LeRobot keeps an episode's images until its video is encoded (`DEFAULT_IMAGE_PATH`)."""

_LEROBOT_TEMPORARY = re.compile(r"tmp[a-z0-9_]{8}")
"""The folders in which LeRobot encodes: `tempfile.mkdtemp(dir=root)`."""
_VIDEO_SUFFIXES = {".mp4", ".log"}


def leftovers(root: Path, holder: str | None) -> Iterator[Finding]:
    """Findings on unfinished episodes, interrupted work and leftover files.

    Args:
        root: the dataset.
        holder: the process that records into it, None if there is none; its files are not leftovers.

    Raises:
        OSError: a folder cannot be read.
    """
    if holder is not None:
        yield Finding("dataset-locked", f"{STAGING_FOLDER}/lock", f"It is being recorded into by {holder}.")
    staged = Staging(root).episode_paths()
    if staged and holder is None:
        names = ", ".join(path.name for path in staged[:3]) + (", ..." if len(staged) > 3 else "")
        message = f"{len(staged)} episodes are unfinished: {names}."
        yield Finding("staging-unfinished", f"{STAGING_FOLDER}/episodes", message)
    if (root / PACK_FOLDER).exists() and holder is None:
        yield Finding("staging-packing", PACK_FOLDER, "A packing or a repair was interrupted.")
    for path in sorted(path for path in root.iterdir() if path.name.startswith(ASIDE)):
        yield Finding("aside-folder", path.name, "It holds what a repair moved aside.")
    if holder is None:
        message = "It is half written, left by an interrupted program."
        for path in temporary_files(root):
            yield Finding("temporary-file", name_in(root, path), message)
    message = "LeRobot was killed while it encoded a video."
    for path in lerobot_temporaries(root):
        yield Finding("lerobot-killed-temporary-video", name_in(root, path), message)
    files = sum(len(names) for _, _, names in os.walk(root / IMAGES_FOLDER))
    if files:  # LeRobot leaves empty folders when it ends normally
        message = (
            f"LeRobot was killed while it recorded or encoded an episode: {files} images are left of it."
        )
        yield Finding("lerobot-killed-image-folder", IMAGES_FOLDER, message)


def lerobot_temporaries(root: Path) -> list[Path]:
    """Folders in which LeRobot was encoding, by their names; they hold only videos."""
    return sorted(
        path
        for path in root.iterdir()
        if _LEROBOT_TEMPORARY.fullmatch(path.name)
        and path.is_dir()
        and not path.is_symlink()
        and all(child.suffix in _VIDEO_SUFFIXES for child in path.iterdir())
    )


def parquet_files(folder: Path) -> list[Path]:
    """The files that lerobot reads of a folder: every ``*/*.parquet``, in the order of the names.

    Raises:
        StorageError: a folder cannot be read; `Path.glob` would treat it as empty.
    """
    found: list[Path] = []
    for chunk in _entries(folder):
        if not chunk.name.startswith("."):
            found += [path for path in _entries(chunk) if path.name.endswith(".parquet")]
    return sorted(path for path in found if not path.name.startswith("."))


def _entries(folder: Path) -> list[Path]:
    with storage.storage_errors(folder, "read"):
        try:
            return [Path(entry.path) for entry in os.scandir(folder)]
        except (FileNotFoundError, NotADirectoryError):
            return []


def file_index(path: Path) -> FileIndex | None:
    """The number of a data or video file, by its name and its folder's; None for another name."""
    return layout.parse_index(f"{path.parent.name}/{path.name}")


def name_in(root: Path, path: Path) -> str:
    """The name of a dataset's file in findings: its path from the root, with slashes.

    Raises:
        ValueError: it is not below the root.
    """
    folder, name = f"{root}{os.sep}", str(path)
    if name.startswith(folder):  # pathlib takes many times as long to say the same
        return name.removeprefix(folder).replace(os.sep, "/")
    return path.relative_to(root).as_posix()
