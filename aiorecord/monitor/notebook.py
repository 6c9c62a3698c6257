"""The notebook view: a recorder's status as HTML."""

from __future__ import annotations

from html import escape

from ..recorder import Recorder
from ..saves import EpisodeSave
from .text import size_text


class StatusView:
    """Renders a recorder's present status when a notebook displays it.

    ``StatusView(recorder)`` as the last expression of a cell shows it once; with
    ``IPython.display.display(view, display_id=...)`` it can be shown again in place.

    Args:
        recorder: any recorder.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def _repr_html_(self) -> str:
        status = self._recorder.get_status()
        head = (
            f"<b>{escape(self._recorder.repo_id)}</b> &middot; {status.episodes} episodes, "
            f"{status.frames} frames committed &middot; <code>{escape(str(status.root))}</code>"
        )
        live = ""
        if status.episode is not None:
            rows = "".join(
                f"<tr><td>{escape(key)}</td><td>{c.captured}</td><td>{c.queued_frames}</td>"
                f"<td>{size_text(c.bytes_written)}</td><td>{c.spilled}</td><td>{c.late}</td>"
                f"<td>{c.repeated}</td><td>{c.lost}</td></tr>"
                for key, c in status.episode.cameras.items()
            )
            live = (
                f"<p>recording: {status.episode.frames} frames</p><table><tr><th>camera</th><th>captured</th>"
                f"<th>queued</th><th>written</th><th>spilled</th><th>late</th><th>repeated</th><th>lost</th></tr>{rows}</table>"
            )
        saves = "".join(_save_row(save) for save in status.pending)
        pending = f"<table><tr><th>saving</th><th>stage</th><th></th></tr>{saves}</table>" if saves else ""
        error = status.saves.get("last_error")
        problem = f"<p style='color:#b00'>{escape(str(error))}</p>" if error else ""
        return f"<div>{head}{live}{pending}{problem}</div>"


def _save_row(save: EpisodeSave) -> str:
    width = round(100 * save.progress)
    bar = (
        "<div style='width:160px;height:10px;background:#8884;border-radius:5px'>"
        f"<div style='width:{width}%;height:10px;background:#2a8;border-radius:5px'></div></div>"
    )
    return f"<tr><td>{escape(save.episode_id)}</td><td>{save.stage.value}</td><td>{bar}</td></tr>"
