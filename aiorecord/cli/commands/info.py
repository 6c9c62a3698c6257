"""`aiorecord info`: show what a dataset holds, and how well each episode was recorded."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...dataset.format import quality_log
from ...dataset.format.info_json import DatasetInfo
from ...errors import AiorecordError, ConfigError
from ...features import DEFAULT_FEATURES
from ...monitor.units import size_text, time_text
from ...printable import json_text, plain
from ..dataset_facts import DatasetFacts, EpisodeFacts, count_tasks, read_facts
from ..flag_parser import FlagParser
from ..output import complain, dataset_folder, say
from ..quality_notes import notes_of
from ..table_console import output_console

EXAMPLES = """examples:
  aiorecord info data/pick-cube                    # what is in it, and the newest episodes
  aiorecord info data/pick-cube --episodes=3,5-9   # the quality of these
  aiorecord info data/pick-cube --json | jq '.episodes[] | select(.quality.flags != [])'

The quality columns: fps as measured; how late ticks were (ms) and how many were late or missed; frames that
repeat the one before, over all cameras, and the longest such freeze. Other notes stand below the table.

exit codes: 0 shown, 1 no dataset or a damaged one, 2 wrong usage."""

SHOWN_EPISODES = 50
WIDE, NARROW = 76, 50
"""Terminal columns that the whole table needs, and most of it."""


class EpisodeRanges:
    """Which episodes: ``3,5-9``.

    Raises:
        ConfigError: the text is not of this form.
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
    parser = FlagParser(
        "aiorecord info",
        description="Show what is in a dataset of any program, and the quality record that aiorecord "
        f"keeps in {quality_log.PATH}. Only reads; works while the dataset is recorded into.",
        examples=EXAMPLES,
    )
    parser.add_argument("root", type=dataset_folder, help="the dataset's folder")
    parser.add_argument("--episodes", default=None, help="which episodes: 3,5-9 (default: the newest)")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    arguments = parser.parse_args(argv)
    try:
        chosen = None if arguments.episodes is None else EpisodeRanges(arguments.episodes)
        facts = read_facts(arguments.root)
        if arguments.json:
            say(json_text(as_json(facts, chosen)))
        else:
            show(facts, chosen)
    except AiorecordError as error:
        complain(error)
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


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


def show(facts: DatasetFacts, chosen: EpisodeRanges | None = None, console: Console | None = None) -> None:
    """Print the facts.

    Args:
        facts: from `read_facts`.
        chosen: episodes whose quality is shown; None shows the newest.
        console: where to; default standard output.
    """
    console = console or output_console()
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
    if facts.episodes and not any(episode.quality for episode in facts.episodes):
        console.print(_no_record(facts))
    elif episodes:
        console.print(_quality(episodes, console.width))
        for note in _notes(episodes):
            console.print(note)
    if len(episodes) < len(facts.episodes) and chosen is None:
        console.print(
            f"the newest {len(episodes)} of {len(facts.episodes)} episodes; --episodes=0-9 shows others"
        )
    for problem in facts.problems[:10]:
        console.print(Text(f"quality record: {plain(problem)}", style="yellow"))
    if len(facts.problems) > 10:
        console.print(Text(f"quality record: and {len(facts.problems) - 10} more problems", style="yellow"))


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
        f"{_episodes(info.total_episodes)}, {info.total_frames} frames, {spent} at {info.fps} fps",
    )
    table.add_row("size", f"{size_text(sum(facts.sizes[n] for n in ('data', 'videos', 'meta')))}: {sizes}")
    for number, (task, count) in enumerate(list(tasks.items())[:10]):
        table.add_row(
            "" if number else "tasks",
            Text(f"{plain(task) or '(none)'}  ({count} episode{'' if count == 1 else 's'})"),
        )
    if len(tasks) > 10:
        table.add_row("", f"and {len(tasks) - 10} more")
    return table


def _features(info: DatasetInfo) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("feature", "type", "shape", "codec"):
        table.add_column(name, overflow="fold")
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
        names = {"recording": "recording or prepared for it" if facts.writer else "interrupted"}
        states = [names.get(staged.state, staged.state) for staged in facts.staged]
        parts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        lines.append(f"staging: {_episodes(len(states), 'unfinished ')} ({parts}; {size})")
        # While a process records, folders that are not complete are the running episode and a prepared one.
        waiting = {"complete"} if facts.writer else {"complete", "recording"}
        counts = Counter(s.priority for s in facts.staged if s.state in waiting)
        if any(counts):
            turns = [
                f"{counts[priority]} of priority {priority}" for priority in sorted(counts, reverse=True)
            ]
            lines.append(f"saved in this order: {', then '.join(turns)}")
        if facts.writer is None:
            lines.append(f"finish them: aiorecord recover {plain(str(facts.root))}")
    return lines


def _no_record(facts: DatasetFacts) -> str:
    """Why there is no quality record to show, as far as known."""
    if facts.problems:
        return "no quality record that fits the episodes"
    return f"no quality record: other software wrote the episodes, or {quality_log.PATH} is missing"


def _quality(episodes: Sequence[EpisodeFacts], width: int) -> Table:
    """A row for each episode; a narrow terminal gets fewer columns."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    names = ["episode", "frames", "fps", "late p50", "p99", "max ms", "late", "missed", "repeated", "freeze"]
    hidden = () if width >= WIDE else ("late p50", "p99", "late", "freeze")
    hidden = hidden if width >= NARROW else (*hidden, "max ms", "repeated")
    shown = [name for name in names if name not in hidden]
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for episode in episodes:
        row = dict(zip(names, _quality_row(episode), strict=True))
        table.add_row(*(row[name] for name in shown))
    return table


def _quality_row(episode: EpisodeFacts) -> list[Text | str]:
    first: list[Text | str] = [str(episode.index), str(episode.length)]
    quality = episode.quality
    if quality is None:
        return [*first, *[""] * 8]
    late = quality.lateness
    cameras = quality.cameras.values()
    repeated = [camera.repeated for camera in cameras if camera.repeated is not None]
    freezes = [camera.longest_freeze_s for camera in cameras if camera.longest_freeze_s is not None]
    return [
        *first,
        "-" if quality.effective_fps is None else f"{quality.effective_fps:.2f}",
        *(_number(late.get(name)) for name in ("p50_ms", "p99_ms", "worst_ms", "late", "missed")),
        str(sum(repeated)) if repeated else "-",
        f"{max(freezes):.2f} s" if freezes else "-",
    ]


def _notes(episodes: Sequence[EpisodeFacts]) -> list[Text]:
    """Print the notes on episodes below the table, a line for each."""
    lines = []
    for episode in episodes:
        notes = [("no record", "dim")] if episode.quality is None else notes_of(episode.quality)
        lines += [Text.assemble(f"episode {episode.index}  ", (text, style)) for text, style in notes]
    return lines


def _episodes(count: int, kind: str = "") -> str:
    return f"{count} {kind}episode{'' if count == 1 else 's'}"


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}"
