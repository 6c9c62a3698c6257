"""Shows a recorder's status in a notebook, as HTML."""

from __future__ import annotations

import asyncio
import contextlib
import html
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ...capture.frames import CameraStatus
from ...encoded_image import EncodedImage
from ...errors import FrameError, StateError
from ...media.jpeg import decode_image
from ...options import check_number
from ...printable import get_logger, plain
from ...recording.recorder import Recorder
from ...robots.guarding.guard_pair import HeldFrames
from ...robots.guarding.source_policy import SourceStatus, short
from ...robots.protocols import Robot, Teleoperator
from ...saving.handle import EpisodeSave
from ...session import Session
from ...system.tasks import beside
from ...system.threads import Threads
from ..snapshot import SOURCE_COLUMNS, camera_error, failed_sources, source_counts, stage_text
from ..thumbnails import data_url, thumbnail
from ..units import size_text

logger = get_logger(__name__)

KEPT_SAVES = 6
"""How many of the newest finished saves stay in the view."""

RED = "color:#b00"

CAMERA_COLUMNS = (
    *("camera", "captured", "queued", "written", "spilled", "late", "repeated", "stale", "lost"),
    "",
)


class StatusView:
    """Renders a recorder's current status when a notebook displays it.

    ``StatusView(recorder)`` as the last expression of a cell shows it once. While a cell runs, it is updated
    in::

        async with aiorecord.StatusView(recorder).live():
            save = await recorder.record(robot, teleop, seconds=10, task="Pick up the cube")
            await save

    Args:
        recorder: any recorder, or a session: then its phase and its robot and teleoperator are shown too.
        devices: robots and teleoperators made by `aiorecord.guarded`, whose failures are shown.
    """

    def __init__(self, recorder: Recorder | Session, *devices: Robot | Teleoperator) -> None:
        self._session = recorder if isinstance(recorder, Session) else None
        if isinstance(recorder, Session):
            devices = (recorder.robot, recorder.teleop, *devices)
            recorder = recorder.recorder
        self._recorder = recorder
        self._held = HeldFrames(*devices) if devices else None
        self._saves: deque[EpisodeSave] = deque(maxlen=KEPT_SAVES)

    @asynccontextmanager
    async def live(self, refresh_s: float = 0.5) -> AsyncIterator[StatusView]:
        """Show it below the cell, update it while the block runs, and once more at its end.

        A view that fails is stopped with a warning; the recording goes on.

        Args:
            refresh_s: seconds between two updates, above 0.

        Raises:
            ConfigError: `refresh_s` is not a positive number.
            StateError: there is no notebook: IPython is not installed.
        """
        check_number("refresh_s", refresh_s, above=0)
        try:
            from IPython.display import display
        except ImportError as error:
            raise StateError(
                "A live view is shown by a notebook, and IPython is not installed here. Print "
                "recorder.get_status(), or read recorder.events()."
            ) from error
        threads = Threads(1, "aiorecord-view")
        try:
            handle = display(await self._page(threads), display_id=True)
            if handle is None:  # IPython without a front end, which updates nothing
                yield self
                return
            async with beside(self._refresh(handle, threads, refresh_s), "aiorecord-notebook-view"):
                yield self
            await self._show(handle, threads)
        finally:
            await threads.aclose()

    async def _refresh(self, handle: Any, threads: Threads, refresh_s: float) -> None:
        shows = True
        while shows:
            await asyncio.sleep(refresh_s)
            shows = await self._show(handle, threads)

    async def _show(self, handle: Any, threads: Threads) -> bool:
        """Update the view; False when the notebook does not accept it any more."""
        try:
            handle.update(await self._page(threads))
        except Exception as error:  # noqa: BLE001 - whatever a front end raises costs the view, not the episode
            logger.warning("The notebook's view was stopped: %s", error)
            return False
        return True

    async def _page(self, threads: Threads) -> _Page:
        """The status with the newest pictures; their JPEGs are made in a thread."""
        return _Page(self._html(await threads.run(_encoded, self._thumbnails())))

    def _thumbnails(self) -> dict[str, NDArray[Any] | EncodedImage]:
        """Small copies of the newest images; encoded ones as they are, to be decoded in a thread."""
        images = self._recorder.newest_images
        return {k: i if isinstance(i, EncodedImage) else thumbnail(i) for k, i in images.items()}

    def _repr_html_(self) -> str:
        return self._html(_encoded(self._thumbnails()))

    def _html(self, pictures: Mapping[str, str]) -> str:
        status = self._recorder.get_status()
        head = (
            f"<b>{escape(self._recorder.repo_id)}</b> &middot; {status.episodes} episodes, "
            f"{status.frames} frames committed &middot; <code>{escape(str(status.root))}</code>"
        )
        if self._session is not None:
            machine, plan = self._session.machine, self._session.plan
            number = f"episode {machine.number} of {plan.num_episodes}"
            head += f"<p><b>{machine.phase}</b> &middot; {number} &middot; {escape(plan.task)}</p>"
        pace = _pace(status.fps, self._recorder.fps, status.lateness, is_running=status.episode is not None)
        live = f"<p>last episode{pace}</p>" if pace else ""
        if status.episode is not None:
            rows = "".join(_camera_row(key, c) for key, c in status.episode.cameras.items())
            flags = "".join(f"<p style='{RED}'>flagged: {escape(flag)}</p>" for flag in status.flags)
            cameras = _table(CAMERA_COLUMNS, rows) if rows else ""
            live = f"<p>recording: {status.episode.frames} frames{pace}</p>{flags}{cameras}"
        sources = "" if self._held is None else _sources(self._held.statuses())
        for save in status.pending:
            if save not in self._saves:
                self._saves.append(save)
        saves = "".join(map(_save_row, self._saves))
        pending = _table(("episode", "stage", "", ""), saves) if saves else ""
        error = status.saves.get("last_error")
        problem = f"<p style='{RED}'>{escape(str(error))}</p>" if error else ""
        return f"<div>{head}{_images(pictures)}{live}{sources}{pending}{problem}</div>"


@dataclass(frozen=True)
class _Page:
    html: str

    def _repr_html_(self) -> str:
        return self.html


def _images(pictures: Mapping[str, str]) -> str:
    figures = "".join(
        f"<figure style='margin:0 8px 0 0'><img src='{url}' alt='{escape(short(key))}'>"
        f"<figcaption>{escape(short(key))}</figcaption></figure>"
        for key, url in pictures.items()
    )
    return f"<div style='display:flex;flex-wrap:wrap;margin:8px 0'>{figures}</div>" if figures else ""


def _encoded(small: Mapping[str, NDArray[Any] | EncodedImage]) -> dict[str, str]:
    found = {}
    for key, image in small.items():
        with contextlib.suppress(FrameError):  # an image that cannot be decoded is not shown
            pixels = thumbnail(decode_image(image)) if isinstance(image, EncodedImage) else image
            found[key] = data_url(pixels)
    return found


def _pace(
    rate: float | None, fps: int, lateness: Mapping[str, float | int] | None, *, is_running: bool
) -> str:
    """The rate of the frames, and how late the ticks were."""
    parts = "" if rate is None else f" &middot; {rate:.1f} of {fps} fps"
    if lateness is None or not lateness["ticks"]:
        return parts
    bad = f"{lateness['late']} late, {lateness['missed']} missed"
    if lateness["late"] or lateness["missed"]:
        bad = f"<span style='{RED}'>{bad}</span>"
    worst, recent = lateness["worst_ms"], lateness["recent_ms"]
    newest = f", {recent:.1f} ms in the newest ticks" if is_running else ""
    return f"{parts} &middot; late by {worst:.1f} ms at worst{newest} &middot; {bad}"


def escape(text: str) -> str:
    """A text for HTML, as plain text."""
    return html.escape(plain(text))


def _table(names: Iterable[str], rows: str) -> str:
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{rows}</table>"


def _camera_row(key: str, c: CameraStatus) -> str:
    error = camera_error(c)
    counts = (c.spilled, c.late, c.repeated, "" if c.stale is None else c.stale, c.lost)
    cells = (short(key), c.captured, c.queued_frames, size_text(c.bytes_written), *counts)
    return _row(cells, f"<span style='{RED}'>{escape(error)}</span>" if error else "")


def _sources(statuses: Iterable[SourceStatus]) -> str:
    """The sources that have failed, as in the terminal; those held now are highlighted."""
    rows = ""
    for source in failed_sources(statuses):
        state = "" if source.held_s is None else f"<b style='{RED}'>held for {source.held_s:.1f} s</b>"
        rows += _row((short(source.source), *source_counts(source)), state, escape(source.last_error or ""))
    if not rows:
        return "<p>robot and teleoperator: no failures</p>"
    return _table((*SOURCE_COLUMNS, "now", "last failure"), rows)


def _row(cells: Iterable[object], *html: str) -> str:
    texts = [escape(str(cell)) for cell in cells]
    return f"<tr>{''.join(f'<td>{text}</td>' for text in (*texts, *html))}</tr>"


def _save_row(save: EpisodeSave) -> str:
    width = round(100 * (1.0 if save.stage == "committed" else save.progress))
    bar = (
        "<div style='width:160px;height:10px;background:#8884;border-radius:5px'>"
        f"<div style='width:{width}%;height:10px;background:#2a8;border-radius:5px'></div></div>"
    )
    flags = "".join(f"<div style='{RED}'>flagged: {escape(flag)}</div>" for flag in save.flags)
    index = None if save.outcome is None else save.outcome.episode_index
    name = escape(save.episode_id if index is None else f"episode {index}")
    stage = stage_text(save.stage, save.priority)
    return f"<tr><td>{name}</td><td>{stage}</td><td>{bar}</td><td>{flags}</td></tr>"
