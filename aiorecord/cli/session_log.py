"""Logs the events of a session as they happen."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..printable import get_logger
from ..session import EpisodeRecord, Phase, SessionEvents
from .logs import FIELDS

logger = get_logger(__name__)


def logged(events: SessionEvents) -> SessionEvents:
    """The same callbacks, each with a log line before it, except those called at every tick."""

    def on_phase(phase: Phase) -> None:
        logger.info("phase: %s", phase)
        events.on_phase(phase)

    def on_episode(record: EpisodeRecord) -> None:
        facts: dict[str, Any] = {
            "frames": record.frames,
            "duration_s": round(record.duration_s, 3),
            "lateness": record.lateness,
            "flags": record.flags,
            "sources": record.sources,
            "end_reason": record.end_reason,
        }
        logger.info("take %d ended and is kept", record.number, extra={FIELDS: facts})
        events.on_episode(record)

    def on_dropped(number: int) -> None:
        logger.info("take %d dropped", number)
        events.on_dropped(number)

    def on_source(line: str) -> None:
        logger.info("source: %s", line)
        events.on_source(line)

    return dataclasses.replace(
        events, on_phase=on_phase, on_episode=on_episode, on_dropped=on_dropped, on_source=on_source
    )
