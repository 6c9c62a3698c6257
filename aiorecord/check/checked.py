"""The result of a check, kept for a repair."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..dataset.format.info_json import DatasetInfo
from ..dataset.format.layout import FileIndex
from .findings import Report
from .readers.folder_tree import name_in
from .readers.metadata import EpisodeRow, EpisodesPart
from .readers.model import RowsPart
from .readers.video_frames import VideoPart


@dataclass
class Checked:
    """The result of a check, on which a repair is based.

    Attributes:
        report: the findings.
        info: info.json, None if it cannot be used (then there is nothing else).
        tasks: tasks and their numbers, None if they cannot be read.
        parts: the files of `meta/episodes`.
        episodes: the counted rows of `meta/episodes`, by episode.
        data: data files and their content; None if the reader died.
        videos: video files by camera and number, likewise.
        info_found: `info` was reconstructed because info.json is lost, so the number of episodes is unknown.
        agreed: the findings hold for one state of the dataset; else files were exchanged meanwhile.
    """

    report: Report
    info: DatasetInfo | None = None
    tasks: dict[str, int] | None = None
    parts: dict[Path, EpisodesPart] = field(default_factory=dict)
    episodes: dict[int, EpisodeRow] = field(default_factory=dict)
    data: dict[Path, RowsPart | None] = field(default_factory=dict)
    videos: dict[tuple[str, FileIndex], VideoPart | None] = field(default_factory=dict)
    info_found: bool = False
    agreed: bool = True

    def name(self, path: Path) -> str:
        """The name of a file in findings; its whole path if it is not below the dataset's root."""
        try:
            return name_in(self.report.root, path)
        except ValueError:
            return str(path)

    @property
    def video_keys(self) -> list[str]:
        """Cameras stored as video."""
        return self.info.video_keys if self.info else []

    @property
    def is_complete(self) -> bool:
        """Whether `meta/episodes` could be read and holds all episodes that info.json counts."""
        broken = self.info_found or any(part.problem for part in self.parts.values())
        return not broken and self.info is not None and len(self.episodes) >= self.info.total_episodes
