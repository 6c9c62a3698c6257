"""The journal of a packing: what has been decided is done, whatever happens in between.

A packing prepares everything new in ``.aiorecord/pack``. Until ``journal.json`` is there, nothing has
happened, and what was prepared is deleted. Once it is there, its steps are carried out, by the packing itself
or by whoever opens the dataset after a crash; each step can tell whether it is done already:

1. packed videos move to their names: names that no episode refers to, or the name of a file of which the
   new content is a continuation;
2. ``data`` and ``meta/episodes`` are replaced as whole folders, because readers take every file in them;
3. files that no episode refers to any more are deleted;
4. the journal is deleted, then the rest of ``.aiorecord/pack``.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .. import storage
from ..capture.staging import STAGING_FOLDER
from ..errors import DatasetError
from .exchange import exchange_folders
from .files import remove_files

PACK_FOLDER = f"{STAGING_FOLDER}/pack"
_JOURNAL = "journal.json"
_ASIDE = ".aside"


@dataclass
class Journal:
    """What a packing decided. All paths are relative, with ``/``.

    Attributes:
        token: names this packing.
        moves: files in the pack folder and where in the dataset they go.
        folders: folders in the pack folder and which of the dataset they replace. Each holds a file named
            by `marker`, which tells it from the one it replaces.
        removed: files of the dataset to delete.
    """

    token: str
    moves: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    @property
    def marker(self) -> str:
        """Name of the file that marks the new folders."""
        return f".pack-{self.token}{storage.TEMPORARY_SUFFIX}"


def begin(root: Path) -> Path:
    """An empty pack folder; what an undecided packing left in it is gone.

    Raises:
        StorageError: the disk refused.
    """
    folder = root / PACK_FOLDER
    _discard(root)
    with storage.storage_errors(folder, "create"):
        storage.make_folder(folder)
    return folder


def decide(root: Path, journal: Journal) -> None:
    """Make a prepared packing final. Everything it needs is durable in the pack folder.

    Raises:
        DatasetError: part of the dataset is elsewhere, where it cannot be replaced; nothing is decided.
        StorageError: the disk refused; nothing is decided.
    """
    folder = root / PACK_FOLDER
    with storage.storage_errors(folder, "write into"):
        for source, target in journal.folders.items():
            if (root / target).is_symlink():
                raise DatasetError(f"{root / target} is a symbolic link, not packed.", path=root / target)
            (folder / source / journal.marker).write_bytes(b"")
            storage.fsync_file(folder / source / journal.marker)
            storage.fsync_folder(folder / source)
        device = folder.stat().st_dev
        for target in [*journal.moves.values(), *journal.folders.values()]:
            place = root / target
            while not place.exists():
                place = place.parent
            if place.stat().st_dev != device:
                raise DatasetError(f"{place} is on another disk than {folder}, not packed.", path=place)
    storage.write_json(folder / _JOURNAL, asdict(journal))


def roll_forward(root: Path) -> bool:
    """Carry out what was decided, or delete what was not. Does nothing when no packing was under way.

    Returns:
        Whether a decided packing was carried out.

    Raises:
        DatasetError: the journal cannot be read.
        StorageError: the disk refused; call again.
    """
    folder = root / PACK_FOLDER
    path = folder / _JOURNAL
    if not path.exists():
        _discard(root)
        return False
    journal = _read(path)
    for source, target in journal.moves.items():
        _move(folder / source, root / target)
    for source, target in journal.folders.items():
        _replace_folder(folder / source, root / target, journal.marker)
    remove_files([root / name for name in journal.removed])
    with storage.storage_errors(path, "remove"):
        path.unlink()
        storage.fsync_folder(folder)
    # Only now: without its marker, a new folder could not be told from the old one.
    remove_files([root / target / journal.marker for target in journal.folders.values()])
    _discard(root)
    return True


def _move(source: Path, target: Path) -> None:
    with storage.storage_errors(target, "write"):
        if not source.exists():
            return  # done before the crash
        storage.make_folder(target.parent)
        os.replace(source, target)
        storage.fsync_folder(target.parent)


def _replace_folder(source: Path, target: Path, marker: str) -> None:
    with storage.storage_errors(target, "replace"):
        if (target / marker).exists():
            return  # done before the crash
        exchange_folders(source, target, source.with_name(source.name + _ASIDE))
        storage.fsync_folder(target.parent)
        storage.fsync_folder(source.parent)


def _discard(root: Path) -> None:
    folder = root / PACK_FOLDER
    with storage.storage_errors(folder, "remove"):
        for left in folder.parent.glob(f".{folder.name}.*{storage.TEMPORARY_SUFFIX}"):
            shutil.rmtree(left)  # its removal was interrupted
    storage.remove_tree(folder)


def _read(path: Path) -> Journal:
    try:
        journal = Journal(**json.loads(path.read_bytes()))
        names = [*journal.moves.values(), *journal.moves, *journal.folders.values(), *journal.folders]
        for name in [*names, *journal.removed]:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{name!r} leaves the dataset")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}", path=path) from error
    return journal
