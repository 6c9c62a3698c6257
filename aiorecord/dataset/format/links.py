"""Guards against metadata that was edited or damaged, and against links that lead out of the dataset."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ...errors import AiorecordError, DatasetError
from ...staging.folder import STAGING_FOLDER
from ...system import storage
from . import layout

_TRIPPED = (
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(StopIteration, MemoryError, RecursionError, pa.ArrowException),
)


@contextlib.contextmanager
def damage_errors(root: Path) -> Iterator[None]:
    """Raise DatasetError if a dataset's content causes an error in the code that reads it.

    Tables are checked for known faults. This covers the rest: a column of another type, a null in place of a
    number, a text that is not UTF-8.

    Raises:
        DatasetError: the block raised an error of that kind, kept as its cause.
        StorageError: the disk refused, and the block did not map the error itself.
    """
    try:
        with storage.storage_errors(root, "read"):
            yield
    except AiorecordError:
        raise
    except _TRIPPED as error:
        message = f"{root} is damaged: its metadata has invalid content ({error!r:.200})."
        raise DatasetError(message, path=root) from error


def check_links(root: Path) -> None:
    """Check that no folder of a dataset is a link, so that writes stay inside. The root may be a link.

    Raises:
        DatasetError: one of its folders is a symbolic link.
    """
    names = ("meta", layout.EPISODES_FOLDER, layout.DATA_FOLDER, layout.VIDEOS_FOLDER)
    tops = [root / name for name in names]
    with storage.storage_errors(root, "read"):
        cameras = _folders(root / layout.VIDEOS_FOLDER)
        for folder in [*tops, *cameras, root / STAGING_FOLDER]:
            chunks = [] if folder in tops[:1] or folder.name == STAGING_FOLDER else _folders(folder)
            for path in (folder, *chunks):
                if path.is_symlink():
                    raise DatasetError(
                        f"{path} is a symbolic link. A dataset that is recorded into must be one folder: "
                        "files that are written, packed and rolled back must not be elsewhere.",
                        path=path,
                    )


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    # Entries with a temporary name are deleted, links as links.
    suffix = storage.TEMPORARY_SUFFIX
    return [child for child in path.iterdir() if child.is_dir() and not child.name.endswith(suffix)]
