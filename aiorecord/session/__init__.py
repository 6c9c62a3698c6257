"""The record loop: runs episodes and resets as the operator's commands ask."""

from __future__ import annotations

from .loop import Session
from .plan import SessionPlan
from .session_events import EpisodeRecord, PhaseChanged, SessionEvents, SourceReported
from .state_machine import Command, Phase, SessionMachine

__all__ = [
    "Command",
    "EpisodeRecord",
    "Phase",
    "PhaseChanged",
    "Session",
    "SessionEvents",
    "SessionMachine",
    "SessionPlan",
    "SourceReported",
]
