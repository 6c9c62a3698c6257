"""The live terminal view."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..robots.policy import short
from ..session import Phase
from .consoles import PlainConsole
from .snapshot import SaveRow, Snapshot
from .text import size_text, time_text, waiting_text

SHOWN_SAVES = 8
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


class LiveView:
    """Draws snapshots in place, on a terminal.

    Drawing takes a few milliseconds of Python, so it is done between ticks, when `fits` says so.

    Args:
        keys: the keys the operator can use, as one line; empty without a keyboard.
        console: where to draw; default standard output.
    """

    def __init__(self, keys: str = "", console: Console | None = None) -> None:
        self._keys = keys
        self._console = console or PlainConsole(file=sys.stdout)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, screen=False)
        self._cost_s = 0.005

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def draw(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        started_s = time.perf_counter()
        self._live.update(render(snapshot, self._keys), refresh=True)
        self._cost_s = max(time.perf_counter() - started_s, 0.9 * self._cost_s)

    def fits(self, slack_s: float) -> bool:
        """Whether a drawing fits twice into the time, by the dearest of the recent ones.

        A dear one is forgotten bit by bit, also while nothing fits: else the view would stand still.
        """
        if slack_s > 2 * self._cost_s:
            return True
        self._cost_s *= 0.9
        return False

    def line(self, text: str) -> None:
        """Print a line above the view."""
        self._console.print(text, markup=False, highlight=False)


def render(snapshot: Snapshot, keys: str = "") -> RenderableType:
    """The whole view of one snapshot."""
    parts: list[RenderableType] = [_head(snapshot)]
    parts += [Text(f"the last episode is flagged: {flag}", style="bold red") for flag in snapshot.flags]
    parts += [Text(f"this episode is flagged: {flag}", style="bold red") for flag in snapshot.running_flags]
    if snapshot.flags and keys:
        parts.append(Text("← records it again", style="red"))
    if snapshot.phase in (Phase.RECORDING, Phase.RESETTING, Phase.CONNECTING):
        parts.append(_rates(snapshot))
        if snapshot.cameras:
            parts.append(_cameras(snapshot))
        if snapshot.sources:
            parts.append(_sources(snapshot))
    if snapshot.saves:
        parts.append(_saves(snapshot))
    parts.append(_foot(snapshot))
    if snapshot.disk_warning is not None:
        parts.append(Text(f"disk: {snapshot.disk_warning}", style="bold red"))
    parts += [Text(message, style="yellow") for message in snapshot.messages]
    if keys and snapshot.phase in (Phase.RECORDING, Phase.RESETTING):
        parts.append(Text(keys, style="dim"))
    elif keys and snapshot.phase is Phase.WAITING:
        parts.append(Text("q stop", style="dim"))
    elif keys and snapshot.phase is Phase.DRAINING:
        parts.append(Text("q leave the rest in staging", style="dim"))
    return Panel(Group(*parts), title="aiorecord", title_align="left", border_style="dim")


def _head(s: Snapshot) -> RenderableType:
    head = Text.assemble((f" {s.phase.value.upper()} ", _PHASE_STYLE[s.phase]), "  ")
    if s.phase is Phase.RECORDING:
        head.append(f"episode {s.number} of {s.total}", style="bold")
    elif s.phase is Phase.RESETTING:
        head.append(f"put the scene back; next: episode {s.number} of {s.total}", style="bold")
    elif s.phase is Phase.WAITING:
        head.append(waiting_text(s.number, s.backlog_bytes, s.wait_s), style="bold")
    if s.seconds_left is not None:
        head.append(f"   {s.seconds_left:4.0f} s left")
    if s.task:
        head.append(f"   {s.task}", style="italic")
    return head


def _rates(s: Snapshot) -> RenderableType:
    rate = "-" if s.rate is None else f"{s.rate:.1f}"
    style = "" if s.rate is None or s.rate > 0.98 * s.fps else "bold red"
    late_style = "bold red" if s.late_ms > 5 else ""
    return Text.assemble(
        (f"{rate} fps", style),
        f" of {s.fps}   worst of the last ticks ",
        (f"{s.late_ms:.1f} ms late", late_style),
        f"   late ticks {s.late_ticks}   frames {s.frames}",
    )


def _cameras(s: Snapshot) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in (("camera", "left"), ("captured", "right"), ("queued", "right"), ("", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("spilled to disk", "late", "repeated", "stale", "lost"):
        table.add_column(name, justify="right")
    table.add_column("")
    for c in s.cameras:
        lost = Text(_nonzero(c.lost), style="bold red")
        error = Text(c.error or "", style="bold red")
        counts = [_nonzero(count) for count in (c.spilled, c.late, c.repeated, c.stale)]
        table.add_row(c.name, str(c.captured), str(c.queued), size_text(c.queued_bytes), *counts, lost, error)
    return table


def _sources(s: Snapshot) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("source")
    for name in ("failures", "retried", "held", "lost", "connected again"):
        table.add_column(name, justify="right")
    table.add_column("last failure")
    for source in s.sources:
        style = "" if source.held_s is None else "bold red"
        counts = (source.errors, source.retries, source.held, source.lost, source.reconnects)
        failing, failure = Text(short(source.source), style=style), Text(source.last_error or "")
        table.add_row(failing, *(_nonzero(count) for count in counts), failure)
    return table


def _nonzero(count: int | None) -> str:
    return str(count) if count else ""


def _saves(s: Snapshot) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("saving")
    table.add_column("frames", justify="right")
    table.add_column("stage")
    table.add_column("", width=24)
    for save in s.saves[:SHOWN_SAVES]:
        stage = Text(save.error, style="bold red") if save.error else Text(_stage(save))
        bar = ProgressBar(total=1, completed=save.progress, width=24)
        table.add_row(save.label, str(save.frames), stage, bar)
    if len(s.saves) > SHOWN_SAVES:
        table.add_row(f"and {len(s.saves) - SHOWN_SAVES} more", "", "", "")
    return table


def _stage(save: SaveRow) -> str:
    return f"{save.text} (can be taken back)" if save.held else save.text


def _foot(s: Snapshot) -> RenderableType:
    episodes = "1 episode" if s.episodes == 1 else f"{s.episodes} episodes"
    parts = [f"{episodes} in the dataset", f"disk {size_text(s.free)} free"]
    if s.minutes_left is not None:
        parts[-1] += f" = {time_text(s.minutes_left * 60)} of recording"
    if s.backlog_frames:
        rest = f"{s.backlog_frames} frames to encode"
        if s.backlog_s is not None:
            rest += f", about {time_text(s.backlog_s)}"
        parts.append(rest)
    return Text("   ".join(parts), style="dim")
