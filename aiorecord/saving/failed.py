"""Keeps the failed saves until each has been looked at."""

from __future__ import annotations

from collections.abc import Iterator

from ..capture.episode import EpisodeCapture
from ..errors import SaveError
from .handle import EpisodeSave, Stage

NAMED = 5
"""Episodes that an error names."""


class FailedSaves:
    """Remembers saves that failed, oldest first, each once, also when they were tried again."""

    def __init__(self) -> None:
        self._saves: list[EpisodeSave] = []

    def __iter__(self) -> Iterator[EpisodeSave]:
        return iter(self._saves)

    def add(self, save: EpisodeSave) -> None:
        """Remember a save that has failed."""
        if save not in self._saves:
            self._saves.append(save)

    def not_on_disk(self) -> list[EpisodeCapture]:
        """The captures that could not be completed on disk: their files are still open."""
        sources = [save.source for save in self._saves if save.folder is None]
        return [source for source in sources if isinstance(source, EpisodeCapture)]

    def raise_unobserved(self) -> None:
        """Raise if a failed save was neither awaited nor read.

        Raises:
            SaveError: how many, which, and why the first one failed.
        """
        failed = [save for save in self._saves if save.stage is Stage.FAILED and not save.observed]
        if not failed:
            return
        first = failed[0]
        names = ", ".join(save.episode_id for save in failed[:NAMED])
        if len(failed) > NAMED:
            names += f" and {len(failed) - NAMED} more"
        raise SaveError(
            f"{len(failed)} episode(s) could not be saved and stay in staging ({names}): {first.error} "
            "Run `aiorecord recover` on the dataset.",
            episode_id=first.episode_id,
            staging=first.folder.path if first.folder else None,
        ) from first.error
