"""A backup by hard links (``cp -al``) keeps its content, whatever is done to the dataset."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest
from staged import VIDEO, check_dataset, commit, stage

from aiorecord.check.check_dataset import check_dataset as deep_check
from aiorecord.dataset.commit.lock import DatasetLock
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.format import quality_log
from aiorecord.dataset.packing.pack import pack
from aiorecord.features import Schema
from aiorecord.system import storage
from aiorecord.workers.progress import Progress


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def backup_of(root, name="backup"):
    backup = root.with_name(name)
    shutil.copytree(root, backup, copy_function=os.link)
    return backup, digests(backup)


@pytest.fixture
def root(tmp_path):
    writer = DatasetWriter.create(tmp_path / "dataset", fps=30, schema=Schema(VIDEO))
    for content in range(3):
        commit(writer, content, 3)
    return writer.root


def test_commits_and_packing(root):
    backup, before = backup_of(root)
    writer = DatasetWriter.open(root)
    commit(writer, 3, 3)
    pack(writer)
    backup_2, before_2 = backup_of(root, "second")
    commit(writer, 4, 3)
    pack(writer)
    check_dataset(root, [(content, 3) for content in range(5)])
    assert digests(backup) == before
    assert digests(backup_2) == before_2
    assert deep_check(backup, fast=True, workers=1).ok


def test_a_rollback(root):
    quality_log.append(root, quality_log.read(root)[0][2])  # a line of an episode that does not count
    lines = (root / quality_log.PATH).read_bytes().replace(b'"episode_index": 2', b'"episode_index": 3')
    lines = lines.replace(b'"episode_index":2', b'"episode_index":3')
    (root / quality_log.PATH).write_bytes(lines)
    stage(root, 3, 3)
    backup, before = backup_of(root)
    DatasetWriter.open(root)
    assert digests(backup) == before
    assert digests(root)[quality_log.PATH] != before[quality_log.PATH]


def test_the_lock(root, tmp_path):
    (root / ".aiorecord").mkdir(exist_ok=True)
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    os.link(precious, root / ".aiorecord/lock")
    with DatasetLock(root):
        assert precious.read_bytes() == b"mine"
        assert not os.path.samefile(precious, root / ".aiorecord/lock")
    assert precious.read_bytes() == b"mine"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_the_names_that_files_are_written_under(tmp_path, link):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    target = tmp_path / "info.json"
    link(precious, storage.temporary_name(target))
    storage.write_json(target, {"a": 1})
    link(precious, tmp_path / "progress")
    with Progress(tmp_path / "progress", 5) as progress:
        progress.update(1)
    assert precious.read_bytes() == b"mine"
    assert storage.read_json(target) == {"a": 1}
