"""Which episodes of a damaged dataset are whole, and where their videos must be. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..dataset.layout import FileIndex
from ..dataset.stats import FeatureStats
from .metadata import EpisodeRow, Place
from .rewrite import Kept
from .rows import Run

MAX_TASKS = 100_000
"""A higher task number is taken for damage."""


@dataclass
class Candidate:
    """Rows of an episode, which may be kept.

    Attributes:
        run: the rows.
        source: the Parquet file that holds them: the dataset's own, or a recovered copy.
        data: number of the data file.
        stats: statistics computed anew.
        row: its row of `meta/episodes`, None if that is lost.
        trusted: the row comes from a file that is as it was written, statistics included.
        problem: why it cannot be kept, None if it can.
        videos: where its videos are.
    """

    run: Run
    source: Path
    data: FileIndex
    stats: dict[str, FeatureStats] = field(default_factory=dict)
    row: EpisodeRow | None = None
    trusted: bool = False
    problem: str | None = None
    videos: dict[str, Place] = field(default_factory=dict)


def infer_places(
    lengths: Sequence[int], frames: Mapping[FileIndex, int], used: tuple[FileIndex, int] | None, fps: int
) -> list[Place | None]:
    """Where the videos of episodes are whose metadata is lost.

    Episodes follow each other in a file and never cross into the next one. So the frames that a file holds
    behind its last known episode must be exactly those of the next few episodes; if they are not, frames are
    missing, nothing says of which, and no place is given from there on.

    Args:
        lengths: frames of the episodes, in order.
        frames: coded frames of each video file.
        used: the file that the last known episode is in, and how many of its frames are taken; None if no
            episode is known.
        fps: frames per second.

    Returns:
        A place for each episode, None where it cannot be told.
    """
    places: list[Place | None] = []
    for index in sorted(frames):
        if used is not None and index < used[0]:
            continue
        begin = used[1] if used is not None and index == used[0] else 0
        at, todo = begin, len(places)
        while todo < len(lengths) and at < frames[index]:
            at += lengths[todo]
            todo += 1
        if at != frames[index]:
            break
        at = begin
        for length in lengths[len(places) : todo]:
            places.append(Place(index, at / fps, (at + length) / fps))
            at += length
    return [*places, *[None] * (len(lengths) - len(places))]


def judge_rows(candidates: Sequence[Candidate]) -> None:
    """Note what keeps the rows of a candidate from being kept."""
    seen: set[int] = set()
    for candidate in candidates:
        run, row = candidate.run, candidate.row
        if run.episode in seen:
            candidate.problem = "its rows are there a second time"
        elif not run.timed:
            candidate.problem = "its timestamps are off the grid"
        elif row is not None and row.length != run.length:
            candidate.problem = f"{run.length} of its {row.length} rows are there"
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
        run = candidate.run
        kept.append(
            Kept(
                len(kept),
                run.episode,
                first,
                run.length,
                candidate.source,
                run.row,
                candidate.data,
                tuple(tasks[number] for number in run.tasks),
                candidate.videos,
                candidate.stats,
                candidate.row if candidate.trusted else None,
            )
        )
        first += run.length
    return kept


def name_tasks(
    candidates: Sequence[Candidate], known: Mapping[str, int] | None
) -> tuple[dict[str, int], list[int]]:
    """All tasks and their numbers, and the numbers whose names are lost.

    A name that tasks.parquet does not give is taken from an episode with a single task; numbers of which
    nothing is known get a name that says so, because rows refer to them.
    """
    names = {number: name for name, number in (known or {}).items()}
    taken = set(known or ())
    for candidate in candidates:
        row = candidate.row
        if row is None or len(row.tasks) != 1 or len(candidate.run.tasks) != 1:
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
