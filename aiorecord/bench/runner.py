"""Runs benchmark cells one by one, each in a fresh process, so that none inherits memory or threads."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..errors import ConfigError, StateError
from ..system.installation import install_hint
from .cell import SYSTEMS, Cell, Measurement, Order, System

STDERR_KEPT = 2000


def grid(
    cameras: Iterable[int], sizes: Iterable[tuple[int, int]], codecs: Iterable[str], base: Cell
) -> list[Cell]:
    """Every combination, other settings as in `base`.

    Raises:
        ConfigError: one of them cannot be recorded.
    """
    return [
        dataclasses.replace(base, cameras=count, width=width, height=height, codec=codec)
        for codec, (width, height), count in itertools.product(codecs, sizes, cameras)
    ]


def check_systems(systems: Iterable[System]) -> None:
    """Check that the packages are there.

    Raises:
        ConfigError: lerobot is not installed.
    """
    if any(s.startswith("lerobot") for s in systems) and importlib.util.find_spec("lerobot") is None:
        raise ConfigError(
            "lerobot is not installed, so there is nothing to compare with. Install it with "
            f"`{install_hint('lerobot')}`.",
            option="against",
        )


def measure(system: System, cell: Cell, folder: Path | None = None) -> Measurement:
    """Measure one cell in a process of its own. Blocking.

    Args:
        system: the system that records.
        cell: the cell.
        folder: where the dataset is made and deleted again; its disk is measured. Default: the temporary
            folder.

    Returns:
        The figures; `Measurement.error` says why there are none.

    Raises:
        StateError: the child process died; says what it said last.
    """
    with tempfile.TemporaryDirectory(prefix="aiorecord-bench-", dir=folder) as name:
        place = Path(name)
        work = place / "work"
        work.mkdir()
        order, result = place / "order.json", place / "result.json"
        Order(system, cell, work).write(order)
        child = subprocess.run(
            [sys.executable, "-m", SYSTEMS[system], str(order), str(result)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if child.returncode:
            last_words = child.stderr[-STDERR_KEPT:].decode(errors="replace").strip()
            raise StateError(f"Its process ended with code {child.returncode}: {last_words}")
        return Measurement.read(result)


def measure_all(
    cells: Sequence[Cell],
    systems: Sequence[System],
    *,
    repeat: int = 1,
    folder: Path | None = None,
    on_start: Callable[[System, Cell], None] = lambda system, cell: None,
    on_result: Callable[[Measurement], None] = lambda measured: None,
) -> list[Measurement]:
    """Measure every cell with every system, interleaved, so that a busy minute affects all of them alike.

    Args:
        cells: the cells.
        systems: the systems.
        repeat: rounds over everything.
        folder: as in `measure`.
        on_start: called before each measurement.
        on_result: called after it.

    Returns:
        What was measured; one whose process died says so in its `Measurement.error`, like one that failed.
    """
    results = []
    for _, cell, system in itertools.product(range(repeat), cells, systems):
        on_start(system, cell)
        try:
            measured = measure(system, cell, folder)
        except StateError as error:  # the other cells are measured all the same
            measured = Measurement(system, cell, error=str(error))
        results.append(measured)
        on_result(measured)
    return results


def failures(results: Iterable[Measurement]) -> list[str]:
    """A line for each cell that could not be measured: which one, with which systems, and why."""
    failed: dict[tuple[str, str], list[str]] = {}
    for measured in results:
        if measured.error is not None:
            reason = measured.error.strip().splitlines()[-1]  # of a traceback, what was raised
            systems = failed.setdefault((measured.cell.label(), reason), [])
            if measured.system not in systems:
                systems.append(measured.system)
    return [f"{label} ({', '.join(systems)}): {reason}" for (label, reason), systems in failed.items()]
