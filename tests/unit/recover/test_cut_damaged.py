"""`recover --accept-loss`: of a damaged episode the frames before the damage, and its folder kept aside."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import rows_of
from judged import recover, tree_hash
from test_staging_proof import FPS, FRAMES, FRONT, SCHEMA, STATE, capture, flip, kind

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.media.video_file import count_packets

__all__ = ["kind"]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "set"
    DatasetWriter.create(root, schema=SCHEMA, fps=FPS)
    return root


def damage(folder, part):
    """Flip a bit behind the first frames."""
    camera = folder.manifest.cameras[FRONT]
    path = folder.path / (camera.file if part == "frames" else camera.histograms)
    flip(path, int(path.stat().st_size * 0.8))


@pytest.mark.parametrize("part", ["frames", "hist"])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "killed"])
def test_the_frames_before_the_damage_are_saved(root, kind, ended, part, capsys):
    folder = capture(root, live=kind == "live", ended=ended)
    other = capture(root, live=kind == "live", offset=7)
    damage(folder, part)
    before = tree_hash(folder.path)
    assert recover(root, "--no-pack", capsys=capsys)[0] == 1
    assert tree_hash(folder.path).items() >= before.items()
    assert not other.path.exists()

    code, report = recover(root, "--accept-loss", "--dry-run", capsys=capsys)
    assert tree_hash(folder.path).items() >= before.items()
    if not ended:  # what ended is read when it is saved
        assert report["episodes"][0]["step"] == "save"
    code, report = recover(root, "--accept-loss", capsys=capsys)
    (episode,) = report["episodes"]
    kept = episode["frames"]
    assert 0 < kept < FRAMES if part == "frames" else kept == FRAMES
    assert (code, episode["lost"]) == (3, FRAMES - kept) if kept < FRAMES else code == 0
    assert episode["note"].startswith("damaged: ")
    assert ".aiorecord-aside-1" in episode["note"]
    assert (report["total_episodes"], report["total_frames"]) == (2, FRAMES + kept)
    rows = [row[STATE] for row in rows_of(root)]
    want = [[k, 7] for k in range(FRAMES)] + [[k, 0] for k in range(kept)]
    np.testing.assert_array_equal(np.array(rows), np.array(want, np.float32))
    assert sum(count_packets(path) for path in root.glob("videos/*/*/*.mp4")) == FRAMES + kept
    aside = root / ".aiorecord-aside-1/.aiorecord/episodes" / folder.id
    assert tree_hash(aside).items() >= before.items()

    before = tree_hash(root)
    assert recover(root, "--accept-loss", capsys=capsys)[0] == 0
    assert tree_hash(root) == before


def test_what_is_damaged_from_the_beginning_stays(root, kind, capsys):
    folder = capture(root, live=kind == "live")
    flip(folder.path / folder.manifest.cameras[FRONT].file, 10)
    before = tree_hash(folder.path)
    code, report = recover(root, "--accept-loss", capsys=capsys)
    assert (code, report["damaged"], report["total_episodes"]) == (1, [folder.id], 0)
    assert tree_hash(folder.path).items() >= before.items()
