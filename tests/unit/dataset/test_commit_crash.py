"""A process that dies anywhere in a commit: readers see a valid dataset, and so does the next writer."""

from __future__ import annotations

import json
import shutil

import pytest
from faults import Killed, dying_after
from staged import EVERYTHING, VIDEO, check_dataset, commit, stage, tree

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.encoding.encoded import EncodedEpisode
from aiorecord.features import Schema
from aiorecord.staging.folder import EpisodeFolder, Staging


def prepare(root, features, episodes):
    writer = DatasetWriter.create(root, fps=30, schema=Schema(features))
    contents = []
    for episode in range(episodes):
        commit(writer, episode, 3, features=features)
        contents.append((episode, 3))
    stage(root, 9, 4, features=features, task="New task")
    return contents


@pytest.mark.parametrize(("features", "episodes"), [(VIDEO, 0), (EVERYTHING, 2)], ids=["first", "everything"])
def test_killed_after_every_change(tmp_path, monkeypatch, features, episodes):
    contents = prepare(tmp_path / "prepared", features, episodes)
    after = [*contents, (9, 4)]
    changes, outcomes = 0, set()
    while True:
        root = tmp_path / f"dataset-{changes}"
        shutil.copytree(tmp_path / "prepared", root)
        writer = DatasetWriter.open(root)
        [path] = Staging(root).episode_paths()
        folder = EpisodeFolder.load(path)
        encoded = EncodedEpisode.load(folder)
        with dying_after(changes, monkeypatch) as faults:
            try:
                writer.commit(folder, encoded)
            except Killed:
                assert faults.struck
        counted = json.loads((root / "meta/info.json").read_text())["total_episodes"]
        outcomes.add(counted)
        visible = after if counted > episodes else contents
        check_dataset(root, visible, extra_rows=True)

        writer = DatasetWriter.open(root)
        check_dataset(root, visible)
        assert not list(root.rglob("*aiorecord-tmp")) or path.exists()
        folder = EpisodeFolder.load(path)
        assert writer.is_committed(folder) == (episodes if counted > episodes else None)
        writer.commit(folder, encoded)
        folder.remove()
        check_dataset(root, after)
        commit(writer, 5, 2, features=features)
        check_dataset(root, [*after, (5, 2)])
        assert not [name for name in tree(root) if name.endswith("tmp")]
        shutil.rmtree(root)
        if not faults.struck:
            break
        changes += 1
    assert changes > 10
    assert outcomes == {episodes, episodes + 1}


def test_killed_in_the_repair(tmp_path, monkeypatch):
    """Repairing can itself be interrupted."""
    contents = prepare(tmp_path / "prepared", VIDEO, 2)
    root = tmp_path / "prepared"
    info = (root / "meta/info.json").read_bytes()
    writer = DatasetWriter.open(root)
    [path] = Staging(root).episode_paths()
    folder = EpisodeFolder.load(path)
    writer.commit(folder, EncodedEpisode.load(folder))
    (root / "meta/info.json").write_bytes(info)
    (root / "meta/.x.1.aiorecord-tmp").write_bytes(b"")

    changes = 0
    while True:
        root = tmp_path / f"dataset-{changes}"
        shutil.copytree(tmp_path / "prepared", root)
        with dying_after(changes, monkeypatch) as faults:
            try:
                DatasetWriter.open(root)
            except Killed:
                assert faults.struck
        check_dataset(root, contents, extra_rows=True)
        DatasetWriter.open(root)
        check_dataset(root, contents)
        shutil.rmtree(root)
        if not faults.struck:
            break
        changes += 1
    assert changes > 5
