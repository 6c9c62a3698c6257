"""The notebook view: a recorder's status as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable

from ..capture.episode import CameraStatus
from ..printable import plain
from ..recorder import Recorder
from ..robots.base import Robot, Teleoperator
from ..robots.guards import HeldFrames
from ..robots.policy import SourceStatus, short
from ..saving.saves import EpisodeSave
from ..session import Session
from .snapshot import stage_text
from .text import size_text

CAMERA_COLUMNS = (
    *("camera", "captured", "queued", "written", "spilled", "late", "repeated", "stale", "lost"),
    "",
)


class StatusView:
    """Renders a recorder's present status when a notebook displays it.

    ``StatusView(recorder)`` as the last expression of a cell shows it once; with
    ``IPython.display.display(view, display_id=...)`` it can be shown again in place.

    Args:
        recorder: any recorder, or a session: then its robot and teleoperator are shown too.
        devices: robots and teleoperators made by `aiorecord.guarded`, whose failures are shown.
    """

    def __init__(self, recorder: Recorder | Session, *devices: Robot | Teleoperator) -> None:
        if isinstance(recorder, Session):
            devices = (recorder.robot, recorder.teleop, *devices)
            recorder = recorder.recorder
        self._recorder = recorder
        self._held = HeldFrames.of(*devices) if devices else None

    def _repr_html_(self) -> str:
        status = self._recorder.get_status()
        head = (
            f"<b>{escape(self._recorder.repo_id)}</b> &middot; {status.episodes} episodes, "
            f"{status.frames} frames committed &middot; <code>{escape(str(status.root))}</code>"
        )
        live = ""
        if status.episode is not None:
            rows = "".join(_camera_row(key, c) for key, c in status.episode.cameras.items())
            flags = "".join(f"<p style='color:#b00'>flagged: {escape(flag)}</p>" for flag in status.flags)
            live = f"<p>recording: {status.episode.frames} frames</p>{flags}{_table(CAMERA_COLUMNS, rows)}"
        sources = "" if self._held is None else _sources(self._held.statuses())
        saves = "".join(_save_row(save) for save in status.pending)
        pending = _table(("saving", "stage", ""), saves) if saves else ""
        error = status.saves.get("last_error")
        problem = f"<p style='color:#b00'>{escape(str(error))}</p>" if error else ""
        return f"<div>{head}{live}{sources}{pending}{problem}</div>"


def escape(text: str) -> str:
    """A text for HTML, as plain text."""
    return html.escape(plain(text))


def _table(names: Iterable[str], rows: str) -> str:
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{rows}</table>"


def _camera_row(key: str, c: CameraStatus) -> str:
    error = c.error or c.encoder_error
    counts = (c.spilled, c.late, c.repeated, "" if c.stale is None else c.stale, c.lost)
    cells = (short(key), c.captured, c.queued_frames, size_text(c.bytes_written), *counts)
    return _row(cells, "" if error is None else f"<span style='color:#b00'>{escape(str(error))}</span>")


def _sources(statuses: Iterable[SourceStatus]) -> str:
    """Those that have failed, as in the terminal; those that are held now stand out."""
    rows = ""
    for source in statuses:
        if not source.errors and not source.held:
            continue
        state = "" if source.held_s is None else f"<b style='color:#b00'>held for {source.held_s:.1f} s</b>"
        counts = (source.errors, source.retries, source.held, source.lost, source.reconnects)
        rows += _row((short(source.source), *counts), state, escape(source.last_error or ""))
    if not rows:
        return "<p>robot and teleoperator: no failures</p>"
    names = ("source", "failures", "retried", "held", "lost", "connected again", "now", "last failure")
    return _table(names, rows)


def _row(cells: Iterable[object], *html: str) -> str:
    texts = [escape(str(cell)) for cell in cells]
    return f"<tr>{''.join(f'<td>{text}</td>' for text in (*texts, *html))}</tr>"


def _save_row(save: EpisodeSave) -> str:
    width = round(100 * save.progress)
    bar = (
        "<div style='width:160px;height:10px;background:#8884;border-radius:5px'>"
        f"<div style='width:{width}%;height:10px;background:#2a8;border-radius:5px'></div></div>"
    )
    stage = stage_text(save.stage) + (f", priority {save.priority}" if save.priority else "")
    return f"<tr><td>{escape(save.episode_id)}</td><td>{stage}</td><td>{bar}</td></tr>"
