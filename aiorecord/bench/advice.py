"""Turns measurements into verdicts and recommendations. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .cell import Cell, Measurement

LATE_PERIODS = 0.5
"""A cell is on time if 99 of 100 ticks come within this share of a period."""

RATE_SHARE = 0.99
"""A cell keeps its rate if it has this share of the requested frames."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one measurement.

    Attributes:
        on_time: the rate is kept, ticks are on time, and nothing is lost.
        text: a sentence for the user.
    """

    on_time: bool
    text: str


def judge(measured: Measurement) -> Verdict:
    """Decide whether a cell can be recorded on this machine, and how much encoding it leaves."""
    cell = measured.cell
    what = f"{cell.cameras}x{cell.height}p@{cell.fps} {cell.codec}"
    if measured.error is not None:
        return Verdict(False, f"{what}: cannot be recorded here: {measured.error}")
    problems = []
    if measured.rows < RATE_SHARE * measured.frames:
        problems.append(f"only {measured.sustained_fps:.1f} of {cell.fps} fps")
    if measured.late(99) > LATE_PERIODS * 1000 / cell.fps:
        problems.append(f"1 tick in 100 is {measured.late(99):.0f} ms late or later")
    if measured.lost:
        problems.append(f"{measured.lost} frames lost")
    if problems:
        return Verdict(False, f"{what}: too much for this machine ({', '.join(problems)})")
    return Verdict(True, f"{what}: on time, {_afterwards(measured)}")


def _afterwards(measured: Measurement) -> str:
    if measured.drain_s < 1.0:
        return "saved at once"
    return f"finishes {measured.backlog_min_per_min:.1f} min after each minute recorded"


def recommendations(measurements: Sequence[Measurement]) -> list[str]:
    """One line per number of cameras and size: the codecs that are fast enough, the smallest backlog last.

    Args:
        measurements: of aiorecord; those of other systems are ignored.
    """
    ours = [m for m in measurements if m.system == "aiorecord"]
    places: dict[tuple[int, int, int, int], list[Measurement]] = {}
    for m in ours:
        places.setdefault((m.cell.cameras, m.cell.width, m.cell.height, m.cell.fps), []).append(m)
    lines = []
    for (cameras, width, height, fps), group in sorted(places.items()):
        good = [m for m in group if judge(m).on_time]
        name = f"{cameras}x{width}x{height}@{fps}"
        if good:
            lines.append(f"{name}: " + "; ".join(f"{m.cell.codec} {_afterwards(m)}" for m in good))
        else:
            codecs = ", ".join(sorted({m.cell.codec for m in group}))
            lines.append(f"{name}: too much for this machine with {codecs}; fewer cameras, pixels or fps")
    return lines


def middle(measurements: Sequence[Measurement], system: str, cell: Cell) -> dict[str, float]:
    """The medians of `Measurement.figures` over the rounds of one cell and system; empty without rounds."""
    figures = [m.figures() for m in measurements if m.system == system and m.cell == cell and m.error is None]
    return {name: float(median(each[name] for each in figures)) for name in figures[0]} if figures else {}


def drain_floor_s(frames: float, bare: dict[str, float], cores: int) -> float:
    """The shortest time in which a backlog can be encoded: the bare encoder's, divided by the cores.

    Args:
        frames: still to be encoded, over all cameras.
        bare: `middle` of the bare encoder.
        cores: processors.
    """
    return frames * bare["cpu_ms_per_frame"] / 1000 / cores
