"""A file is wholly there, or not at all."""

import errno
import json
import os

import pytest

from aiorecord.errors import StorageError
from aiorecord.system import storage


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "info.json"
    storage.write_json(path, {"ü": 1})
    storage.write_json(path, {"ü": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ü": 2}
    assert os.listdir(path.parent) == ["info.json"]


def test_a_failed_write_leaves_the_old_content_and_no_rubbish(tmp_path):
    path = tmp_path / "file"
    storage.write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError), storage.replacing(path) as temporary:
        temporary.write_bytes(b"half" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_the_disk_refuses_is_a_storage_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        storage.write_bytes(tmp_path / "file", b"x")
    assert caught.value.path == tmp_path / "file"
    assert isinstance(caught.value, OSError)
    assert os.listdir(tmp_path) == []


def test_a_removed_tree_is_gone_at_once(tmp_path):
    folder = tmp_path / "episode"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(b"x")
    storage.remove_tree(folder)
    storage.remove_tree(folder)
    assert os.listdir(tmp_path) == []


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "x.json", float("nan"))


def test_free_space_of_a_folder_to_be(tmp_path):
    assert storage.free_bytes(tmp_path / "not" / "yet") > 0
