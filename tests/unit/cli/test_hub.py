"""Uploading to a Hub that runs here: what arrives, what does not, and what a failure leaves behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
import yaml
from fake_hub import FakeHub
from helpers import FEATURES, FPS, H264, record_episode, rows_of

from aiorecord import ConfigError, DatasetError, Recorder, StorageError
from aiorecord.cli import hub as hub_module
from aiorecord.cli.hub import check_hub, committed_files, dataset_card, push, retry_command
from aiorecord.dataset.commit.lock import DatasetLock
from aiorecord.dataset.format.info_json import read_info
from aiorecord.system.installation import install_hint

huggingface_hub = pytest.importorskip("huggingface_hub")

REPO = "tester/pick-cube"
VIDEO = "videos/observation.images.front"


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    with FakeHub() as fake:
        monkeypatch.setattr(constants, "ENDPOINT", fake.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", fake.token)
        yield fake


@pytest.fixture
async def root(tmp_path):
    await make_dataset(tmp_path / "set")
    return tmp_path / "set"


async def make_dataset(root, episodes=2, resume=False):
    async with Recorder(
        REPO, root=root, fps=FPS, features=FEATURES, rgb_encoder=H264, encode_workers=1, resume=resume
    ) as recorder:
        for number in range(episodes):
            await record_episode(recorder, 4, number)


def on_disk(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


async def upload(root, **options):
    return await push(root, REPO, **options)


async def test_what_is_committed_arrives_and_nothing_else(hub, root):
    before = on_disk(root)
    for stray in (
        ".aiorecord/episodes/x/rows.arrows",
        "meta/.info.json.1.aiorecord-tmp",
        "data/chunk-900/file-005.parquet",  # of a commit that was interrupted
        f"{VIDEO}/chunk-900/file-005.mp4",
        f"{VIDEO}/chunk-000/.file-000.mp4.1.aiorecord-tmp",
        "notes.txt",
    ):
        (root / stray).parent.mkdir(parents=True, exist_ok=True)
        (root / stray).write_bytes(b"stray")
    with_strays = on_disk(root)
    progress = []
    url = await upload(root, private=True, tags=["so101"], on_progress=lambda *p: progress.append(p))
    assert url == f"{hub.endpoint}/datasets/{REPO}"
    repository = hub.repositories[REPO]
    files = dict(repository.files)
    card = files.pop("README.md").decode()
    del files[".gitattributes"]
    assert files == before
    assert on_disk(root) == with_strays
    assert repository.private is True
    assert len(repository.commits) == 2
    assert repository.messages[1] == "Upload 2 episodes, 8 frames"
    assert repository.tags == {"v3.0": repository.oid(1)}
    total = sum(map(len, before.values()))
    assert progress[0] == (0, total)
    assert progress[-1] == (total, total)
    assert progress == sorted(progress)

    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "license": "apache-2.0",
        "task_categories": ["robotics"],
        "tags": ["LeRobot", "so101"],
        "configs": [{"config_name": "default", "data_files": "data/*/*.parquet"}],
    }
    shown = text.partition("```json\n")[2].partition("\n```")[0]
    assert json.loads(shown) == json.loads(before["meta/info.json"])


async def test_a_second_upload_sends_only_what_is_new_and_removes_what_is_gone(hub, root):
    await upload(root)
    repository = hub.repositories[REPO]
    old = {
        "data/chunk-900/file-000.parquet": b"of a dataset that was not packed then",
        "videos/observation.images.old/chunk-000/file-000.mp4": b"a camera of another dataset",
        "data/mine.parquet": b"not named as a dataset's file",
        "notes.md": b"mine",
    }
    repository.commits.append(repository.files | old)
    await make_dataset(root, 1, resume=True)
    sent = hub.sent_bytes
    await upload(root)
    files = dict(repository.files)
    assert files.pop("notes.md") == b"mine"
    assert files.pop("data/mine.parquet")
    del files["README.md"], files[".gitattributes"]
    assert files == on_disk(root)
    assert repository.tags == {"v3.0": repository.oid(3)}

    sent = hub.sent_bytes
    await upload(root)  # nothing changed
    assert hub.sent_bytes == sent
    assert len(repository.commits) == 4
    assert repository.tags == {"v3.0": repository.oid(3)}


async def test_a_bare_name_becomes_the_users(hub, root):
    assert (await push(root, "pick-cube")).endswith("/datasets/tester/pick-cube")
    assert "path=tester/pick-cube" in hub.repositories[REPO].files["README.md"].decode()


async def test_a_wrong_token_is_said_and_loses_nothing(hub, root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    before = on_disk(root)
    with pytest.raises(StorageError) as caught:
        await upload(root, private=False, tags=["a b"], license=None)
    text = str(caught.value)
    assert "401" in text
    assert "hf auth login" in text
    assert text.endswith(retry_command(root, REPO, False, ["a b"], None))
    assert caught.value.path == root
    assert hub.repositories == {}
    assert on_disk(root) == before


@pytest.mark.parametrize("path", ["POST .*/create", "POST .*/commit/", "POST .*/tag/"])
async def test_a_server_error_then_a_retry(hub, root, path):
    before = on_disk(root)
    hub.fail(path, 500)
    with pytest.raises(StorageError, match=r"500(.|\n)*aiorecord push"):
        await upload(root)
    assert on_disk(root) == before
    sent = hub.sent_bytes
    await upload(root)
    repository = hub.repositories[REPO]
    assert before.items() <= repository.files.items()
    assert repository.tags == {"v3.0": repository.oid(1)}
    assert hub.sent_bytes == sent or path.endswith("create")


async def test_nobody_listens(hub, root, monkeypatch):
    from huggingface_hub import constants

    with FakeHub() as gone:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", gone.endpoint)
    before = on_disk(root)
    with pytest.raises(StorageError, match=r"refused(.|\n)*aiorecord push"):
        await upload(root)
    assert on_disk(root) == before


@pytest.mark.parametrize("path", ["PUT /blobs/", "POST .*/commit/"])
async def test_cancelling_does_not_wait_for_the_network(hub, root, path):
    arrived = hub.hold(path)

    task = asyncio.create_task(push(root, REPO))
    await asyncio.to_thread(arrived.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not hub.held.is_set()
    hub.held.set()
    hub.held = None
    for thread in threading.enumerate():
        if thread.name == "aiorecord-hub":
            thread.join()
    if path.startswith("PUT"):
        assert len(hub.repositories[REPO].commits) == 1  # the files after it were not sent, nor committed
        assert len(hub.blobs) == 1
    await upload(root)
    assert on_disk(root).items() <= hub.repositories[REPO].files.items()


async def test_progress_that_fails_is_the_callers_error_and_ends_the_upload(hub, root):
    def broken(done, total):
        raise ZeroDivisionError

    with pytest.raises(StorageError, match="ZeroDivisionError"):
        await upload(root, on_progress=broken)
    assert len(hub.repositories[REPO].commits) == 1


async def test_only_whole_datasets_are_uploaded(hub, root, tmp_path):
    with pytest.raises(DatasetError, match="not a dataset"):
        await upload(tmp_path / "nothing")
    await make_dataset(tmp_path / "empty", 0)
    if (tmp_path / "empty").exists():
        with pytest.raises(DatasetError, match="no episode"):
            await upload(tmp_path / "empty")
    journal = root / ".aiorecord/pack/journal.json"
    journal.parent.mkdir(parents=True)
    journal.write_bytes(b"{}")
    with pytest.raises(DatasetError, match="aiorecord recover"):
        await upload(root)
    journal.unlink()
    (root / f"{VIDEO}/chunk-000/file-000.mp4").unlink()
    with pytest.raises(DatasetError, match=r"file-000\.mp4 is missing"):
        await upload(root)
    info = json.loads((root / "meta/info.json").read_bytes())
    (root / "meta/info.json").write_text(json.dumps(info | {"total_episodes": 1}))
    with pytest.raises(DatasetError, match="counts 1"):
        await upload(root)
    assert hub.requests == []


async def test_the_files_of_a_dataset_without_video(hub, tmp_path):
    features = {key: spec for key, spec in FEATURES.items() if spec["dtype"] != "video"}

    async with Recorder(REPO, root=tmp_path / "s", fps=FPS, features=features) as recorder:
        await record_episode(recorder, 4)
    assert committed_files(tmp_path / "s", read_info(tmp_path / "s")) == [
        "data/chunk-000/file-000.parquet",
        "meta/aiorecord/dataset.json",
        "meta/aiorecord/episodes.jsonl",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
    ]


def test_the_card_without_license_and_with_every_letter(root):
    text = dataset_card("a/b", read_info(root), ["LeRobot", "würfel", "x: y"], None)
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["tags"] == ["LeRobot", "würfel", "x: y"]
    assert "license" not in metadata


# before anything is recorded


def test_what_can_be_checked_before(hub, monkeypatch):
    assert check_hub(REPO) == []
    for name in ("a/b/c", "a--b/c", "a b", "x/y.git", "a/" + 100 * "b", ""):
        with pytest.raises(ConfigError) as caught:
            check_hub(name)
        assert caught.value.option in ("repo_id", "dataset.repo_id")
    assert hub.requests == []

    from huggingface_hub import constants

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    (note,) = check_hub(REPO)
    assert "token" in note
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        check_hub(REPO)
    monkeypatch.setattr(hub_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape(install_hint("hub"))):
        check_hub(REPO)


# the commands


def environment(hub):
    return os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": hub.token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }


def aiorecord(hub, *arguments, **extra):
    command = [sys.executable, "-m", "aiorecord", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(hub) | extra)


def test_push_as_a_command(hub, root):
    done = aiorecord(hub, "push", root, f"--repo_id={REPO}", "--private", "--tags=[a, b]", "--license=none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["uploaded", f"{hub.endpoint}/datasets/{REPO}"]
    assert hub.repositories[REPO].private is True
    assert "- b\n" in hub.repositories[REPO].files["README.md"].decode()
    assert not (root / ".aiorecord").exists()


def test_push_that_cannot_work(hub, root, tmp_path):
    wrong = aiorecord(hub, "push", root, f"--repo_id={REPO}", HF_TOKEN="hf_wrong")
    assert wrong.returncode == 1
    assert "Nothing is lost" in wrong.stderr
    assert not (root / ".aiorecord").exists()
    missing = aiorecord(hub, "push", tmp_path / "nothing", f"--repo_id={REPO}")
    assert missing.returncode == 1
    assert not (tmp_path / "nothing").exists()
    usage = [["--repo_id=a b"], ["--repo_id=a/b", "--tags=1"], ["--repo_id=a/b", "--private=perhaps"], []]
    for flags in usage:
        assert aiorecord(hub, "push", root, *flags).returncode == 2
    with DatasetLock(root):
        locked = aiorecord(hub, "push", root, f"--repo_id={REPO}")
    assert locked.returncode == 1
    assert "is being written" in locked.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_push_at_once(hub, root):
    arrived = hub.hold("PUT /blobs/")
    command = [sys.executable, "-m", "aiorecord", "push", str(root), f"--repo_id={REPO}"]
    with subprocess.Popen(command, env=environment(hub), stderr=subprocess.PIPE, text=True) as process:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the command again" in err
    assert not (root / ".aiorecord").exists()


RECORD = [
    "--robot.type=sim",
    "--teleop.type=sim",
    "--robot.cameras={front: {width: 96, height: 64}}",
    f"--dataset.repo_id={REPO}",
    "--dataset.single_task=Pick up the cube",
    "--dataset.rgb_encoder.vcodec=h264",
    "--dataset.num_episodes=2",
    "--dataset.episode_time_s=0.3",
    "--dataset.reset_time_s=0",
    "--dataset.push_to_hub=true",
    "--dataset.private=true",
    "--dataset.tags=[sim]",
    "--play_sounds=false",
    "--encode_workers=1",
]


def test_record_uploads_when_everything_is_saved(hub, tmp_path):
    root = tmp_path / "set"
    done = aiorecord(hub, "record", *RECORD, f"--dataset.root={root}")
    assert done.returncode == 0, done.stderr
    assert f"{hub.endpoint}/datasets/{REPO}" in done.stdout
    repository = hub.repositories[REPO]
    assert on_disk(root).items() <= repository.files.items()
    assert repository.private is True
    assert "- sim\n" in repository.files["README.md"].decode()


def test_record_whose_upload_fails_keeps_everything(hub, tmp_path):
    root, report = tmp_path / "set", tmp_path / "report.json"
    done = aiorecord(
        hub, "record", *RECORD, f"--dataset.root={root}", f"--report={report}", HF_TOKEN="hf_wrong"
    )
    assert done.returncode == 1
    assert len(rows_of(root)) == 18
    assert "2 episodes, 18 frames" in done.stdout
    assert retry_command(root, REPO, True, ["sim"]) in done.stderr
    assert not (root / ".aiorecord").exists()
    assert "401" in json.loads(report.read_text())["error"]
    assert aiorecord(hub, "push", root, f"--repo_id={REPO}").returncode == 0


def test_record_without_the_hub_package_starts_nothing(hub, tmp_path):
    root = tmp_path / "set"
    done = aiorecord(hub, "record", *RECORD, f"--dataset.root={root}", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE" in done.stderr
    assert not root.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_leaves_an_upload_at_once(hub, tmp_path):
    root = tmp_path / "set"
    arrived = hub.hold("PUT /blobs/")
    command = [sys.executable, "-m", "aiorecord", "record", *RECORD, f"--dataset.root={root}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment(hub), **pipes) as process:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 episodes, 18 frames" in out
    assert f"NOT uploaded. Upload it: {retry_command(root, REPO, True, ['sim'])}" in err
    assert len(rows_of(root)) == 18
    assert not (root / ".aiorecord").exists()
    assert len(hub.repositories[REPO].commits) == 1
