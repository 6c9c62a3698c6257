"""A process that dies, or a disk that refuses, anywhere in a packing."""

from __future__ import annotations

import contextlib
import shutil

import pytest
from faults import Killed, dying_after, full_disk_at
from staged import VIDEO, check_dataset, commit, tree

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.exchange import swap_folders
from aiorecord.dataset.packing.pack import pack
from aiorecord.errors import StorageError
from aiorecord.features import Schema

CONTENTS = [(0, 3), (1, 3), (2, 4), (3, 2)]


def prepare(root):
    """A packed file that gets extended, and loose ones."""
    writer = DatasetWriter.create(root, fps=30, schema=Schema(VIDEO))
    for content in CONTENTS[:2]:
        commit(writer, *content)
    pack(writer)
    for content in CONTENTS[2:]:
        commit(writer, *content)


def is_packed(root):
    return not any("chunk-9" in path for path in tree(root))


@pytest.mark.parametrize("can_swap", [True, False])
def test_killed_after_every_change(tmp_path, monkeypatch, can_swap):
    prepare(tmp_path / "prepared")
    if not can_swap:
        monkeypatch.setattr(swap_folders, "swap", lambda a, b: False)
    changes, outcomes = 0, set()
    while True:
        root = tmp_path / f"dataset-{changes}"
        shutil.copytree(tmp_path / "prepared", root)
        writer = DatasetWriter.open(root)
        with dying_after(changes, monkeypatch) as faults:
            try:
                pack(writer)
            except Killed:
                assert faults.struck
        if can_swap:
            # A reader finds a valid dataset at any instant.
            check_dataset(root, CONTENTS)
        writer = DatasetWriter.open(root)
        check_dataset(root, CONTENTS)
        outcomes.add(is_packed(root))
        assert not (root / ".aiorecord/pack").exists()
        assert not list(root.rglob("*aiorecord-tmp"))
        if changes % 5 == 0:
            commit(writer, 4, 2)
            pack(writer)
            check_dataset(root, [*CONTENTS, (4, 2)])
            assert is_packed(root)
        shutil.rmtree(root)
        if not faults.struck:
            break
        changes += 1
    assert changes > 30
    assert outcomes == {True, False}


def test_killed_while_rolling_forward(tmp_path, monkeypatch):
    """Finishing what a killed packing decided can itself be interrupted, any number of times."""
    prepare(tmp_path / "prepared")
    root = tmp_path / "prepared"
    decided = None
    for changes in range(1000):
        trial = tmp_path / f"trial-{changes}"
        shutil.copytree(root, trial)
        writer = DatasetWriter.open(trial)
        with dying_after(changes, monkeypatch):
            with contextlib.suppress(Killed):
                pack(writer)
        if (trial / ".aiorecord/pack/journal.json").exists():
            decided = trial
            break
        shutil.rmtree(trial)
    assert decided is not None
    opened = 0
    while (decided / ".aiorecord/pack/journal.json").exists():
        with dying_after(1, monkeypatch), pytest.raises(Killed):
            DatasetWriter.open(decided)
        check_dataset(decided, CONTENTS)
        opened += 1
        assert opened < 100
    DatasetWriter.open(decided)
    check_dataset(decided, CONTENTS)
    assert is_packed(decided)
    assert opened > 3


def test_the_disk_refuses_one_change(tmp_path, monkeypatch):
    prepare(tmp_path / "prepared")
    change = 0
    while True:
        root = tmp_path / f"dataset-{change}"
        shutil.copytree(tmp_path / "prepared", root)
        writer = DatasetWriter.open(root)
        with full_disk_at(change, monkeypatch) as faults:
            try:
                pack(writer)
            except StorageError:
                assert faults.struck
        check_dataset(root, CONTENTS)
        # The same writer goes on.
        commit(writer, 4, 2)
        check_dataset(root, [*CONTENTS, (4, 2)])
        if change % 5 == 0:
            pack(writer)
            assert is_packed(root)
            check_dataset(root, [*CONTENTS, (4, 2)])
        shutil.rmtree(root)
        if not faults.struck:
            break
        change += 1
    assert change > 30
