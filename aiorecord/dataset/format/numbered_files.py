"""Finds, links and removes the numbered files of a dataset."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ...system import storage
from .layout import TOPS, FileIndex, parse_index

_NO_LINKS = {
    errno.EPERM,
    errno.EXDEV,
    errno.EMLINK,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EACCES,
}


def numbered_files(folder: Path) -> dict[FileIndex, Path]:
    """Every ``chunk-NNN/file-NNN.*`` in a folder, in the order of their numbers; other names are left out."""
    with storage.storage_errors(folder, "read"):
        if not folder.is_dir():
            return {}
        found = {
            index: path
            for chunk in folder.iterdir()
            if chunk.is_dir()
            for path in chunk.iterdir()
            if (index := parse_index(f"{chunk.name}/{path.name}")) is not None
        }
    return dict(sorted(found.items()))


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the filesystem has no hard links. `target` must not exist.

    The content is durable (a link's always was), the new name is not by itself. Files of a dataset are
    replaced and never changed in place, so two names may share one content.

    Raises:
        OSError: the disk refused.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
        storage.fsync_file(target)


def supports_links(folder: Path) -> bool:
    """Whether files in `folder` can have hard links. Writes and removes two small files."""
    source = storage.temporary_name(folder / "link-probe")
    target = storage.temporary_name(folder / "link-probe-2")
    with storage.storage_errors(folder, "write into"):
        try:
            source.write_bytes(b"")
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return False
        finally:
            source.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
    return True


def remove_files(paths: Iterable[Path]) -> list[Path]:
    """Delete files, and their folders where nothing is left in them, durably. Missing files are fine.

    Returns:
        The files that were there.
    """
    removed: list[Path] = []
    folders: dict[Path, None] = {}
    for path in paths:
        with storage.storage_errors(path, "remove"):
            if path.exists():
                path.unlink()
                removed.append(path)
            folders[path.parent] = None
    for folder in folders:
        with storage.storage_errors(folder, "remove"):
            if not folder.is_dir():
                continue
            if any(folder.iterdir()):
                storage.fsync_folder(folder)
            else:
                folder.rmdir()
                storage.fsync_folder(folder.parent)
    return removed


def temporary_files(root: Path) -> list[Path]:
    """The files and folders that interrupted writers left in `meta`, `data`, `videos` and the root itself.

    Raises:
        OSError: the root cannot be read.
    """
    suffix = storage.TEMPORARY_SUFFIX
    found = [path for path in root.iterdir() if path.name.endswith(suffix)]
    for top in TOPS:
        for folder, folders, names in os.walk(root / top):
            for name in [name for name in folders if name.endswith(suffix)]:
                folders.remove(name)
                found.append(Path(folder, name))
            found += [Path(folder, name) for name in names if name.endswith(suffix)]
    return sorted(found)


def remove_temporaries(root: Path) -> list[Path]:
    """Delete `temporary_files`.

    Returns:
        The files and folders that were removed.

    Raises:
        StorageError: the disk refused to remove one; the others are removed.
    """
    with storage.storage_errors(root, "search"):
        found = temporary_files(root)

    def remove(path: Path) -> None:
        with storage.storage_errors(path, "remove"):
            storage.remove_entry(path)

    storage.each(found, remove)
    return found
