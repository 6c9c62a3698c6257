"""Turns measurements into recommendations. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from .cell import Cell, Measurement

LATE_PERIODS = 0.5
"""A cell is on time if 99 of 100 ticks come within this share of a period."""

RATE_SHARE = 0.99
"""A cell keeps its rate if it has this share of the requested frames."""


def is_on_time(measured: Measurement) -> bool:
    """Whether a cell can be recorded here: the rate is kept, ticks are on time, nothing is lost."""
    return (
        measured.error is None
        and measured.rows >= RATE_SHARE * measured.frames
        and measured.late(99) <= LATE_PERIODS * 1000 / measured.cell.fps
        and not measured.lost
    )


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
        good = [m for m in group if is_on_time(m)]
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
