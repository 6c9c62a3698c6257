"""Good datasets, recorded once for all tests of the check; damage copies of them only."""

from __future__ import annotations

from pathlib import Path

import pytest
from damaged import EVERYTHING, pool, record

from aiorecord.check import check_dataset
from aiorecord.check.repair import repair_dataset


@pytest.fixture(autouse=True)
def no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes into these datasets, which a check cannot know."""
    monkeypatch.setattr(check_dataset, "SETTLE_S", 0.0)


@pytest.fixture
def repairs_in_shared_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a process takes longer than repairing a small dataset."""
    monkeypatch.setattr(repair_dataset, "WorkerPool", lambda *_, **__: pool())


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three packed episodes."""
    return record(tmp_path_factory.mktemp("good") / "set")


@pytest.fixture(scope="session")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, a file for each episode."""
    return record(tmp_path_factory.mktemp("loose") / "set", pack=False)


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes with every kind of feature."""
    return record(tmp_path_factory.mktemp("everything") / "set", EVERYTHING, (8, 6))
