"""`aiorecord info`: what is in a dataset, and how well each episode was recorded."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..capture.staging import EpisodeFolder, Staging
from ..dataset import layout, quality_log
from ..dataset.episodes import episode_files, read_episodes
from ..dataset.info import DatasetInfo, read_info
from ..dataset.lock import live_holder
from ..errors import AiorecordError, ConfigError, DatasetError
from ..features import DEFAULT_FEATURES
from ..monitor.text import size_text, time_text
from ..quality import CameraQuality, EpisodeQuality

EXAMPLES = """examples:
  aiorecord info data/pick-cube                    # what is in it, and the newest episodes
  aiorecord info data/pick-cube --episodes=3,5-9   # the quality of these
  aiorecord info data/pick-cube --json | jq '.episodes[] | select(.quality.flags != [])'

The quality columns: fps as measured; how late ticks were (ms) and how many were late or missed; per camera
the frames that repeat the one before, and the longest such freeze; frames spilled and lost.

exit codes: 0 shown, 1 no dataset or a damaged one, 2 wrong usage."""

SHOWN_EPISODES = 50
PIPE_WIDTH = 160
MAX_INFO_BYTES = 64 << 20
"""Of info.json; lerobot's are a few kB."""

_TRIES = 5
"""A dataset that is being packed exchanges its files while they are read."""


@dataclass(frozen=True)
class EpisodeFacts:
    """An episode that counts.

    Attributes:
        index: its index.
        length: frames, by the metadata.
        tasks: what was done.
        quality: its line in the quality record; None where there is none, or one of another episode.
    """

    index: int
    length: int
    tasks: list[str]
    quality: EpisodeQuality | None


@dataclass(frozen=True)
class StagedFacts:
    """An episode in staging.

    Attributes:
        id: its folder's name.
        state: ``recording``, ``complete`` or ``unreadable``.
        frames: frames, known once it is complete.
        bytes: on disk.
    """

    id: str
    state: str
    frames: int | None
    bytes: int


@dataclass(frozen=True)
class DatasetFacts:
    """What there is to say about a dataset.

    Attributes:
        root: its folder.
        info: info.json.
        episodes: those that count, in order.
        sizes: bytes on disk of ``data``, ``videos``, ``meta``, and of ``staging``.
        staged: episodes that are not in the dataset yet.
        writer: who records into it now, None if nobody does.
        problems: what in the quality record cannot be read.
    """

    root: Path
    info: DatasetInfo
    episodes: list[EpisodeFacts]
    sizes: dict[str, int]
    staged: list[StagedFacts]
    writer: str | None
    problems: list[str]


class EpisodeRanges:
    """Which episodes: ``3,5-9``.

    Raises:
        ConfigError: it does not say so.
    """

    def __init__(self, text: str) -> None:
        self._ranges: list[tuple[int, int]] = []
        for part in text.split(","):
            match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
            first = int(match[1]) if match else 0
            last = int(match[2]) if match and match[2] else first
            if match is None or last < first:
                raise ConfigError(f"--episodes takes numbers and ranges, such as 3,5-9, not {text!r}.")
            self._ranges.append((first, last))

    def __contains__(self, index: int) -> bool:
        return any(first <= index <= last for first, last in self._ranges)


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        "aiorecord info",
        description="Show what is in a dataset, whoever wrote it, and the quality record that aiorecord "
        f"keeps in {quality_log.PATH}. Only reads; works while the dataset is recorded into.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="the dataset's folder")
    parser.add_argument("--episodes", default=None, help="which episodes: 3,5-9 (default: the newest)")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    arguments = parser.parse_args(argv)
    try:
        chosen = None if arguments.episodes is None else EpisodeRanges(arguments.episodes)
        facts = read_facts(arguments.root.expanduser().absolute())
        if arguments.json:
            print(json.dumps(as_json(facts, chosen), indent=2))
        else:
            show(facts, chosen)
    except AiorecordError as error:
        print(f"aiorecord: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def read_facts(root: Path) -> DatasetFacts:
    """Read everything. Blocking; changes nothing, and needs no lock.

    Raises:
        DatasetError: there is no dataset, or a damaged one.
        StorageError: the disk refused.
    """
    for attempt in range(1, _TRIES + 1):
        info = _read_info(root)
        try:
            rows = _episode_rows(root, info)
            break
        except AiorecordError:
            if attempt == _TRIES:
                raise
    records, problems = quality_log.read(root, info.total_episodes)
    episodes = []
    for index, length, tasks in rows:
        quality = records.get(index)
        if quality is not None and quality.length != length:
            problems.append(f"episode {index} has {length} frames, its record says {quality.length}")
            quality = None
        episodes.append(EpisodeFacts(index, length, tasks, quality))
    staging = Staging(root)
    sizes = {name: folder_bytes(root / name) for name in ("data", "videos", "meta")}
    sizes["staging"] = folder_bytes(staging.path)
    staged = [_staged(path) for path in staging.episode_paths()]
    return DatasetFacts(root, info, episodes, sizes, staged, live_holder(root), problems)


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder; links are not followed, files that vanish meanwhile do not count."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue
    return total


def as_json(facts: DatasetFacts, chosen: EpisodeRanges | None = None) -> dict[str, Any]:
    """The facts, JSON-ready.

    Args:
        facts: from `read_facts`.
        chosen: episodes that are listed; None lists all.
    """
    return {
        "root": str(facts.root),
        "info": facts.info.as_dict(),
        "bytes": facts.sizes,
        "tasks": count_tasks(facts.episodes),
        "writer": facts.writer,
        "staging": [vars(staged) for staged in facts.staged],
        "episodes": [
            {
                "episode_index": episode.index,
                "length": episode.length,
                "tasks": episode.tasks,
                "quality": episode.quality.as_dict() if episode.quality else None,
            }
            for episode in facts.episodes
            if chosen is None or episode.index in chosen
        ],
        "problems": facts.problems,
    }


def count_tasks(episodes: Sequence[EpisodeFacts]) -> dict[str, int]:
    """Episodes by task."""
    counts: dict[str, int] = {}
    for episode in episodes:
        for task in episode.tasks:
            counts[task] = counts.get(task, 0) + 1
    return counts


def show(facts: DatasetFacts, chosen: EpisodeRanges | None = None, console: Console | None = None) -> None:
    """Print the facts.

    Args:
        facts: from `read_facts`.
        chosen: episodes whose quality is shown; None shows the newest.
        console: where to; default standard output.
    """
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH, file=console.file)
    console.print(_head(facts))
    console.print(_features(facts.info))
    for line in _staging_lines(facts):
        console.print(Text(line, style="yellow"))
    if chosen is None:
        episodes = facts.episodes[-SHOWN_EPISODES:]
    else:
        episodes = [episode for episode in facts.episodes if episode.index in chosen]
        if not episodes:
            console.print(Text("none of these episodes is in the dataset", style="yellow"))
    if not any(episode.quality for episode in facts.episodes):
        console.print("no quality record: the episodes were not recorded by aiorecord")
    elif episodes:
        console.print(_quality(episodes))
    if len(episodes) < len(facts.episodes) and chosen is None:
        console.print(
            f"the newest {len(episodes)} of {len(facts.episodes)} episodes; --episodes=0-9 shows others"
        )
    for problem in facts.problems[:10]:
        console.print(Text(f"quality record: {plain(problem)}", style="yellow"))
    if len(facts.problems) > 10:
        console.print(Text(f"quality record: and {len(facts.problems) - 10} more problems", style="yellow"))


def plain(text: str) -> str:
    """A text of a dataset without what would steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _read_info(root: Path) -> DatasetInfo:
    path = root / layout.INFO_PATH
    try:
        if path.is_file() and path.stat().st_size > MAX_INFO_BYTES:
            raise DatasetError(
                f"{path} is not a dataset's info: it is {path.stat().st_size} bytes.", path=path
            )
        return read_info(root)
    except RecursionError as error:
        raise DatasetError(f"{path} cannot be read: nested too deeply", path=path) from error


def _episode_rows(root: Path, info: DatasetInfo) -> list[tuple[int, int, list[str]]]:
    """Index, length and tasks of the episodes that count."""
    files = episode_files(root)
    if not info.total_episodes:
        return []
    if not files or files[-1].end < info.total_episodes:
        held = files[-1].end if files else 0
        raise DatasetError(
            f"{root}: meta/episodes holds {held} episodes, meta/info.json counts {info.total_episodes}.",
            path=root,
        )
    table = read_episodes(files, ["episode_index", "length", "tasks"]).slice(0, info.total_episodes)
    return [
        (int(row["episode_index"]), int(row["length"] or 0), [str(task) for task in row["tasks"] or []])
        for row in table.to_pylist()
    ]


def _staged(path: Path) -> StagedFacts:
    size = folder_bytes(path)
    try:
        manifest = EpisodeFolder.load(path).manifest
    except DatasetError:
        return StagedFacts(path.name, "unreadable", None, size)
    return StagedFacts(path.name, manifest.state, manifest.length, size)


def _head(facts: DatasetFacts) -> Table:
    info = facts.info
    table = Table.grid(padding=(0, 2))
    sizes = ", ".join(f"{name} {size_text(facts.sizes[name])}" for name in ("data", "videos", "meta"))
    tasks = count_tasks(facts.episodes)
    table.add_row("dataset", Text(plain(str(facts.root))))
    robot = f", robot {plain(str(info.robot_type))}" if info.robot_type else ""
    table.add_row("format", Text(f"LeRobotDataset {plain(info.codebase_version)}{robot}"))
    spent = time_text(info.total_frames / info.fps)
    table.add_row(
        "contents",
        f"{info.total_episodes} episodes, {info.total_frames} frames, {spent} at {info.fps} fps",
    )
    table.add_row("size", f"{size_text(sum(facts.sizes[n] for n in ('data', 'videos', 'meta')))}: {sizes}")
    for number, (task, count) in enumerate(list(tasks.items())[:10]):
        table.add_row("" if number else "tasks", Text(f"{plain(task) or '(none)'}  ({count} episodes)"))
    if len(tasks) > 10:
        table.add_row("", f"and {len(tasks) - 10} more")
    return table


def _features(info: DatasetInfo) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("feature", "type", "shape", "codec"):
        table.add_column(name)
    for key, feature in info.features.items():
        if key in DEFAULT_FEATURES:
            continue
        about = feature.get("info") or {}
        codec = " ".join(str(about[name]) for name in ("video.codec", "video.pix_fmt") if about.get(name))
        shape = " x ".join(str(size) for size in feature["shape"])
        table.add_row(*(Text(plain(text)) for text in (key, str(feature["dtype"]), shape, codec)))
    return table


def _staging_lines(facts: DatasetFacts) -> list[str]:
    lines = []
    if facts.writer is not None:
        lines.append(f"being written by {plain(facts.writer)}")
    if facts.staged:
        size = size_text(facts.sizes["staging"])
        states = [staged.state for staged in facts.staged]
        parts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        lines.append(f"staging: {len(states)} unfinished episodes ({parts}; {size})")
        if facts.writer is None:
            lines.append(f"finish them: aiorecord recover {plain(str(facts.root))}")
    return lines


def _quality(episodes: Sequence[EpisodeFacts]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    names = ("episode", "frames", "fps", "late p50", "p99", "max ms", "late", "missed", "repeated", "freeze")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("notes")
    for episode in episodes:
        table.add_row(*_quality_row(episode))
    return table


def _quality_row(episode: EpisodeFacts) -> list[Text | str]:
    first: list[Text | str] = [str(episode.index), str(episode.length)]
    quality = episode.quality
    if quality is None:
        return [*first, *[""] * 8, Text("no record", style="dim")]
    late = quality.lateness
    cameras = quality.cameras.values()
    repeated = [camera.repeated for camera in cameras if camera.repeated is not None]
    freezes = [camera.longest_freeze_s for camera in cameras if camera.longest_freeze_s is not None]
    notes = Text(style="")
    if quality.interrupted:
        notes.append("interrupted  ", style="yellow")
    for flag in quality.flags:
        notes.append(f"FLAGGED: {plain(flag)}  ", style="bold red")
    for key, camera in quality.cameras.items():
        if counts := _camera_notes(camera):
            notes.append(f"{plain(key.removeprefix('observation.images.'))}: {counts}  ", style="yellow")
    notes.append("  ".join(f"{plain(name)}={plain(str(value))}" for name, value in quality.facts.items()))
    return [
        *first,
        "-" if quality.effective_fps is None else f"{quality.effective_fps:.2f}",
        *(_number(late.get(name)) for name in ("p50_ms", "p99_ms", "worst_ms", "late", "missed")),
        str(sum(repeated)) if repeated else "-",
        f"{max(freezes):.2f} s" if freezes else "-",
        notes,
    ]


def _camera_notes(camera: CameraQuality) -> str:
    counts = {name: getattr(camera, name) for name in ("repeated", "stale", "spilled", "lost")}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}"
