"""The record loop: what the operator asks for decides what comes next."""

from __future__ import annotations

from .connected import connected
from .events import EpisodeRecord, PhaseChanged, SessionEvents, SourceReported
from .loop import Session
from .machine import Command, Phase, SessionMachine
from .plan import SessionPlan

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
    "connected",
]
