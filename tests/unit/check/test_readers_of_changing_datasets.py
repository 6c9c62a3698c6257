"""Readers without a lock, while a packing exchanges the files of a dataset under them."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from damaged import LENGTHS, copy, data_file, episodes_file, info_path

from aiorecord.cli import dataset_facts
from aiorecord.dataset.commit.generation import read_unchanged
from aiorecord.errors import ConfigError, DatasetError, SourceError
from aiorecord.robots.replay import recorded_dataset
from aiorecord.robots.replay.recorded_dataset import ReplayDataset


@pytest.fixture
def changing(good: Path, loose: Path, tmp_path: Path) -> tuple[Path, Callable[[], None]]:
    """A dataset, and what packs it (or takes the packing back) in one moment."""
    root, other = copy(loose, tmp_path / "set"), copy(good, tmp_path / "other")

    def exchange() -> None:
        for top in ("data", "meta", "videos"):
            os.rename(root / top, tmp_path / "aside")
            os.rename(other / top, root / top)
            os.rename(tmp_path / "aside", other / top)

    return root, exchange


def before_reading(
    module: Any, name: str, change: Callable[[], None], times: int, monkeypatch: Any
) -> list[str]:
    """Let the dataset change after `module.name` has listed its tables; returns the calls."""
    real, calls = getattr(module, name), []

    def listing(*args: Any) -> Any:
        found = real(*args)
        calls.append(name)
        if len(calls) <= times:
            change()
        return found

    monkeypatch.setattr(module, name, listing)
    return calls


def test_info_reads_again_what_was_exchanged(changing, monkeypatch):
    root, exchange = changing
    calls = before_reading(dataset_facts, "episode_files", exchange, 1, monkeypatch)
    facts = dataset_facts.read_facts(root)
    assert [episode.length for episode in facts.episodes] == list(LENGTHS)
    assert len(calls) == 2


def test_info_tells_damage_from_change_at_once(loose, tmp_path, monkeypatch):
    root = copy(loose, tmp_path / "set")
    episodes_file(root).write_bytes(b"no table")
    calls = before_reading(dataset_facts, "episode_files", lambda: None, 0, monkeypatch)
    with pytest.raises(DatasetError):
        dataset_facts.read_facts(root)
    assert len(calls) == 0  # listing them failed, and nothing had changed


def test_a_reader_gives_up_on_a_dataset_that_keeps_changing(tmp_path):
    tries = []

    def read() -> None:
        tries.append(1)
        (tmp_path / "meta").mkdir(exist_ok=True)
        info_path(tmp_path).write_text(str(len(tries)))
        raise DatasetError("does not fit")

    with pytest.raises(DatasetError):
        read_unchanged(tmp_path, read)
    assert len(tries) == 5


def test_replay_reads_the_metadata_again(changing, monkeypatch):
    root, exchange = changing
    before_reading(recorded_dataset, "_tables", exchange, 1, monkeypatch)
    assert [episode.length for episode in ReplayDataset(root).episodes] == list(LENGTHS)
    episodes_file(root).write_bytes(b"no table")
    with pytest.raises(ConfigError, match="cannot be read"):
        ReplayDataset(root)


def test_replay_finds_rows_that_a_packing_has_moved(changing):
    root, exchange = changing
    rows = ReplayDataset(root).endless_rows(["observation.state"])
    exchange()
    states = [row["observation.state"] for row in islice(rows, sum(LENGTHS))]
    assert [int(state[1]) for state in states] == [
        n for n, length in enumerate(LENGTHS) for _ in range(length)
    ]
    data_file(root).unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        list(islice(rows, sum(LENGTHS)))
