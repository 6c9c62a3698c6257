"""Decides which episodes of a damaged dataset are kept, which are lost, and what needs consent. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...dataset.format.layout import FileIndex
from ...encoding.stats import FeatureStats
from ...media.evidence import Named
from ..readers.metadata import EpisodeRow, Place
from ..readers.model import Run

MAX_TASKS = 100_000
"""Task numbers above this count as damage."""


@dataclass
class Candidate:
    """Rows of an episode that may be kept.

    Attributes:
        run: the rows.
        source: the Parquet file that holds them: the dataset's own, or a recovered copy.
        data: number of the data file.
        stats: recomputed statistics.
        row: its row of `meta/episodes`, None if that is lost.
        trusted: the row comes from an undamaged file, including its statistics.
        problem: why it cannot be kept, None if it can.
        videos: the locations of its videos.
        paired: `row` belongs to these rows: it names their file, and no id contradicts it.
        named: the episode of the rows, by the id stored in their file or by `row`.
    """

    run: Run
    source: Path
    data: FileIndex
    stats: dict[str, FeatureStats] = field(default_factory=dict)
    row: EpisodeRow | None = None
    trusted: bool = False
    problem: str | None = None
    videos: dict[str, Place] = field(default_factory=dict)
    paired: bool = False
    named: Named | None = None

    def reject(self, problem: str) -> None:
        """Set the problem, unless it has one."""
        self.problem = self.problem or problem


@dataclass(frozen=True)
class Kept:
    """An episode of the repaired dataset.

    Attributes:
        episode: its new index.
        first: its first row's ``index``.
        tasks: its tasks.
        found: its rows, with the old index, and the places of everything else.
    """

    episode: int
    first: int
    tasks: tuple[str, ...]
    found: Candidate

    @property
    def length(self) -> int:
        """Frames."""
        return self.found.run.length

    @property
    def old(self) -> EpisodeRow | None:
        """Its row in `meta/episodes`, which has the statistics that are not recomputed, or None."""
        return self.found.row if self.found.trusted else None


@dataclass
class RepairPlan:
    """The plan of a repair.

    Attributes:
        steps: steps before the dataset is rebuilt, one sentence each.
        episodes: episodes that are kept; None if nothing must be rebuilt.
        frames: their frames.
        lost: episodes that are not kept, and why.
        not_paired: files that are moved aside because their episode is unknown.
        readable: losses with rows or frames that may be readable, one sentence each. They need consent.
    """

    steps: list[str] = field(default_factory=list)
    episodes: int | None = None
    frames: int = 0
    lost: dict[int, str] = field(default_factory=dict)
    not_paired: list[str] = field(default_factory=list)
    readable: list[str] = field(default_factory=list)

    @property
    def loses(self) -> bool:
        """Whether frames that may be readable would no longer be in the dataset."""
        return bool(self.readable)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "steps": self.steps,
            "kept_episodes": self.episodes,
            "kept_frames": self.frames,
            "lost_episodes": {str(episode): why for episode, why in self.lost.items()},
            "not_paired": self.not_paired,
            "readable_losses": self.readable,
            "needs_accept_loss": self.loses,
        }


def judge_rows(candidates: Sequence[Candidate]) -> None:
    """Set the problem of candidates whose rows cannot be kept."""
    seen: set[int] = set()
    for candidate in sorted(candidates, key=lambda c: not c.paired):
        run, row = candidate.run, candidate.row
        if candidate.problem is not None:
            continue
        if run.episode in seen:
            candidate.problem = "its rows exist a second time"
        elif not run.timed:
            candidate.problem = "its timestamps are off the grid"
        elif row is not None and candidate.paired and row.length != run.length:
            candidate.problem = f"{run.length} of its {row.length} rows exist"
        elif any(not 0 <= task < MAX_TASKS for task in run.tasks):
            candidate.problem = "its task numbers are impossible"
        else:
            seen.add(run.episode)


def kept_episodes(candidates: Sequence[Candidate], tasks: Mapping[int, str]) -> list[Kept]:
    """The repaired dataset's episodes: those without a problem, numbered from 0."""
    kept: list[Kept] = []
    first = 0
    for candidate in candidates:
        if candidate.problem is not None:
            continue
        names = tuple(tasks[number] for number in candidate.run.tasks)
        kept.append(Kept(len(kept), first, names, candidate))
        first += candidate.run.length
    return kept


def name_tasks(
    candidates: Sequence[Candidate], known: Mapping[str, int] | None, said: Mapping[int, str]
) -> tuple[dict[str, int], list[int]]:
    """All tasks and their numbers, and the numbers whose names are lost.

    A name that tasks.parquet lacks is taken from the descriptions in data files, then from an episode with a
    single task; unknown numbers get a name that says so, because rows refer to them.

    Args:
        candidates: the episodes.
        known: tasks.parquet, None if it cannot be read.
        said: names of task numbers, from the data files.
    """
    names = {number: name for name, number in (known or {}).items()}
    taken = set(known or ())
    for number, name in said.items():
        if number not in names and name not in taken and 0 <= number < MAX_TASKS:
            names[number] = name
            taken.add(name)
    for candidate in candidates:
        row = candidate.row
        if row is None or not candidate.paired or len(row.tasks) != 1 or len(candidate.run.tasks) != 1:
            continue
        name, number = row.tasks[0], candidate.run.tasks[0]
        if number not in names and name not in taken:
            names[number] = name
            taken.add(name)
    used = {number for c in candidates if c.problem is None for number in c.run.tasks}
    count = max([-1, *names, *used]) + 1
    lost = [number for number in range(count) if number not in names]
    tasks = {names.get(number, f"(task {number}, name lost)"): number for number in range(count)}
    return tasks, lost
