"""Assertions on a dataset that was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..check.check_dataset import check_dataset
from ..check.findings import ERROR, WARNING
from ..dataset.format.episodes import episode_files, read_episodes
from ..staging.folder import STAGING_FOLDER


def episode_lengths(root: Path) -> list[int]:
    """Frames of each episode of a dataset, in order. Blocking.

    Args:
        root: the dataset's root folder.

    Raises:
        DatasetError: the metadata of the episodes cannot be read.
        StorageError: the disk refused.
    """
    return list(map(int, read_episodes(episode_files(root), ["length"])["length"].to_numpy()))


def assert_whole(root: Path, lengths: Sequence[int] | None = None, *, fast: bool = False) -> None:
    """Assert that a dataset is complete and consistent, and that nothing of it waits in staging. Blocking.

    It is checked as ``aiorecord check`` does: rows against videos against metadata, every frame decoded, in a
    process of its own. Call it after the recorder was closed, and with `asyncio.to_thread` from a coroutine
    beside which other tasks must go on.

    Args:
        root: the dataset's root folder.
        lengths: frames that its episodes must have, in order; not looked at when None.
        fast: decode no video and no image.

    Raises:
        AssertionError: something is wrong with it, and what; or the lengths are others.
    """
    report = check_dataset(root, workers=1, fast=fast)
    wrong = [f"{f.code}: {f.message}" for f in report.findings if f.severity in (ERROR, WARNING)]
    if wrong:
        raise AssertionError(f"The dataset {root} is not whole:\n  " + "\n  ".join(wrong))
    if (root / STAGING_FOLDER).exists():
        raise AssertionError(
            f"{root / STAGING_FOLDER} exists: the dataset has a recorder, or unfinished episodes."
        )
    if lengths is not None and (found := episode_lengths(root)) != list(lengths):
        raise AssertionError(f"The episodes of {root} have {found} frames, not {list(lengths)}.")
