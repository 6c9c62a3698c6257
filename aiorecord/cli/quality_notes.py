"""Describes an episode's quality record in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..printable import plain
from ..quality import CameraQuality, EpisodeQuality
from ..robots.guarding.source_policy import short

MAX_VALUE = 200
"""Most characters shown of an application's note."""


def notes_of(quality: EpisodeQuality) -> list[tuple[str, str]]:
    """The problems of an episode, and the application's notes about it.

    Args:
        quality: its content is not trusted: it comes from a file.

    Returns:
        Texts, each with its style, the most serious first.
    """
    facts = dict(quality.facts)
    notes = []
    if quality.interrupted:
        notes.append(("interrupted by an error or a signal", "yellow"))
    if priority := quality.save.get("priority"):
        notes.append((f"saved with priority {value_text(priority)}", ""))
    if isinstance(facts.get("end_reason"), str):
        notes.append((f"CUT SHORT: {facts.pop('end_reason')}", "bold red"))
    notes += [(f"FLAGGED: {flag}", "bold red") for flag in quality.flags]
    salvaged = facts.get("salvaged")
    if isinstance(salvaged, Mapping) and isinstance(salvaged.get("lost"), int):
        notes.append((_salvaged(facts.pop("salvaged")), "bold red"))
    for key, camera in quality.cameras.items():
        if counts := _camera(camera):
            notes.append((f"{short(key)}: {counts}", "yellow"))
    sources = facts.get("sources")
    if isinstance(sources, Mapping) and all(isinstance(source, Mapping) for source in sources.values()):
        del facts["sources"]
        notes += [(_source(name, source), "yellow") for name, source in sources.items()]
    notes += [(f"{name}={value_text(value)}", "") for name, value in facts.items()]
    return [(plain(text), style) for text, style in notes]


def value_text(value: Any) -> str:
    """A value noted by an application: text unchanged, everything else as JSON; long ones are cut."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = "(cannot be shown)"
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _camera(camera: CameraQuality) -> str:
    counts = {name: getattr(camera, name) for name in ("repeated", "stale", "spilled", "lost", "corrupt")}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _salvaged(facts: Mapping[str, Any]) -> str:
    text = f"salvaged: {facts['lost']} frames are lost"
    missing = facts.get("missing")
    if isinstance(missing, Mapping) and missing:
        text += (
            f" (missing: {', '.join(f'{short(str(name))} {value_text(n)}' for name, n in missing.items())})"
        )
    return text


def _source(name: str, facts: Mapping[str, Any]) -> str:
    """One source that failed: how often, in which frames its last value was repeated, and why."""
    parts = []
    if facts.get("errors"):
        parts.append(f"{value_text(facts['errors'])} failures")
    if facts.get("held"):
        held = f"held in {value_text(facts['held'])} frames"
        ranges = facts.get("held_frames")
        if isinstance(ranges, list) and all(_is_range(r) for r in ranges):
            shown = [f"{a}-{b - 1}" if b - 1 > a else str(a) for a, b in ranges[:5]]
            held += f" ({', '.join(shown)}{', ...' if len(ranges) > 5 else ''})"
        parts.append(held)
    text = f"{short(name)}: {', '.join(parts) or 'failed'}"
    last = facts.get("last_error")
    return f"{text}; last: {last}" if isinstance(last, str) else text


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(end) is int for end in value)
