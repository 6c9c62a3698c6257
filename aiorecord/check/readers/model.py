"""The types that the check of a data file returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...encoding.stats import FeatureStats
from ...media.evidence import Evidence
from ..findings import Finding


@dataclass(frozen=True)
class Run:
    """Neighbouring rows of one episode in a data file.

    Attributes:
        episode: its ``episode_index``.
        row: its first row in the file.
        length: rows.
        first: ``index`` of its first row.
        counted: ``frame_index`` and ``index`` rise by one, the former from 0.
        timed: timestamps are on the k/fps grid.
        tasks: task numbers, in the order they appear.
    """

    episode: int
    row: int
    length: int
    first: int
    counted: bool
    timed: bool
    tasks: tuple[int, ...]


@dataclass
class RowsPart:
    """The content of a data file.

    Attributes:
        readable: it has the columns it should, and they could be read to the end.
        rows: rows in it.
        runs: its episodes.
        stats: recomputed statistics of the runs, by place in `runs`, if none are stored or they differ.
        bad_images: places in `runs` of episodes with an image that cannot be used.
        findings: what is wrong inside the file.
        evidence: the description stored in the file, whether it fits the rows or not.
    """

    readable: bool = False
    rows: int = 0
    runs: list[Run] = field(default_factory=list)
    stats: dict[int, dict[str, FeatureStats]] = field(default_factory=dict)
    bad_images: set[int] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    evidence: Evidence | None = None
