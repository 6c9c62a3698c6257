"""Locates episodes in videos that hold no episode ids, by the order in which lerobot writes. Pure.

lerobot 0.6.1 (`LeRobotDataset.save_episode`) appends the rows of each episode to the newest data file and its
pictures to the newest video, and numbers both from 0. So a complete dataset can be read in one way only. One
equal count is not enough evidence: every count must match, in every file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from ...dataset.format.layout import FileIndex, next_packed
from ..readers.metadata import Place
from ..readers.video_frames import VideoPart
from .repair_plan import Candidate


def places_by_order(
    candidates: Sequence[Candidate],
    videos: Mapping[FileIndex, VideoPart | None],
    *,
    fps: int,
    chunks_size: int,
) -> list[Place] | None:
    """The place of each candidate's pictures in the videos of one camera.

    Args:
        candidates: all rows of the dataset.
        videos: all videos of the camera, None where one could not be read.
        fps: frames per second.
        chunks_size: files per folder, as in info.json.

    Returns:
        The places, in the order of `candidates`. None unless the order is unambiguous: the episodes are whole
        and numbered from 0 in the order of their rows, no number of a data file or of a video is missing,
        each video has every frame of its grid and ends where an episode ends, and the videos have exactly as
        many frames as there are rows.
    """
    if not _is_in_order(candidates, chunks_size) or not _is_gapless(videos, chunks_size):
        return None
    lengths = [candidate.run.length for candidate in candidates]
    found: list[Place] = []
    at = 0
    for index, part in sorted(videos.items()):
        if part is None or not part.readable or not part.on_grid or part.evidence is not None:
            return None
        ends = list(accumulate(lengths[len(found) :]))
        if part.frames not in ends:
            return None
        for end in ends[: ends.index(part.frames) + 1]:
            found.append(Place(index, (end - lengths[len(found)]) / fps, end / fps))
        at += part.frames
    return found if at == sum(lengths) else None


def _is_in_order(candidates: Sequence[Candidate], chunks_size: int) -> bool:
    """Whether no row is missing before or between these, and none of them has an id."""
    first = 0
    for number, candidate in enumerate(candidates):
        run = candidate.run
        if run.episode != number or run.first != first or not (run.counted and run.timed):
            return False
        if candidate.problem is not None or candidate.named is not None:
            return False
        first += run.length
    files = [candidate.data for candidate in candidates]
    return bool(candidates) and files == sorted(files) and _is_gapless(files, chunks_size)


def _is_gapless(files: Iterable[FileIndex], chunks_size: int) -> bool:
    last: FileIndex | None = None
    for index in sorted(set(files)):
        if index.is_loose or index != next_packed(last, chunks_size):
            return False
        last = index
    return last is not None
