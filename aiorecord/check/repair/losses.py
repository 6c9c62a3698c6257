"""Lists which readable data a repair would drop. Opens no file: works on what was read before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...dataset.format import layout
from ...dataset.format.layout import FileIndex
from ..checked import Checked
from ..pairing import Pairing
from ..readers.folder_tree import file_index
from ..readers.metadata import EpisodeRow
from ..readers.video_frames import VideoPart
from .repair_plan import Candidate, RepairPlan


def note_losses(
    plan: RepairPlan,
    checked: Checked,
    candidates: Sequence[Candidate],
    rows: Mapping[int, EpisodeRow],
    unreferenced: Mapping[tuple[str, FileIndex], VideoPart | None],
    pairing: Pairing,
) -> None:
    """Add to a plan which episodes are lost, what is not paired, and which of it may be readable.

    Args:
        plan: the plan.
        checked: the result of the check.
        candidates: rows, judged, with their videos.
        rows: the readable rows of `meta/episodes`.
        unreferenced: the videos that `meta/episodes` does not name.
        pairing: the ids stored in the files.
    """
    kept = {candidate.run.episode: candidate for candidate in candidates if candidate.problem is None}
    for candidate in candidates:
        episode, problem = candidate.run.episode, candidate.problem
        if problem is None or _is_copy(candidate, kept.get(episode)):
            continue
        if episode not in kept:
            plan.lost.setdefault(episode, problem)
        plan.readable.append(f"episode {episode}, {candidate.run.length} rows: {problem}")
        if problem.startswith("not paired"):
            place = layout.data_path(candidate.data)
            plan.not_paired.append(f"{place}: {candidate.run.length} rows of episode {episode}")
    present = {candidate.run.episode for candidate in candidates}
    for episode, row in rows.items():
        if episode not in present:
            plan.lost[episode] = "its rows cannot be read, or are missing"
            if what := _left_of(checked, row):
                plan.readable.append(f"episode {episode}: {plan.lost[episode]}; there is still {what}")
    found = _unclaimed(candidates, rows, unreferenced, pairing)
    plan.not_paired += found
    if checked.is_complete:
        return  # a file that a complete `meta/episodes` does not name was not part of the dataset
    plan.readable += found
    used = {candidate.data for candidate in candidates}
    for path in checked.data:
        if file_index(path) not in used and _has_content(path):
            plan.readable.append(f"{checked.name(path)}: it cannot be read")


def _unclaimed(
    candidates: Sequence[Candidate],
    rows: Mapping[int, EpisodeRow],
    unreferenced: Mapping[tuple[str, FileIndex], VideoPart | None],
    pairing: Pairing,
) -> list[str]:
    """What videos hold of no kept and no lost episode."""
    found: list[str] = []
    ids = {candidate.named.id for candidate in candidates if candidate.named is not None}
    ids |= {row.id for row in rows.values()}
    for key, index, named in pairing.unclaimed({id_ for id_ in ids if id_ is not None}):
        if (key, index) in unreferenced:
            place = layout.video_path(key, index)
            found.append(f"{place}: {named.length} frames of {named.id}, of which there are no rows")
    for (key, index), part in sorted(unreferenced.items()):
        if part is not None and part.readable and not pairing.says(key, index):
            place = layout.video_path(key, index)
            found.append(f"{place}: {part.frames} frames of an unknown episode")
    return found


def _is_copy(candidate: Candidate, kept: Candidate | None) -> bool:
    """Whether an episode is kept from another file, so that these rows are a copy."""
    if kept is None:
        return False
    ids = [c.named.id for c in (candidate, kept) if c.named is not None]
    return len(ids) < 2 or ids[0] == ids[1]


def _left_of(checked: Checked, row: EpisodeRow) -> str:
    """The files of an episode without rows that may be readable; empty if there are none."""
    root = checked.report.root
    for key, place in row.videos.items():
        part = checked.videos.get((key, place.index))
        if part is not None and part.readable:
            return layout.video_path(key, place.index)
    path = root / layout.data_path(row.data)
    return layout.data_path(row.data) if path in checked.data and _has_content(path) else ""


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return True
