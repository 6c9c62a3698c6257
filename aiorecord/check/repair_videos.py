"""The videos of a dataset that is repaired: which episodes have a whole one, and where it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..dataset import layout
from ..dataset.files import numbered_files
from ..dataset.info import DatasetInfo
from ..dataset.layout import FileIndex
from .checked import Checked
from .cut import cut_out_job
from .dataset import Check
from .jobs import Job, is_regular
from .metadata import Place
from .plan import Candidate, infer_places
from .video import VideoFile, VideoPart, video_job


class VideoRepair:
    """Finds, verifies and straightens the videos of candidates.

    Args:
        checked: what the check learned.
        info: the dataset's info.json.
        check: makes the jobs that look through a video.
        run: runs jobs; gives their results by path, None for a job that did not end well.
    """

    def __init__(
        self,
        checked: Checked,
        info: DatasetInfo,
        check: Check,
        run: Callable[[str, list[Job]], dict[Path, Any]],
    ) -> None:
        self._checked, self._info, self._check, self._run = checked, info, check, run
        self._root = check.root
        self._parts: dict[tuple[str, FileIndex], VideoPart | None] = {}

    def place(self, key: str, candidates: list[Candidate]) -> None:
        """Find each candidate's video of a camera, and note a problem of those without a whole one."""
        files = numbered_files(self._root / layout.VIDEOS_FOLDER / key)
        files = {index: path for index, path in files.items() if is_regular(path)}
        unplaced: list[Candidate] = []
        for candidate in candidates:
            row = candidate.row
            if row is not None and key in row.videos:
                candidate.videos[key] = row.videos[key]
            elif candidate.problem is None or not candidate.problem.startswith("its rows are"):
                unplaced.append(candidate)
        if unplaced:
            known = [c.videos[key] for c in candidates if key in c.videos]
            last = max(known, key=lambda place: (place.index, place.end_s), default=None)
            used = None if last is None else (last.index, round(last.end_s * self._info.fps))
            counts = self._count_frames(key, files)
            lengths = [candidate.run.length for candidate in unplaced]
            for candidate, place in zip(
                unplaced, infer_places(lengths, counts, used, self._info.fps), strict=True
            ):
                if place is not None:
                    candidate.videos[key] = place
        self._verify(key, candidates, files)

    def _count_frames(self, key: str, files: dict[FileIndex, Path]) -> dict[FileIndex, int]:
        info, checked = self._info, self._checked
        spec = info.features[key]
        jobs = [
            Job(path, video_job, (VideoFile(self._root, path, key, spec, info.fps, [], [], True, 1),))
            for index, path in files.items()
            if (key, index) not in checked.videos
        ]
        counted = self._run("videos", jobs)
        parts = {index: checked.videos.get((key, index), counted.get(path)) for index, path in files.items()}
        return {index: part.frames for index, part in parts.items() if part is not None and part.readable}

    def _verify(self, key: str, candidates: list[Candidate], files: dict[FileIndex, Path]) -> None:
        """Use what the check saw; decode what it did not know of."""
        checked = self._checked
        parts: dict[FileIndex, VideoPart | None] = {
            index: part for (camera, index), part in checked.videos.items() if camera == key
        }
        unseen: dict[FileIndex, list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            seen_row = checked.episodes.get(candidate.run.episode)
            if key in candidate.videos and (seen_row is None or seen_row is not candidate.row):
                unseen[candidate.videos[key].index].append(candidate)
        jobs = []
        for index, missing in unseen.items():
            if index in files:
                seen = [
                    row
                    for row in checked.episodes.values()
                    if key in row.videos and row.videos[key].index == index
                ]
                inferred = [(c.run.episode, c.run.length, c.videos[key].start_s) for c in missing]
                jobs.append(self._check.video_job(self._info, key, index, seen, inferred))
        looked = self._run("videos", jobs)
        for index in unseen:
            parts[index] = looked.get(files[index]) if index in files else None
        self._parts |= {(key, index): part for index, part in parts.items()}
        for candidate in candidates:
            place = candidate.videos.get(key)
            part = parts.get(place.index) if place is not None else None
            if place is None:
                candidate.problem = candidate.problem or f"nothing tells where its video of {key} is"
            elif part is None or candidate.run.episode not in part.whole:
                candidate.problem = candidate.problem or f"its video of {key} is not whole"
            elif candidate.run.episode in part.stats:
                candidate.stats = {**candidate.stats, key: part.stats[candidate.run.episode]}

    def straighten(self, folder: Path, candidates: list[Candidate]) -> dict[str, str]:
        """Copy the good episodes of videos with frames off the grid; call after `place`, for all cameras.

        Args:
            folder: the pack folder, for the new files.
            candidates: get their new places, or a problem where their packets cannot be copied.

        Returns:
            The new files in the pack folder, and which of the dataset they replace.
        """
        found: dict[tuple[str, FileIndex], list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            for key, place in candidate.videos.items() if candidate.problem is None else ():
                part = self._parts.get((key, place.index))
                if part is not None and not part.on_grid:
                    found[key, place.index].append(candidate)
        moves: dict[str, str] = {}
        for (key, index), episodes in found.items():
            episodes.sort(key=lambda c: c.videos[key].start_s)
            source = f"videos/{key}-{index.chunk}-{index.file}.mp4"
            spans = [(c.videos[key].start_s, c.run.length) for c in episodes]
            total = sum(length for _, length in spans)
            old = layout.video_path(key, index)
            arguments = (self._root / old, folder / source, spans, self._info.fps)
            job = Job(folder / source, cut_out_job, arguments, total)
            copied = self._run("videos off the grid", [job])[job.path] == total
            at = 0
            for candidate in episodes:
                if copied:
                    end = at + candidate.run.length
                    candidate.videos[key] = Place(index, at / self._info.fps, end / self._info.fps)
                    at = end
                else:
                    candidate.problem = f"its video of {key} has frames off the grid"
            if copied:
                moves[source] = old
        return moves
