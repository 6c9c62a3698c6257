"""Checks that a folder is free for a new dataset."""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError
from ...staging.folder import STAGING_FOLDER, Staging
from ...system import storage
from ..format import layout


def check_free(root: Path) -> None:
    """Check that a new dataset may be made in a folder.

    Raises:
        DatasetError: it holds a dataset already, unsaved episodes, or other files.
    """
    if (root / layout.INFO_PATH).exists():
        raise DatasetError(
            f"{root} holds a dataset already. Pass resume=True (--resume) to add episodes to it, or "
            "choose another folder.",
            path=root,
        )
    with storage.storage_errors(root, "read"):
        if not root.exists():
            return
        if not root.is_dir():
            raise DatasetError(f"{root} is a file, not a folder.", path=root)
        names = sorted(
            path.name for path in root.iterdir() if path.name != STAGING_FOLDER and not _is_unborn(path)
        )
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise DatasetError(
            f"{root} is not empty and not a dataset (it holds {shown}). Choose a new or an empty folder.",
            path=root,
        )
    if Staging(root).episode_paths():
        raise DatasetError(
            f"{root} holds unsaved episodes, but their dataset's meta/info.json is missing. Restore it if "
            f"there is a copy, then run `aiorecord recover`; or delete {root / STAGING_FOLDER}.",
            path=root,
        )


def _is_unborn(path: Path) -> bool:
    """Whether a folder is the ``meta`` of a dataset whose creation was interrupted before its info.json."""
    return (
        path.name == layout.INFO_PATH.split("/")[0]
        and path.is_dir()
        and all(child.name.endswith(storage.TEMPORARY_SUFFIX) for child in path.iterdir())
    )
