"""A disk that does not say what is there (EACCES, ESTALE): undetermined, nothing is deleted or repaired."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged import recover, tree_hash

from aiorecord.check import check_dataset
from aiorecord.cli import main
from aiorecord.errors import StorageError
from aiorecord.staging.folder import EpisodeFolder, Staging

STAGED = ".aiorecord/episodes"
PLACES = ("meta/info.json", "meta/episodes", "data", "videos", STAGED, f"{STAGED}/ID")


@pytest.fixture(scope="module")
def recovered_session(killed_session, tmp_path_factory):
    """Two episodes in the dataset, an interrupted one in staging."""
    root = tmp_path_factory.mktemp("recovered") / "set"
    shutil.copytree(killed_session, root)
    assert main(["recover", str(root), "--partial=stage", "--no-pack", "--encode_workers=1"]) == 0
    return root


@pytest.fixture
def recovered(recovered_session, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(recovered_session, root)
    return root


def refuse(patch: pytest.MonkeyPatch, calls: tuple[str, ...], path: Path, code: int) -> None:
    """Let the system refuse these calls for one path."""

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(place: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if isinstance(place, str | os.PathLike) and os.fspath(place) == str(path):
                raise OSError(code, os.strerror(code), str(path))
            return real(place, *args, **kwargs)

        return call

    for name in calls:
        patch.setattr(os, name, refusing(getattr(os, name)))


@pytest.mark.skipif(sys.platform == "win32", reason="patches what POSIX calls")
@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("calls", [("stat", "lstat"), ("scandir", "listdir")], ids=["stat", "list"])
def test_what_is_not_said_is_undetermined(calls, code, recovered, capsys):
    (path,) = Staging(recovered).episode_paths()
    before = tree_hash(recovered)
    for place in PLACES:
        name = place.replace("ID", path.name)
        if (name.endswith(".json") or name == "videos") and calls[0] == "scandir":
            continue  # no folder; a camera's videos are looked for by name
        for flags in (["recover", "--dry-run"], ["recover", "--no-pack"]):
            if name == "videos" and "--dry-run" in flags:
                continue  # it does not look there
            with pytest.MonkeyPatch.context() as patch:
                refuse(patch, calls, recovered / name, code)
                assert main([flags[0], str(recovered), *flags[1:]]) == 3, (place, flags)
            out = capsys.readouterr()
            assert "Traceback" not in out.err
            said = " ".join((out.err + out.out).split())  # lines of a table break where they are full
            assert os.strerror(code) in said
            assert tree_hash(recovered) == before, (place, flags)
    assert main(["recover", str(recovered), "--no-pack"]) in (0, 3)
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="patches what POSIX calls")
@pytest.mark.parametrize("place", ["meta/info.json", "meta/episodes", "data", "videos", STAGED])
def test_a_check_and_its_repair_determine_nothing_from_it(place, recovered, capsys):
    before = tree_hash(recovered)
    calls = ("scandir", "listdir") if place in ("meta/episodes", "data", STAGED) else ("stat", "lstat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_dataset, "SETTLE_S", 0.0)  # nobody writes
        refuse(patch, calls, recovered / place, errno.EACCES)
        assert main(["check", str(recovered), "--fast", "--workers=1"]) == 3
        assert "UNDETERMINED file-unread" in capsys.readouterr().out
        assert main(["check", str(recovered), "--repair", "--workers=1"]) == 3
    assert tree_hash(recovered) == before


def test_a_leftover_that_cannot_be_removed_keeps_nothing_else(killed, capsys, monkeypatch):
    staging = Staging(killed)
    leftovers = [staging.episodes_path / f".{n}.1.aiorecord-tmp" for n in "abc"]
    for leftover in leftovers:
        leftover.mkdir()
    stuck = staging.episode_paths()[-1]  # the standby of the next episode
    rmtree, remove = shutil.rmtree, EpisodeFolder.remove

    def failing_rmtree(path: Any, *args: Any, **kwargs: Any) -> None:
        if Path(path) == leftovers[0]:
            raise OSError(errno.EIO, "Input/output error", str(path))
        rmtree(path, *args, **kwargs)

    def failing_remove(folder: EpisodeFolder) -> None:
        if folder.path == stuck:
            raise StorageError(f"Could not remove {folder.path}: Input/output error")
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", failing_rmtree)
    monkeypatch.setattr(EpisodeFolder, "remove", failing_remove)
    code, report = recover(killed, "--no-pack", capsys=capsys)
    assert code == 1
    assert report["total_episodes"] == 3
    assert [e["episode_id"] for e in report["episodes"] if e["error"]] == [stuck.name]
    assert [path.exists() for path in leftovers] == [True, False, False]
    with pytest.raises(StorageError):
        staging.remove_leftovers()
    monkeypatch.undo()
    assert recover(killed, capsys=capsys)[0] == 0
    assert not staging.path.exists()
