"""What every test has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiorecord.clock import FakeClock

sys.path.insert(0, str(Path(__file__).parent))  # for `from helpers import ...`, wherever pytest is started


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What tests measure of this machine does not reach the user's cache, nor the other way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def steady_clock(monkeypatch):
    """Recorders made in this process keep every deadline, however busy the machine is."""
    monkeypatch.setattr("aiorecord.recording.core.SystemClock", lambda: FakeClock(auto=True))
