"""Locates the episodes among the frames of a video file, and reports what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...dataset.format.reader_limits import TOLERANCE_S, refused_frames
from .data_file import timestamp_tolerance
from .metadata import Place

type Report = Callable[..., None]
"""Called with a finding: its code, its message, and details by name."""


@dataclass(frozen=True)
class Span:
    """The position of an episode's frames in the file."""

    episode: int
    length: int
    start_s: float
    first: int
    """Number of its first frame in display order; -1 if not all frames exist."""


def locate(
    places: Iterable[tuple[int, int, Place]], times: NDArray[np.float64], fps: int, report: Report
) -> list[Span]:
    """Find each episode's frames.

    Args:
        places: index, length and place of the episodes.
        times: when each frame of the file is shown, in seconds, increasing.
        fps: frames per second.
        report: called with the code, message and details of each problem.

    Returns:
        The episodes in the order of the file.
    """
    spans: list[Span] = []
    covered = np.zeros(len(times), bool)
    before = 0.0
    for episode, length, place in sorted(places, key=lambda item: (item[2].start_s, item[0])):
        span = _span(times, episode, length, place, fps, report)
        if span.first >= 0:
            if covered[span.first : span.first + length].any():
                message = f"It begins at {place.start_s:.4f} s, the episode before it ends at {before:.4f} s."
                report("video-overlap", message, episode=episode)
                span = replace(span, first=-1)
            else:
                covered[span.first : span.first + length] = True
        before = max(before, place.end_s)
        spans.append(span)
        if span.first >= 0:
            _refused(span, times[span.first : span.first + length], fps, report)
    unused = int((~covered).sum())
    if unused and all(span.first >= 0 for span in spans):
        at = int(np.argmax(~covered))
        message = f"{unused} of {len(times)} frames belong to no episode, from {times[at]:.3f} s on."
        report("video-unused-frames", message)
    return spans


def _refused(span: Span, shown_s: NDArray[np.float64], fps: int, report: Report) -> None:
    """Predict for which frames lerobot finds no frame close enough to the requested time."""
    timestamps = (np.arange(span.length) / fps).astype(np.float32)
    refused = np.flatnonzero(refused_frames(span.start_s, shown_s, timestamps))
    if len(refused):
        report(
            "video-frames-refused",
            f"lerobot cannot read {len(refused)} of its {span.length} frames: it compares times as 32-bit "
            f"numbers, within {TOLERANCE_S:g} s, the first is at {shown_s[refused[0]]:.3f} s.",
            episode=span.episode,
            first_frame=int(refused[0]),
            last_frame=int(refused[-1]),
        )


def _span(
    times: NDArray[np.float64], episode: int, length: int, place: Place, fps: int, report: Report
) -> Span:
    missing = Span(episode, length, place.start_s, -1)
    if not (np.isfinite([place.start_s, place.end_s]).all() and 0 <= place.start_s <= place.end_s):
        message = f"Its place is from {place.start_s} s to {place.end_s} s."
        report("video-frames-missing", message, episode=episode)
        return missing
    half = 0.5 / fps
    first = int(np.searchsorted(times, place.start_s - half))
    end = int(np.searchsorted(times, place.end_s - half))
    found = times[first : first + max(0, min(length, len(times)))]
    wanted = place.start_s + np.arange(len(found)) / fps
    reached = int(np.argmin(good)) if not (good := _close(found, wanted)).all() else len(found)
    if reached >= length and end - first == length:
        return replace(missing, first=first)
    has = end - first
    claims = round((place.end_s - place.start_s) * fps)
    if claims == has < length:
        report(
            "lerobot-frames-dropped",
            f"It has {has} frames for {length} rows: LeRobot's streaming encoder dropped {length - has} "
            "of them, and it is unknown which.",
            episode=episode,
            first_frame=has,
            last_frame=length - 1,
        )
    elif has > length:
        message = f"Its place in the file holds {has} frames for {length} rows."
        report("video-frames-missing", message, episode=episode)
    else:
        message = f"Only {reached} of its {length} frames are where they should be."
        missed = {"first_frame": reached, "last_frame": length - 1}
        report("video-frames-missing", message, episode=episode, **missed)
    return missing


def _close(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.bool_]:
    close: NDArray[np.bool_] = np.abs(found - wanted) <= timestamp_tolerance(wanted)
    return close
