"""Pairs rows with video frames of the same episode, by the episode ids stored in the files. Pure.

A row is paired with a video only by a record that names both: a row of `meta/episodes`, or an episode id that
both the data file and the video file contain. Equal numbers of frames are no reason to pair. (`video_order`
handles the one case in which files without ids are paired.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ..dataset.format import layout
from ..dataset.format.info_json import DatasetInfo
from ..dataset.format.layout import FileIndex
from ..media.evidence import Evidence, Named
from .checked import Checked
from .findings import Finding
from .readers.metadata import EpisodeRow, Place
from .readers.model import RowsPart, Run
from .readers.video_frames import VideoPart

type _Spans = dict[tuple[int, int], Named]
"""Episodes of a file by their first frame (or row) and length."""


class Pairing:
    """The episode ids stored in the files that were read.

    Args:
        checked: the result of the check.
        info: its info.json.
        dataset: the dataset's id, None if unknown.
    """

    def __init__(self, checked: Checked, info: DatasetInfo, dataset: str | None) -> None:
        self._checked, self._fps, self._dataset = checked, info.fps, dataset
        self._cameras = set(checked.video_keys)
        self._episodes = checked.episodes
        self._data = {path: part for path, part in checked.data.items() if part is not None}
        self._rows = {path: _spans(part.evidence) for path, part in self._data.items() if _is_its(part)}
        self._parts: dict[tuple[str, FileIndex], VideoPart] = {}
        self._videos: dict[tuple[str, FileIndex], _Spans] = {}
        self._holders: dict[tuple[str, str], list[tuple[FileIndex, int, Named]]] = defaultdict(list)
        for (key, index), part in checked.videos.items():
            self.add_video(key, index, part)

    def add_video(self, key: str, index: FileIndex, part: VideoPart | None) -> None:
        """Add a video file that the check did not read."""
        if part is None or not part.readable or (key, index) in self._parts:
            return
        self._parts[key, index] = part
        found = part.evidence
        if found is None or not found.fits(part.frames, found.camera):
            return
        self._videos[key, index] = {} if self._is_of_another(key, found) else _spans(found)
        for (first, _), named in self._videos[key, index].items():
            self._holders[key, str(named.id)].append((index, first, named))

    def of_rows(self, path: Path, run: Run) -> Named | None:
        """The episode id stored for rows, None if there is none."""
        return self._rows.get(path, {}).get((run.row, run.length))

    def is_foreign(self, named: Named) -> bool:
        """Whether an episode was recorded into another dataset."""
        return None not in (self._dataset, named.dataset) and named.dataset != self._dataset

    def contradicts(self, key: str, place: Place, named: Named) -> bool:
        """Whether a video stores another episode id, or another camera, for a place."""
        return self._contradiction(key, place, named) is not None

    def find(self, key: str, named: Named) -> list[Place]:
        """The places of frames stored under an episode's id, if they are as many as it has rows.

        In the order of the files: packed ones first. Several are copies of each other, or one is wrong.
        """
        return [
            Place(index, first / self._fps, (first + named.length) / self._fps)
            for index, first, found in sorted(self._holders[key, str(named.id)], key=lambda held: held[:2])
            if found.length == named.length and _is_same(found, named)
        ]

    def says(self, key: str, index: FileIndex) -> bool:
        """Whether a video stores the ids of its episodes."""
        return bool(self._videos.get((key, index)))

    def unclaimed(self, taken: set[str]) -> Iterator[tuple[str, FileIndex, Named]]:
        """Episodes that only videos hold.

        Args:
            taken: ids of episodes that have rows.
        """
        for (key, index), spans in sorted(self._videos.items()):
            for named in spans.values():
                if named.id not in taken:
                    yield key, index, named

    def findings(self) -> Iterator[Finding]:
        """Findings on files whose stored ids contradict `meta/episodes`, or do not fit the files."""
        for path, part in self._data.items():
            if part.readable and part.evidence is not None and not _is_its(part):
                yield self._stale(self._checked.name(path), "rows")
        for (key, index), video in self._parts.items():
            if video.evidence is not None and (key, index) not in self._videos:
                yield self._stale(layout.video_path(key, index), "frames")
        for path, part in self._data.items():
            for run in part.runs:
                named, row = self.of_rows(path, run), self._episodes.get(run.episode)
                if row is None or self._checked.name(path) != layout.data_path(row.data):
                    continue
                if named is not None and row.id not in (None, named.id):
                    message = f"Its rows say that they are {named.id}, meta/episodes that they are {row.id}."
                    yield Finding("rows-other-episode", self._checked.name(path), message, row.episode)
                named = named or by_metadata(row, run)
                if named is not None:
                    yield from self._compare(row, named)

    def _stale(self, place: str, what: str) -> Finding:
        message = f"Its stored description does not account for its {what}: another program has rewritten it."
        return Finding("evidence-stale", place, message)

    def _compare(self, row: EpisodeRow, named: Named) -> Iterator[Finding]:
        for key, place in row.videos.items():
            message = self._contradiction(key, place, named)
            if message is not None:
                name = layout.video_path(key, place.index)
                yield Finding("video-other-episode", name, message, row.episode, key)

    def _contradiction(self, key: str, place: Place, named: Named) -> str | None:
        part, spans = self._parts.get((key, place.index)), self._videos.get((key, place.index))
        if part is None or spans is None or part.evidence is None:
            return None
        if self._is_of_another(key, part.evidence):
            return f"Its frames say that they are of the camera {part.evidence.camera}."
        first = frame_at(place.start_s, self._fps)
        found = spans.get((first, named.length))
        if found is not None:
            if _is_same(found, named):
                return None
            return f"Its rows say that they are {named.id}, its frames that they are {found.id}."
        other = [name.id for (at, n), name in spans.items() if at < first + named.length and first < at + n]
        if not other:
            return None  # frames joined in from a file without ids
        ids = ", ".join(map(str, other))
        return f"Its rows say that they are {named.id}, its frames that they are of {ids}."

    def _is_of_another(self, key: str, evidence: Evidence) -> bool:
        """Whether a video is of another camera of the dataset; an unknown name is an older name."""
        return evidence.camera != key and evidence.camera in self._cameras


def by_metadata(row: EpisodeRow, run: Run) -> Named | None:
    """The episode of rows by their row of `meta/episodes`, which also names their file."""
    return Named(row.id, run.length) if row.id is not None and row.length == run.length else None


def frame_at(seconds: float, fps: int) -> int:
    """The frame shown at a time, -1 for an impossible time."""
    return round(seconds * fps) if 0 <= seconds * fps < 1 << 40 else -1


def _is_its(part: RowsPart) -> bool:
    return part.readable and part.evidence is not None and part.evidence.fits(part.rows)


def _is_same(a: Named, b: Named) -> bool:
    return a.id == b.id and (None in (a.dataset, b.dataset) or a.dataset == b.dataset)


def _spans(evidence: Evidence | None) -> _Spans:
    """The episodes that have an id."""
    found: _Spans = {}
    at = 0
    for episode in evidence.episodes if evidence is not None else ():
        if episode.id is not None:
            found[at, episode.length] = episode
        at += episode.length
    return found
