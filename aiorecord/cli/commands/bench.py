"""`aiorecord bench`: measure what this machine can record."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import MofNCompleteColumn, TimeElapsedColumn
from rich.table import Table

from ...bench.advice import drain_floor_s, is_on_time, middle, recommendations
from ...bench.benchmark_images import check_source
from ...bench.cell import Cell, Measurement, System
from ...bench.plot import check_plot, draw
from ...bench.runner import check_systems, failures, grid, measure_all
from ...encoders import RGBEncoderConfig
from ...encoding.plans.calibration import calibrate
from ...encoding.plans.choice import LiveSpeed, choose_plans, live_candidates
from ...encoding.plans.speeds import SpeedQuestion
from ...errors import AiorecordError, ConfigError, EncodeError, StorageError
from ...features import Feature
from ...options import check_number
from ...system.processor import processor_name
from ...system.storage import storage_errors
from ...workers.pool import WorkerPool
from ..flag_parser import FlagParser, at_least_one
from ..output import complain, say
from ..output_files import check_output
from ..table_console import output_console, progress_bar

EXAMPLES = """examples:
  aiorecord bench                                    # one to three cameras, 480p and 720p, AV1 and h264
  aiorecord bench --cameras=2 --sizes=640x480 --codecs=libsvtav1
  aiorecord bench --cameras=2 --sizes=640x480 --codecs=libsvtav1 --against=lerobot --plot=late.svg
  aiorecord bench --source=video:kitchen.mp4 --json=bench.json
  aiorecord bench --calibrate                        # measure again for --encode=auto

Every figure is measured now, on this machine, in a fresh process; pictures are made beforehand. Close other
programs first. exit codes: 0 measured, 1 a cell could not be measured, 2 wrong usage, 130 stopped."""

SYSTEMS_AGAINST: dict[str, list[System]] = {
    "": ["aiorecord"],
    "lerobot": ["aiorecord", "lerobot-streaming", "lerobot-png"],
}


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    flags = _parse(argv)
    console = output_console()
    try:
        failed = _bench(flags, console)
    except ConfigError as error:
        complain(error)
        return 2
    except AiorecordError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        say("Stopped.", file=sys.stderr)
        return 130
    for line in failed:
        complain(f"not measured: {line}")
    return 1 if failed else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = FlagParser(
        "aiorecord bench",
        description="Measure what this machine can record: for every number of cameras, size and codec the "
        "rate that it sustains, how late ticks are, the time lost between episodes, and how long the "
        "encoding takes afterwards; then recommend settings.",
        examples=EXAMPLES,
    )
    add, rare = parser.add_argument, parser.rare
    add(
        "--cameras", type=_numbers, default=[1, 2, 3], metavar="N,N", help="numbers of cameras, default 1,2,3"
    )
    add("--sizes", type=_sizes, default=[(640, 480), (1280, 720)], help="default 640x480,1280x720")
    add("--codecs", type=_codecs, default=["libsvtav1", "h264"], help="default libsvtav1,h264")
    rare("--encode", choices=("auto", "live", "deferred"), default="auto", help="aiorecord's plan")
    rare("--fps", type=at_least_one, default=30, help="default 30")
    add("--episodes", type=at_least_one, default=3, help="episodes per cell, default 3")
    add("--seconds", type=float, default=5.0, help="seconds per episode, default 5")
    rare("--source", default="sim", help="sim (the default) or video:FILE")
    add("--calibrate", action="store_true", help="only measure again which codecs are fast enough live")
    add("--against", choices=("lerobot",), default="", help="also measure lerobot's own recording")
    rare("--repeat", type=at_least_one, default=1, help="rounds, interleaved; tables show the median")
    rare("--folder", type=Path, default=None, help="folder for the datasets, on the disk that you record to")
    add("--json", type=Path, default=None, help="write every figure here")
    add("--plot", type=Path, default=None, help="draw lateness over time (.svg or .png; extra 'bench')")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    return [at_least_one(part.strip()) for part in text.split(",")]


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _codecs(text: str) -> list[str]:
    try:
        codecs = [RGBEncoderConfig(vcodec=name).vcodec for name in _words(text)]
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not codecs:
        raise argparse.ArgumentTypeError("takes codecs such as libsvtav1,h264")
    return codecs


def _sizes(text: str) -> list[tuple[int, int]]:
    sizes = [re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", part) for part in _words(text)]
    if not sizes or not all(sizes):
        raise argparse.ArgumentTypeError(f"takes widths and heights such as 640x480,1280x720, not {text!r}")
    return [(int(size[1]), int(size[2])) for size in sizes if size]


def _bench(flags: argparse.Namespace, console: Console) -> list[str]:
    """Measure and print; returns what could not be measured, a line each."""
    check_number("seconds", flags.seconds, above=0)
    if round(flags.seconds * flags.fps) < 1:
        raise ConfigError(f"--seconds={flags.seconds:g} has no frame at {flags.fps} fps.", option="seconds")
    base = Cell(
        fps=flags.fps,
        episodes=flags.episodes,
        seconds=flags.seconds,
        source=flags.source,
        encode=flags.encode,
    )
    cells = grid(flags.cameras, flags.sizes, flags.codecs, base)
    check_source(flags.source)
    if flags.calibrate:
        failed: list[str] = []
        for line in calibrate_cells(cells, failed):
            console.print(line)
        return failed
    against = SYSTEMS_AGAINST[flags.against]
    check_systems(against)
    for path in (flags.json, flags.plot):
        if path is not None:
            check_output(path, "json" if path is flags.json else "plot")
    if flags.folder is not None and not flags.folder.is_dir():
        raise ConfigError(f"There is no folder {flags.folder}.", option="folder")
    if flags.plot is not None:
        check_plot(flags.plot)
    console.print(f"{_described_machine()}, {_versions()}")
    systems: list[System] = [*against, "bare"]
    with progress_bar(MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        bar = progress.add_task("", total=flags.repeat * len(cells) * len(systems))
        results = measure_all(
            cells,
            systems,
            repeat=flags.repeat,
            folder=flags.folder,
            on_start=lambda system, cell: progress.update(bar, description=f"{cell.label()}, {system}"),
            on_result=lambda measured: progress.advance(bar),
        )
    if flags.against:
        for cell in cells:
            console.print(ratio_table(cell, against, results))
    else:
        console.print(grid_table(cells, results))
        console.print("p99, max: how late ticks were. dead: between two episodes.")
        console.print("min/min: minutes of encoding left after each minute recorded.")
    console.print("\nrecommended:")
    for line in recommendations(results):
        console.print(f"  {line}")
    if flags.json is not None:
        with storage_errors(flags.json, "write"):
            flags.json.write_text(json.dumps(report(results), indent=2) + "\n")
        console.print(f"all figures: {flags.json}")
    if flags.plot is not None:
        with storage_errors(flags.plot, "draw"):
            draw(results, flags.plot)
        console.print(f"plot: {flags.plot}")
    return failures(results)


def calibrate_cells(cells: Sequence[Cell], failed: list[str]) -> Iterator[str]:
    """Measure again how fast codecs are live, and store it for later recordings; a line for each cell.

    Args:
        cells: what.
        failed: gets a line for each cell that could not be measured: which one, and why.
    """
    pool = WorkerPool(1)
    try:
        for cell in cells:
            encoder = RGBEncoderConfig(vcodec=cell.codec)
            camera = Feature("camera", "video", (cell.height, cell.width, 3))
            cameras = {f"camera{n}": camera for n in range(cell.cameras)}
            speed: LiveSpeed | str = "never live"
            if live_candidates(cameras, encoder, cell.fps, "auto"):
                sizes = [(cell.height, cell.width)] * cell.cameras
                try:
                    speed = calibrate(SpeedQuestion(encoder, sizes, cell.fps, None), pool, refresh=True)
                except (EncodeError, StorageError) as error:
                    failed.append(f"{cell.label()}: {error}")
                    continue
            plan = choose_plans(cameras, encoder, encoder, cell.fps, "auto", speed)["camera0"]
            yield f"{cell.label()}: {plan.mode}: {plan.why}"
    finally:
        pool.shutdown()


def _described_machine() -> str:
    """This machine in a few words."""
    return f"{os.cpu_count()} cores of {processor_name()}, {platform.system()} {platform.release()}"


def _versions() -> str:
    from importlib.metadata import version

    return f"aiorecord {version('aiorecord')}, av {version('av')}, Python {platform.python_version()}"


def report(results: Sequence[Measurement]) -> dict[str, Any]:
    """The content that ``--json`` writes."""
    return {
        "machine": _described_machine(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "measurements": [
            {
                **m.summary(),
                "tick_s": [round(v, 4) for v in m.tick_s],
                "late_ms": [round(v, 3) for v in m.late_ms],
            }
            for m in results
        ],
        "recommended": recommendations(results),
    }


def grid_table(cells: Sequence[Cell], results: Sequence[Measurement]) -> Table:
    """A row per cell: what aiorecord reached."""
    # Without padding at the edges, it fits into 80 columns.
    table = Table(box=SIMPLE, collapse_padding=True, pad_edge=False)
    table.add_column("cell", no_wrap=True)
    for name in ("fps", "lost", "p99 ms", "max ms", "dead ms", "min/min", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in cells:
        row = middle(results, "aiorecord", cell)
        mine = [m for m in results if m.system == "aiorecord" and m.cell == cell]
        verdict = "ok" if all(map(is_on_time, mine)) else "late"
        if not row:
            table.add_row(cell.label(), *["-"] * 6, "failed")
            continue
        names = ("sustained_fps", "lost", "late_p99_ms", "late_max_ms", "dead_max_ms", "backlog_min_per_min")
        figures = [f"{row[name]:.{digits}f}" for name, digits in zip(names, (1, 0, 1, 1, 1, 2), strict=True)]
        table.add_row(cell.label(), *figures, verdict)
    return table


FIGURES = {
    "sustained_fps": ("frames per second", 1),
    "lost": ("frames lost", 0),
    "late_p99_ms": ("tick late, p99, ms", 1),
    "late_max_ms": ("tick late, worst, ms", 1),
    "dead_max_ms": ("between episodes, ms", 1),
    "add_frame_p99_ms": ("add_frame, p99, ms", 2),
    "drain_s": ("all saved after, s", 1),
    "cpu_ms_per_frame": ("CPU per frame, ms", 1),
    "peak_rss_mb": ("memory, MB", 0),
}


def ratio_table(cell: Cell, systems: Sequence[System], results: Sequence[Measurement]) -> Table:
    """One cell: a row per figure, a column per system, others than the first with their ratio to it."""
    table = Table(box=SIMPLE, title=cell.label(), title_justify="left")
    table.add_column("median" if len([m for m in results if m.system == "bare"]) > 1 else "", no_wrap=True)
    rows = {system: middle(results, system, cell) for system in systems}
    for system in (*systems, "encoder alone"):
        table.add_column(system.replace("-", " "), justify="right")
    bare = middle(results, "bare", cell)
    alone: dict[str, float] = {}
    if bare:
        left = rows[systems[0]].get("backlog_frames", 0)
        alone["drain_s"] = drain_floor_s(left, bare, os.cpu_count() or 1)
        alone["cpu_ms_per_frame"] = bare["cpu_ms_per_frame"]
    for name, (title, digits) in FIGURES.items():
        ours = rows[systems[0]].get(name)
        figures = [_figure(rows[systems[0]].get(name), None, digits)]
        figures += [_figure(rows[system].get(name), ours, digits) for system in systems[1:]]
        table.add_row(title, *figures, _figure(alone.get(name), None, digits, missing=""))
    return table


def _figure(value: float | None, ours: float | None, digits: int, missing: str = "-") -> str:
    """A figure; of another system with its ratio to ours."""
    if value is None:
        return missing
    ratio = value / ours if ours else None
    shown = "" if ratio is None else f" x{ratio:.0f}" if ratio >= 100 else f" x{ratio:.2f}"
    return f"{value:.{digits}f}{shown}"
