"""Lays out a snapshot as lines of the live view, for the size of the terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ..capture.frames import CameraStatus
from ..robots.guarding.source_policy import short
from ..session import Phase
from .snapshot import (
    SOURCE_COLUMNS,
    SaveRow,
    Snapshot,
    Take,
    camera_counts,
    camera_error,
    source_counts,
)
from .terminal_layout import Section, bar, cut, fit, flow, table, wrapped
from .units import size_text, time_text

SHOWN_SAVES = 8
ROOMY_ROWS = 18
"""With fewer rows, tables have no headings, and only the newest message is shown."""
WORST_MS = 5.0
"""Lateness above this is highlighted."""

_PHASE_STYLE = {
    Phase.CONNECTING: "bold yellow",
    Phase.RECORDING: "bold white on red",
    Phase.RESETTING: "bold black on yellow",
    Phase.WAITING: "bold black on cyan",
    Phase.DRAINING: "bold black on cyan",
    Phase.PACKING: "bold black on cyan",
    Phase.UPLOADING: "bold black on cyan",
    Phase.DONE: "bold green",
}
_BAR_STYLE = {Phase.RECORDING: "red", Phase.RESETTING: "yellow"}

# Ranks of the screen's sections: the lowest is left out first if there is no room.
_MESSAGES, _TASK, _FOOT, _CAMERAS, _SAVES, _FACTS, _SOURCES, _DISK, _FLAGS, _BAR, _HEAD, _KEYS = range(12)


def screen(s: Snapshot, keys: bool, width: int, height: int) -> list[Text]:
    """The lines of the view, none longer than `width`, `height` at most. The last one is for the keys.

    Args:
        s: what is shown.
        keys: there is a keyboard.
        width: columns.
        height: rows.
    """
    roomy = height >= ROOMY_ROWS
    sections = [Section(_head(s, keys, width), _HEAD)]
    if not s.foreground:
        sections += _of_phase(s, width, roomy)
    if s.saves:
        sections.append(Section(_saves(s.saves, width, roomy), _SAVES, least=2))
    sections.append(Section(_foot(s, width), _FOOT))
    if (warning := s.disk_warning()) is not None:
        text = Text(f"disk: {warning}", style="bold red")
        sections.append(Section(wrapped(text, width, 3 if roomy else 2), _DISK))
    messages = s.messages if roomy else s.messages[-1:]
    sections.append(Section([cut(Text(message, style="yellow"), width) for message in messages], _MESSAGES))
    sections.append(Section(_keys(s, keys, width), _KEYS))
    return fit(sections, height)


def _of_phase(s: Snapshot, width: int, roomy: bool) -> list[Section]:
    """The sections shown during an episode and a reset."""
    sections = []
    if s.task and s.phase in (Phase.RECORDING, Phase.RESETTING):
        sections.append(Section([cut(Text(s.task, style="italic"), width)], _TASK))
    if s.phase_s is not None and s.seconds_left is not None:
        sections.append(Section([_progress(s, width)], _BAR))
    if s.phase is Phase.RESETTING:
        sections.append(Section(_next(s, width), _FACTS))
        if s.last is not None:
            sections.append(Section(_last(s.last, width), _FACTS))
    sections.append(Section(_flags(s, width, 2 if roomy else 1), _FLAGS, least=2))
    if s.phase is Phase.RECORDING:
        sections.append(Section(_pace(s, width), _FACTS))
        if s.cameras:
            sections.append(Section(_cameras(s, width, roomy), _CAMERAS, least=2))
    if s.sources and s.phase in (Phase.RECORDING, Phase.RESETTING):
        sections.append(Section(_sources(s, width, roomy), _SOURCES, least=2))
    return sections


def _head(s: Snapshot, keys: bool, width: int) -> list[Text]:
    phase = Text(f" {s.phase.value.upper()} ", style=_PHASE_STYLE[s.phase])
    facts: list[Text | str] = []
    if s.foreground:
        phase = Text(" SAVING ", style=_PHASE_STYLE[Phase.DRAINING])
        facts = [Text("in the foreground: the next take waits", style="bold")]
    elif s.phase is Phase.RECORDING:
        facts = [Text(part, style="bold") for part in s.coming]
    elif s.phase is Phase.RESETTING:
        what = "put the scene back"
        if s.over:
            again = keys and s.last is not None and s.last.can_be_taken_back
            what = "the last take can still be recorded again" if again else "the last take is over"
        facts = [Text(what, style="bold")]
    elif s.phase is Phase.WAITING:
        facts = list(wrapped(Text(s.waiting_text(), style="bold"), width, 3))
    elif s.phase is Phase.DRAINING:
        count = len(s.saves)
        what = "nothing waits" if not count else f"{count} episode{'s' * (count > 1)} to go"
        if s.backlog.frames and s.backlog.seconds is not None:
            what += f", about {time_text(s.backlog.seconds)}"
        facts = [Text(what, style="bold")]
    elif s.phase is Phase.PACKING:
        facts = ["merging small files"]
    elif s.phase is Phase.UPLOADING:
        facts = ["the dataset is complete on this disk"]
    return flow([phase, *facts], width)


def _progress(s: Snapshot, width: int) -> Text:
    assert s.phase_s is not None
    assert s.seconds_left is not None
    of = f" of {time_text(s.phase_s)}" if width >= 40 else ""
    left = f"{time_text(s.seconds_left)} left{of}"
    # As wide as the text at the end of the phase, so that the bar's length does not change with every digit.
    room = max(len(left), len(f"{time_text(s.phase_s)} left{of}"))
    share = 1 - s.seconds_left / s.phase_s if s.phase_s else 1.0
    style = _BAR_STYLE.get(s.phase, "cyan")
    return cut(Text.assemble(bar(share, max(4, min(width, 100) - room - 2), style), "  ", left), width)


def _pace(s: Snapshot, width: int) -> list[Text]:
    if s.rate is None:  # no tick so far
        return flow([f"{s.frames} frames", f"{s.fps} fps wanted"], width)
    rate_style = "" if s.rate > 0.98 * s.fps else "bold red"
    facts = [
        Text(f"{s.frames} frames"),
        Text.assemble((f"{s.rate:.1f} fps", rate_style), f" of {s.fps}"),
        *_lateness(s.late_ms, s.late_ticks, 0),
    ]
    return flow(facts, width)


def _lateness(worst_ms: float, late: int, missed: int) -> list[Text]:
    facts = [Text(f"at worst {worst_ms:.1f} ms late", style="bold red" if worst_ms > WORST_MS else "")]
    ticks = "late tick" if late == 1 else "late ticks"
    facts += [Text(f"{count} {what}") for count, what in ((late, ticks), (missed, "missed")) if count]
    return facts


def _next(s: Snapshot, width: int) -> list[Text]:
    episode, take = s.coming
    facts = [episode, take]
    if s.again:
        facts = [f"{episode} once more", take]
    elif s.over:
        facts = ["the end: all takes are recorded"]
    return flow([Text.assemble(("next  ", "dim"), facts[0]), *facts[1:]], width)


def _last(last: Take, width: int) -> list[Text]:
    fps = [] if last.fps is None else [Text(f"{last.fps:.1f} fps")]
    facts = [
        Text.assemble(("last  ", "dim"), last.name),
        Text(f"{last.frames} frames in {last.duration_s:.1f} s"),
        *fps,
        *_lateness(last.worst_ms, last.late_ticks, last.missed),
    ]
    lines = flow(facts, width)
    for problem in last.problems:
        lines += wrapped(Text(problem, style="bold yellow"), width, 2)
    return lines


def _flags(s: Snapshot, width: int, most: int) -> list[Text]:
    texts = [f"the last take is flagged: {flag}" for flag in s.flags]
    texts += [f"this episode is flagged: {flag}" for flag in s.running_flags]
    return [line for text in texts for line in wrapped(Text(text, style="bold red"), width, most)]


def _cameras(s: Snapshot, width: int, roomy: bool) -> list[Text]:
    heads = ("camera", "captured", "queued", "", "spilled to disk", "repeated", "stale", "lost", "")
    captured = any(c.captured != s.frames for c in s.cameras.values())  # otherwise shown elsewhere
    rows = [
        [
            Text(name),
            Text(str(c.captured) if captured else ""),
            Text(str(c.queued_frames)),
            Text(size_text(c.queued_bytes) if c.queued_bytes else ""),
            *(_nonzero(count) for count in (c.spilled, c.repeated, c.stale)),
            Text(str(c.lost) if c.lost else "", style="bold red"),
            Text(camera_error(c), style="bold red"),
        ]
        for name, c in s.cameras.items()
    ]
    lines = table(heads, rows, [False, *[True] * 7, False], width) if roomy else None
    return lines or [_camera(name, c, width) for name, c in s.cameras.items()]


def _camera(name: str, c: CameraStatus, width: int) -> Text:
    """A camera in one line, for narrow terminals."""
    what = f"{c.queued_frames} queued"
    if counts := camera_counts(c):
        what += f", {counts}"
    error = camera_error(c)
    style = "bold red" if c.lost or error else ""
    return cut(Text.assemble(name, "  ", (f"{what}  {error}".rstrip(), style)), width)


def _sources(s: Snapshot, width: int, roomy: bool) -> list[Text]:
    rows, compact = [], []
    for source in s.sources:
        name = Text(short(source.source), style="" if source.held_s is None else "bold red")
        error = source.last_error or ""
        rows.append([name, *map(_nonzero, source_counts(source)), Text(error)])
        facts = f"  {source.errors} failures, held {source.held} times  {error}"
        compact.append(cut(Text.assemble(name, facts), width))
    heads = (*SOURCE_COLUMNS, "last failure")
    lines = table(heads, rows, [False, *[True] * 5, False], width) if roomy and width >= 70 else None
    return lines or compact


def _nonzero(count: int | None) -> Text:
    return Text(str(count) if count else "")


def _saves(saves: Sequence[SaveRow], width: int, roomy: bool) -> list[Text]:
    shown = saves[:SHOWN_SAVES]
    rows = []
    for save in shown:
        progress = (bar(save.progress, 24 if width >= 90 else 12), Text(f"{save.progress:.0%}"))
        rows.append([Text(save.label), Text(str(save.frames)), Text(_stage(save)), *progress])
    lines = None
    if roomy and width >= 58 and not any(save.error for save in shown):
        lines = table(("saving", "frames", "stage", "", ""), rows, [False, True, False, False, True], width)
    lines = lines or [_save(save, width) for save in shown]
    if len(saves) > SHOWN_SAVES:
        lines.append(Text(f"and {len(saves) - SHOWN_SAVES} more", style="dim"))
    return lines


def _save(save: SaveRow, width: int) -> Text:
    """A save in one line, for narrow terminals and for errors."""
    if save.error:
        return cut(Text.assemble(f"{save.label}  ", (save.error, "bold red")), width)
    share = f" {save.progress:.0%}" if save.progress else ""
    return cut(Text(f"saving {save.label}  {save.text}{share}"), width)


def _stage(save: SaveRow) -> str:
    return f"{save.text} (can be taken back)" if save.held else save.text


def _foot(s: Snapshot, width: int) -> list[Text]:
    episodes = "1 episode" if s.episodes == 1 else f"{s.episodes} episodes"
    disk = f"disk {size_text(s.disk.free)} free"
    if s.disk.seconds_left is not None:
        disk += f" = {time_text(s.disk.seconds_left)} of recording"
    parts = [f"{episodes} in the dataset", disk]
    # While only saves go on, the time is in the heading.
    if (backlog := s.backlog_text(with_time=s.phase is not Phase.DRAINING)) is not None:
        parts.append(backlog)
    return flow([Text(part, style="dim") for part in parts], width)


_END = ("→ n", "end the episode", "end")
_AGAIN = ("← r", "record it again", "again")
_STOP = ("Esc q", "stop", "stop")


def key_hints(s: Snapshot) -> list[tuple[str, str, str]]:
    """What the keys do in this phase: the keys, what they do, and the same in one word."""
    if s.stopping and s.phase in (Phase.RECORDING, Phase.RESETTING, Phase.WAITING):
        return []
    if s.foreground:
        return [_STOP]
    if s.phase is Phase.RECORDING:
        return [_END, _AGAIN, _STOP]
    if s.phase is Phase.RESETTING:
        go_on = ("→ n", "end now", "end") if s.over else ("→ n", "begin now", "begin")
        back = ("← r", "take the last one back", "take back")
        return [go_on, *([back] if s.last is not None and s.last.can_be_taken_back else []), _STOP]
    if s.phase is Phase.WAITING:
        return [_STOP]
    if s.phase is Phase.DRAINING:
        return [("q", "leave the rest in staging, safe on disk", "leave the rest")]
    if s.phase is Phase.UPLOADING:
        return [("q", "do not upload", "do not upload")]
    return []


def _keys(s: Snapshot, keys: bool, width: int) -> list[Text]:
    hints = key_hints(s)
    if not keys:
        hints = [("Ctrl-C", says, word) for key, says, word in hints if key.endswith("q")]
    long = [f"{key} {says}" for key, says, _ in hints]
    brief = [f"{key} {word}" for key, _, word in hints]
    briefest = [f"{key.replace('Esc ', '')[:1] if key != 'Ctrl-C' else key} {word}" for key, _, word in hints]
    for texts, gap in ((long, "   "), (brief, "   "), (briefest, "  ")):
        line = cut(Text(gap.join(texts), style="dim"), width)
        if not line.plain.endswith("…"):
            break
    return [line] if hints else []
