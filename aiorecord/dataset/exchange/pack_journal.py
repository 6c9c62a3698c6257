"""The journal of a packing: once it is written, its steps are completed, also after a crash.

A packing prepares all new files in ``.aiorecord/pack``. As long as ``journal.json`` is missing, nothing has
changed, and the prepared files are deleted. Once it exists, its steps are carried out, by the packing itself
or by the next program that opens the dataset after a crash. Each step detects whether it is done already:

1. packed videos are renamed to their final names: names that no episode refers to, or the name of a file
   whose content the new file begins with;
2. ``data`` and ``meta/episodes`` are replaced as whole folders, because readers take every file in them;
3. files that no episode refers to any more are deleted, except those that readers may still need, see
   `replaced_videos`;
4. the journal is deleted, then the rest of ``.aiorecord/pack``.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path

from ...errors import DatasetError
from ...staging.folder import STAGING_FOLDER
from ...system import storage
from ..format import layout
from ..format.numbered_files import remove_files
from .other_readers import ReaderWatch
from .pack_evidence import ASIDE, ASIDE_SUFFIX, REPAIRED_FILES, Journal, check_evidence
from .replaced_videos import keep, replaced_names
from .swap_folders import exchange_folders

PACK_FOLDER = f"{STAGING_FOLDER}/pack"
_JOURNAL = "journal.json"


def begin(root: Path) -> Path:
    """Make an empty pack folder; leftovers of an undecided packing are deleted."""
    folder = root / PACK_FOLDER
    _discard(root)
    with storage.storage_errors(folder, "create"):
        storage.make_folder(folder)
    return folder


def decide(root: Path, journal: Journal) -> None:
    """Make a prepared packing final. All its files must be durable in the pack folder.

    Raises:
        DatasetError: part of the dataset is on another disk or behind a link, where it cannot be replaced;
            nothing is decided.
        StorageError: the disk refused; nothing is decided.
    """
    folder = root / PACK_FOLDER
    with storage.storage_errors(folder, "write into"):
        for source, target in journal.folders.items():
            if (root / target).is_symlink():
                raise DatasetError(f"{root / target} is a symbolic link, not packed.", path=root / target)
            marker = folder / source / journal.marker
            with storage.storage_errors(marker, "write"):
                marker.write_bytes(b"")
                storage.fsync_file(marker)
                storage.fsync_folder(marker.parent)
        device = folder.stat().st_dev
        for target in [*journal.moves.values(), *journal.folders.values()]:
            place = root / target
            while not place.exists():
                place = place.parent
            if place.stat().st_dev != device:
                raise DatasetError(f"{place} is on another disk than {folder}, not packed.", path=place)
    storage.write_json(folder / _JOURNAL, asdict(journal))


def is_decided(root: Path) -> bool:
    """Whether a packing was decided and is not completed."""
    return (root / PACK_FOLDER / _JOURNAL).exists()


def roll_forward(root: Path, decided: Journal | None = None, readers: ReaderWatch | None = None) -> bool:
    """Complete a decided packing, or delete an undecided one. Does nothing if there is neither.

    Args:
        decided: the journal that this process has just written. A journal that is found instead is compared
            with the dataset first, see `pack_evidence`.
        readers: watches other readers: folders are replaced in a moment in which no program opens their
            files, and removed files are kept for a while if a reader may need them. None: there are no
            readers. Files removed by a found journal are kept if it says so.

    Returns:
        Whether a decided packing was carried out.

    Raises:
        DatasetError: the journal cannot be read, or no packing or repair of this dataset wrote it; it is
            left in place, and nothing is changed.
        StorageError: the disk refused; call again.
    """
    folder = root / PACK_FOLDER
    path = folder / _JOURNAL
    if not path.exists():
        _discard(root)
        return False
    journal = _read(path)
    _check_places(root, journal)
    if journal != decided:
        check_evidence(root, folder, journal)
    for source, target in journal.moves.items():
        _move(folder / source, root / target)
    if readers is not None:
        readers.wait_until_quiet()
    # All at once, then made durable: some readers list names in one folder and open them in the other.
    for source, target in journal.folders.items():
        _replace_folder(folder / source, root / target, journal.marker)
    for source, target in journal.folders.items():
        for place in (root / target, folder / source):
            with storage.storage_errors(root / target, "replace"):
                storage.fsync_folder(place.parent)
    # Checked only now: a reader that knows where the videos were has opened meta/info.json before.
    if journal.removed and (journal.watched or (readers is not None and readers.are_expected)):
        keep(root, journal.removed)
    kept = replaced_names(root)
    remove_files([root / name for name in journal.removed if name not in kept])
    with storage.storage_errors(path, "remove"):
        path.unlink()
        storage.fsync_folder(folder)
    # Only now: without its marker, a new folder could not be distinguished from the old one.
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
        exchange_folders(source, target, source.with_name(source.name + ASIDE_SUFFIX))


def _discard(root: Path) -> None:
    folder = root / PACK_FOLDER
    with storage.storage_errors(folder, "remove"):
        for left in folder.parent.glob(f".{folder.name}.*{storage.TEMPORARY_SUFFIX}"):
            storage.remove_entry(left)  # its removal was interrupted
    storage.remove_tree(folder)


def _check_places(root: Path, journal: Journal) -> None:
    """Check that nothing is moved or deleted through a link."""
    targets = [*journal.moves.values(), *journal.removed, *journal.folders.values()]
    places = {folder for target in targets for folder in (root / target, *(root / target).parents)}
    for place in sorted(place for place in places if root in place.parents):
        if place.is_symlink() and place.is_dir():
            raise DatasetError(f"{place} is a symbolic link, not packed.", path=place)
    for left in (root / STAGING_FOLDER, root / PACK_FOLDER):
        if left.is_symlink():
            raise DatasetError(f"{left} is a symbolic link, not packed.", path=left)


def _read(path: Path) -> Journal:
    try:
        with storage.storage_errors(path, "read"):
            journal = Journal(**storage.read_json(path))
        _check(journal)
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}", path=path) from error
    return journal


def _check(journal: Journal) -> None:
    """Check that a journal names only files that a packing moves: it may have been edited, or be foreign.

    Raises:
        ValueError: it names something else.
    """
    if not re.fullmatch(r"[0-9a-f]{1,64}", journal.token):
        raise ValueError(f"{journal.token!r:.40} names no packing")
    packed = {source: target for source, target in journal.moves.items() if not _is_repaired(source, target)}
    for source in packed:
        folder, _, name = source.partition("/")
        if folder != "videos" or not layout.is_plain(name):
            raise ValueError(f"{source!r:.80} is not a packed file")
    if layout.INFO_PATH in journal.removed:
        raise ValueError("it deletes meta/info.json")
    for target in [*packed.values(), *(set(journal.removed) - REPAIRED_FILES)]:
        if layout.parse_video(target) is None:
            raise ValueError(f"{target!r:.80} is not a video of the dataset")
    if not isinstance(journal.watched, bool):
        raise ValueError(f"{journal.watched!r:.80} is neither true nor false")
    folders = {"data": layout.DATA_FOLDER, "episodes": layout.EPISODES_FOLDER}
    if not journal.folders.items() <= folders.items():
        raise ValueError("it replaces other folders than data and meta/episodes")


def _is_repaired(source: str, target: str) -> bool:
    """Whether only a repair makes this move: of a file of `meta`, or into the aside folder."""
    return (source == target and source in REPAIRED_FILES) or (
        source == "aside" and re.fullmatch(rf"{re.escape(ASIDE)}[0-9]{{1,9}}", target) is not None
    )
