"""Runs benchmark cells one by one, each in a fresh process, so that none inherits memory or threads."""

from __future__ import annotations

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
        Cell(
            cameras=count,
            width=width,
            height=height,
            codec=codec,
            fps=base.fps,
            episodes=base.episodes,
            seconds=base.seconds,
            source=base.source,
            encode=base.encode,
        )
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
        StateError: the child process died.
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
            raise StateError(f"Measuring {cell.label()} with {system} failed: {last_words}")
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

    Raises:
        StateError: a child process died.
    """
    results = []
    for _, cell, system in itertools.product(range(repeat), cells, systems):
        on_start(system, cell)
        results.append(measure(system, cell, folder))
        on_result(results[-1])
    return results
