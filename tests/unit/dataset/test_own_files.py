"""What of a dataset may be sent: its own files, whatever somebody puts in their place."""

import os
import sys

import pytest

from aiorecord.dataset.format.own_files import OwnFiles
from aiorecord.errors import DatasetError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX links and pipes")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "set/meta/deep").mkdir(parents=True)
    (tmp_path / "set/meta/deep/file").write_bytes(b"own")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"a private key")
    return tmp_path / "set"


def read(root, name="meta/deep/file"):
    with OwnFiles(root) as own, own.open(name) as file:
        return file.read()


def test_an_own_file_is_read_and_nothing_stays_open(root):
    before = os.listdir("/proc/self/fd") if sys.platform == "linux" else ()
    assert read(root) == b"own"
    os.link(root / "meta/deep/file", root / "meta/again")  # as packing and repair do
    assert read(root) == b"own"
    with OwnFiles(root) as own:
        assert own.names("meta/deep") == ["file"]
        assert own.names("meta") == ["again"]
        assert own.names("nothing/here") == []
        own.check()
    assert not before or len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("part", ["meta", "meta/deep", "meta/deep/file"])
def test_no_part_of_a_path_may_be_a_link(root, part):
    target = root.parent / "outside" / part
    target.parent.mkdir(parents=True, exist_ok=True)
    (root / part).rename(target)  # a link to the very file
    (root / part).symlink_to(target)
    with pytest.raises(DatasetError, match="symbolic link"):
        read(root)
    with OwnFiles(root) as own, pytest.raises(DatasetError, match="symbolic link"):
        own.check()


@pytest.mark.parametrize(
    "name", ["../outside/file", "/etc/passwd", "meta/../../outside/file", "", "meta//deep/file"]
)
def test_names_that_lead_out(root, name):
    with pytest.raises(DatasetError, match="not a name"):
        read(root, name)


def test_what_is_no_plain_file(root):
    os.mkfifo(root / "meta/pipe")
    os.link(root.parent / "outside/file", root / "meta/hard")
    (root / "meta/dangling").symlink_to(root / "nothing")
    for name, why in [("pipe", "plain"), ("deep", "plain"), ("hard", "hard link"), ("dangling", "link")]:
        with pytest.raises(DatasetError, match=why):
            read(root, f"meta/{name}")
    with pytest.raises(DatasetError, match="missing"):
        read(root, "meta/gone")


@pytest.mark.parametrize("part", ["meta", "meta/deep", "meta/deep/file"])
def test_a_link_that_comes_between_the_look_and_the_opening(root, part, monkeypatch):
    secret = root.parent / "outside"
    (secret / "deep").mkdir()
    for place in (secret / "deep/file", secret / "file"):
        place.write_bytes(b"a private key")
    stat_of, path = os.stat, root / part

    def swapped(name, **options):
        status = stat_of(name, **options)
        if options.get("dir_fd") is not None and name == path.name and not path.is_symlink():
            path.rename(root / "aside")
            path.symlink_to(secret / "file" if part.endswith("file") else secret)
        return status

    monkeypatch.setattr(os, "stat", swapped)
    with pytest.raises(DatasetError, match="symbolic link"):
        read(root)


def test_a_file_that_is_exchanged_while_it_is_opened(root, monkeypatch):
    open_of = os.open

    def swapped(name, *arguments, **options):
        if name == "file":
            os.replace(root.parent / "outside/file", root / "meta/deep/file")
        return open_of(name, *arguments, **options)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(DatasetError, match="exchanged"):
        read(root)
