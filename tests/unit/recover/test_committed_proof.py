"""Staging is deleted only of what is in the dataset, whole: also when the commit was done before a crash."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from judged import recover, tree_hash
from killed_recording import FRAMES

from aiorecord.dataset.commit import writer
from aiorecord.staging.folder import EpisodeFolder, Staging


@pytest.fixture
def committed_and_staged(killed, monkeypatch, capsys):
    """Killed between the commit of two episodes and the removal of their staging."""
    shutil.rmtree(Staging(killed).episode_paths()[3])
    shutil.rmtree(Staging(killed).episode_paths()[2])
    with monkeypatch.context() as patch:
        patch.setattr(EpisodeFolder, "remove", lambda folder: None)
        recover(killed, "--no-pack", capsys=capsys)
    assert len(Staging(killed).episode_paths()) == 2
    return killed


def first(root, pattern):
    return min(root.glob(pattern))


def cut_rows(root):
    path = first(root, "data/*/*.parquet")
    pq.write_table(pq.read_table(path).slice(0, FRAMES - 1), path)


def flip(root):
    path = first(root, "videos/*/*/*.mp4")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink()  # its other name, in staging, is the same file
    path.write_bytes(content)


DAMAGES = {
    "video gone": lambda root: first(root, "videos/*/*/*.mp4").unlink(),
    "no video": lambda root: (
        first(root, "videos/*/*/*.mp4").unlink(),
        (root / "videos/observation.images.front/chunk-900/file-000.mp4").write_bytes(b"no video"),
    ),
    "a flipped bit": flip,
    "rows gone": lambda root: first(root, "data/*/*.parquet").unlink(),
    "a row less": cut_rows,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_the_dataset_has_not_whole_stays_in_staging(damage, committed_and_staged, capsys):
    root = committed_and_staged
    one, two = Staging(root).episode_paths()
    DAMAGES[damage](root)
    before = tree_hash(one)
    code, report = recover(root, "--no-pack", capsys=capsys)
    assert code == 1
    assert [(e["found"], e["step"]) for e in report["episodes"]] == [
        ("damaged", "stage"),
        ("committed", "remove"),
    ]
    assert "the dataset counts it as episode 0" in report["episodes"][0]["note"]
    assert tree_hash(one) == before
    assert not two.exists()


def test_what_is_there_whole_is_deleted_packed_or_not(committed_and_staged, tmp_path, capsys):
    root = committed_and_staged
    staging = tmp_path / "staging"
    shutil.copytree(root / ".aiorecord", staging)
    assert recover(root, capsys=capsys)[0] == 0
    assert not (root / ".aiorecord").exists()
    shutil.copytree(staging, root / ".aiorecord")
    code, report = recover(root, capsys=capsys)
    assert (code, report["total_frames"]) == (0, 2 * FRAMES)
    assert not (root / ".aiorecord").exists()


def test_a_copy_that_is_not_what_was_encoded_is_not_committed(killed, capsys, monkeypatch):
    def bad_copy(source, target):
        content = bytearray(source.read_bytes())
        content[len(content) // 2] ^= 4
        target.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "link_or_copy", bad_copy)
        code, report = recover(killed, "--no-pack", capsys=capsys)
    assert (code, report["total_episodes"]) == (1, 0)
    assert len(Staging(killed).episode_paths()) == 3
    assert recover(killed, capsys=capsys)[1]["total_episodes"] == 3
