"""An upload sends the dataset's own files, and nothing that a link in it leads to."""

import asyncio
import os
import shutil
import sys

import pytest
from fake_hub import FakeHub
from helpers import FEATURES, FPS, H264, record_episode

from aiorecord import DatasetError, Recorder
from aiorecord.cli import hub as hub_module
from aiorecord.cli import main
from aiorecord.cli.hub import push

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX links and pipes")

REPO = "tester/links"
SECRET = b"a private key"
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("links") / "set"

    async def record():
        async with Recorder(REPO, root=root, fps=FPS, features=FEATURES, rgb_encoder=H264) as recorder:
            await record_episode(recorder, 4)

    asyncio.run(record())
    return root


@pytest.fixture
def root(recorded, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/id_rsa").write_bytes(SECRET)
    return shutil.copytree(recorded, tmp_path / "set")


@pytest.fixture(scope="module")
def running_hub():
    from huggingface_hub import constants

    with FakeHub() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", fake.endpoint)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", fake.token)
        yield fake


@pytest.fixture
def hub(running_hub):
    running_hub.repositories.clear()
    running_hub.blobs.clear()
    yield running_hub
    running_hub.hang_up()


def sent(hub):
    files = [content for repository in hub.repositories.values() for content in repository.files.values()]
    return b"".join([*files, *hub.blobs.values()])


def link(root, name, target="id_rsa"):
    path, outside = root / name, root.parent / "outside"
    if path.is_dir():
        shutil.copytree(path, outside / "copy")
        shutil.rmtree(path)
        (outside / "copy/id_rsa").write_bytes(SECRET)
        target = "copy"
    path.unlink(missing_ok=True)
    path.symlink_to(outside / target)


@pytest.mark.parametrize(
    "name",
    [
        *("meta", "meta/aiorecord", "meta/episodes", "meta/episodes/chunk-000", "data", "videos"),
        *("meta/readme.txt", "meta/info.json", "meta/stats.json", "meta/aiorecord/more.txt", VIDEO),
    ],
)
def test_a_link_is_refused_before_anything_is_sent(hub, root, name, capsys):
    link(root, name)
    assert main(["push", str(root), f"--repo_id={REPO}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aiorecord: ")
    assert not hub.repositories


@pytest.mark.parametrize("kind", ["pipe", "hard", "dangling"])
def test_other_things_than_files_are_refused(hub, root, kind, capsys):
    path = root / "meta/notes.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "hard":
        os.link(root.parent / "outside/id_rsa", path)
    else:
        path.symlink_to("nowhere")
    assert main(["push", str(root), f"--repo_id={REPO}"]) == 1
    assert "own folder" in capsys.readouterr().err
    assert not hub.repositories


@pytest.mark.parametrize("name", ["meta", "meta/stats.json", "meta/tasks.parquet", "videos", VIDEO])
async def test_a_link_that_comes_during_the_upload_is_not_followed(hub, root, name, monkeypatch):
    monkeypatch.setattr(hub_module, "_SMALL_BYTES", 0)
    steps = []

    def on_progress(done, total):
        steps.append(done)
        if len(steps) == 2:  # one file is sent, this one is not
            link(root, name)

    with pytest.raises(DatasetError, match="symbolic link"):
        await push(root, REPO, on_progress=on_progress)
    assert SECRET not in sent(hub)
    assert len(hub.repositories[REPO].commits) == 1  # the one that made the repository


@pytest.mark.parametrize("small", [0, 1 << 20])
async def test_what_was_opened_is_sent_whatever_has_its_name_by_then(hub, root, small, monkeypatch):
    monkeypatch.setattr(hub_module, "_SMALL_BYTES", small)
    before = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    own_open = hub_module.OwnFiles.open

    def swap(own, name):
        file = own_open(own, name)
        if len(hub.repositories) and not (root / name).is_symlink():
            link(root, name)  # looked at, opened: and gone
        return file

    monkeypatch.setattr(hub_module.OwnFiles, "open", swap)
    await push(root, REPO)
    files = dict(hub.repositories[REPO].files)
    card = files.pop("README.md")
    del files[".gitattributes"]
    assert files == before
    assert SECRET not in sent(hub)
    assert b"1 episodes, 4 frames" in card
