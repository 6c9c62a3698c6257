"""The saves that failed: the one place that remembers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import SaveError
from .stages import Stage

if TYPE_CHECKING:
    from ..capture.episode import EpisodeCapture
    from .job import SaveJob

NAMED = 5
"""Episodes that an error names."""


@dataclass
class FailedSave:
    """A save that failed, and is failed still unless it was tried again.

    Attributes:
        job: the save.
        at_s: when it failed last, in seconds of the machine's monotonic clock.
        retries: how often it was tried again by itself.
    """

    job: SaveJob
    at_s: float
    retries: int = 0


class FailedSaves:
    """Remembers saves that failed, oldest first, each once. Iterating gives those that are failed now."""

    def __init__(self) -> None:
        self._saves: dict[SaveJob, FailedSave] = {}

    def __iter__(self) -> Iterator[FailedSave]:
        return (failed for failed in list(self._saves.values()) if failed.job.stage is Stage.FAILED)

    def add(self, job: SaveJob, now_s: float) -> None:
        """Remember a save that has just failed."""
        self._saves.setdefault(job, FailedSave(job, now_s)).at_s = now_s

    def captures_not_on_disk(self) -> list[EpisodeCapture]:
        """The captures that could not be completed on disk: their files are still open."""
        return [job.capture for job in self._saves if job.folder is None and job.capture is not None]

    def raise_unobserved(self) -> None:
        """Raise if a failed save was neither awaited nor read.

        Raises:
            SaveError: how many, which, and why the first one failed.
        """
        unobserved = [failed.job for failed in self if not failed.job.observed]
        if not unobserved:
            return
        first = unobserved[0]
        names = ", ".join(job.episode_id for job in unobserved[:NAMED])
        if len(unobserved) > NAMED:
            names += f" and {len(unobserved) - NAMED} more"
        raise SaveError(
            f"{len(unobserved)} episode(s) could not be saved and stay in staging ({names}): {first.error} "
            "Run `aiorecord recover` on the dataset.",
            episode_id=first.episode_id,
            staging=first.folder.path if first.folder else None,
        ) from first.error
