"""What every test has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiorecord.clock import FakeClock

sys.path.insert(0, str(Path(__file__).parent))  # for `from helpers import ...`, wherever pytest is started


@pytest.fixture
def steady_clock(monkeypatch):
    """Recorders made in this process keep every deadline, however busy the machine is."""
    monkeypatch.setattr("aiorecord.recorder.SystemClock", lambda: FakeClock(auto=True))
