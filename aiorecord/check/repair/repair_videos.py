"""Finds the episodes of a damaged dataset that have a whole video, and where each is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ...dataset.format import layout
from ...dataset.format.info_json import DatasetInfo
from ...dataset.format.layout import FileIndex
from ...dataset.format.numbered_files import numbered_files
from ...media.evidence import Evidence, Named
from ..checked import Checked
from ..jobs import Job, RunJobs, is_regular
from ..pairing import Pairing, frame_at
from ..readers.metadata import Place
from ..readers.video_frames import VideoFile, VideoPart
from .copy_episodes import cut_out_job, digests_job
from .repair_plan import Candidate
from .video_order import places_by_order


@dataclass
class VideoRepair:
    """Finds and verifies the videos of candidates, and removes frames off the grid.

    Args:
        checked: the result of the check.
        info: the dataset's info.json.
        threads: decoding threads of each video.
        pairing: the ids stored in the files.
        run: runs jobs.

    Attributes:
        unreferenced: the videos that `meta/episodes` does not name; None if the reader died.
    """

    checked: Checked
    info: DatasetInfo
    threads: int
    pairing: Pairing
    run: RunJobs

    def __post_init__(self) -> None:
        self._root = self.checked.report.root
        self.unreferenced: dict[tuple[str, FileIndex], VideoPart | None] = {}
        self._parts: dict[tuple[str, FileIndex], VideoPart | None] = {}

    def place(self, key: str, candidates: list[Candidate]) -> None:
        """Find each candidate's video of a camera, and set a problem for those without a whole one.

        A place comes from the row of `meta/episodes` of the candidate's rows, unless the video stores another
        id; or from a video that stores the id of the candidate's episode. If several videos do, they must
        hold the same coded frames, since it is unknown which is right. Without any ids, the order in which
        lerobot writes is used, if nothing is missing.
        """
        files = numbered_files(self._root / layout.VIDEOS_FOLDER / key)
        files = {index: path for index, path in files.items() if is_regular(path)}
        self._read_unseen(key, files)
        claimed: list[tuple[Candidate, list[Place]]] = []
        for candidate in candidates:
            row, named = candidate.row, candidate.named
            place = row.videos.get(key) if row is not None and candidate.paired else None
            if place is not None and (named is None or not self.pairing.contradicts(key, place, named)):
                candidate.videos[key] = place
            elif named is not None and (found := self.pairing.find(key, named)):
                candidate.videos[key] = found[0]
                if len(found) > 1:
                    claimed.append((candidate, found))
        self._compare(key, claimed, files)
        self._place_by_order(key, candidates, files)
        self._verify(key, candidates, files)

    def _compare(
        self, key: str, claimed: list[tuple[Candidate, list[Place]]], files: dict[FileIndex, Path]
    ) -> None:
        """Reject candidates whose id is stored in several videos with different frames."""
        spans: dict[FileIndex, list[tuple[float, int]]] = defaultdict(list)
        for candidate, places in claimed:
            for place in places:
                spans[place.index].append((place.start_s, candidate.run.length))
        jobs = [Job(files[i], digests_job, (files[i], spans[i], self.info.fps)) for i in spans]
        looked = self.run("videos of one episode", jobs) if jobs else {}
        for candidate, places in claimed:
            found = set()
            for place in places:
                at = spans[place.index].index((place.start_s, candidate.run.length))
                sums = looked.get(files[place.index])
                found.add(None if sums is None else sums[at])
            if len(found) > 1 or None in found:
                names = " and ".join(layout.video_path(key, place.index) for place in places)
                how = "and cannot be compared" if None in found else "with different frames"
                candidate.reject(f"not paired: {names} are all marked as its video, {how}")

    def _place_by_order(self, key: str, candidates: list[Candidate], files: dict[FileIndex, Path]) -> None:
        """Find candidates without ids by the order of the files, if that order is unambiguous."""
        if all(key in candidate.videos for candidate in candidates):
            return
        parts = {
            index: self.checked.videos.get((key, index)) or self.unreferenced.get((key, index))
            for index in files
        }
        places = places_by_order(candidates, parts, fps=self.info.fps, chunks_size=self.info.chunks_size)
        if places is None:
            return
        pairs = list(zip(candidates, places, strict=True))
        if all(self._is_at(candidate.videos.get(key, place), place) for candidate, place in pairs):
            for candidate, place in pairs:
                candidate.videos.setdefault(key, place)

    def _is_at(self, a: Place, b: Place) -> bool:
        """Whether two places begin with the same frame of the same file."""
        fps = self.info.fps
        return a.index == b.index and frame_at(a.start_s, fps) == frame_at(b.start_s, fps)

    def _read_unseen(self, key: str, files: dict[FileIndex, Path]) -> None:
        """Read the ids stored in videos that `meta/episodes` does not name."""
        info, checked = self.info, self.checked
        spec = info.features[key]
        jobs = [
            VideoFile(self._root, path, key, spec, info.fps, [], [], True, 1).job()
            for index, path in files.items()
            if (key, index) not in checked.videos
        ]
        looked = self.run("videos", jobs)
        for index, path in files.items():
            if (key, index) not in checked.videos:
                self.unreferenced[key, index] = looked.get(path)
                self.pairing.add_video(key, index, looked.get(path))

    def _verify(self, key: str, candidates: list[Candidate], files: dict[FileIndex, Path]) -> None:
        """Use the results of the check; decode episodes at places that it did not read."""
        checked = self.checked
        parts: dict[FileIndex, VideoPart | None] = {
            index: part for (camera, index), part in checked.videos.items() if camera == key
        }
        there: dict[FileIndex, list[Candidate]] = defaultdict(list)
        unseen: set[FileIndex] = set()
        for candidate in candidates:
            place = candidate.videos.get(key)
            if place is None or candidate.problem is not None:
                continue
            there[place.index].append(candidate)
            if not self._was_seen(key, candidate):
                unseen.add(place.index)
        jobs = []
        for index in unseen & files.keys():
            seen = [c.row for c in there[index] if c.row is not None and self._was_seen(key, c)]
            inferred = [
                (c.run.episode, c.run.length, c.videos[key].start_s)
                for c in there[index]
                if not self._was_seen(key, c)
            ]
            path, spec = self._root / layout.video_path(key, index), self.info.features[key]
            fps, threads = self.info.fps, self.threads
            file = VideoFile(self._root, path, key, spec, fps, seen, inferred, False, threads)
            jobs.append(file.job())
        looked = self.run("videos", jobs)
        for index in unseen:
            parts[index] = looked.get(files[index]) if index in files else None
        self._parts |= {(key, index): part for index, part in parts.items()}
        for candidate in candidates:
            place = candidate.videos.get(key)
            part = parts.get(place.index) if place is not None else None
            if place is None:
                candidate.reject(f"not paired: it is unknown which video of {key} is its")
            elif part is None or candidate.run.episode not in part.whole:
                candidate.reject(f"its video of {key} is not whole")
            elif candidate.run.episode in part.stats:
                candidate.stats = {**candidate.stats, key: part.stats[candidate.run.episode]}

    def _was_seen(self, key: str, candidate: Candidate) -> bool:
        """Whether the check has read its frames at this place."""
        row = self.checked.episodes.get(candidate.run.episode)
        return row is not None and row is candidate.row and row.videos.get(key) == candidate.videos[key]

    def straighten(self, folder: Path, candidates: list[Candidate]) -> dict[str, str]:
        """Copy the good episodes of videos with frames off the grid; call after `place`, for all cameras.

        Args:
            folder: the pack folder, for the new files.
            candidates: get their new places, or a problem if their packets cannot be copied.

        Returns:
            The new files in the pack folder, and the files of the dataset that they replace.
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
            named = tuple(c.named or Named(None, c.run.length) for c in episodes)
            evidence = Evidence(named, key) if any(name.id for name in named) else None
            arguments = (self._root / old, folder / source, spans, self.info.fps, evidence)
            job = Job(folder / source, cut_out_job, arguments, total)
            copied = self.run("videos off the grid", [job])[job.path] == total
            at = 0
            for candidate in episodes:
                if copied:
                    end = at + candidate.run.length
                    candidate.videos[key] = Place(index, at / self.info.fps, end / self.info.fps)
                    at = end
                else:
                    candidate.reject(f"its video of {key} has frames off the grid")
            if copied:
                moves[source] = old
        return moves
