"""Resuming is the same recovery."""

from __future__ import annotations

import json

import pytest
from helpers import FEATURES, FPS, H264, episodes_of, record_episode
from judged import tree_hash
from killed_recording import ENDED, FRAMES

import aiorecord
from aiorecord.staging.folder import Staging


async def resume(root, **options):
    """Resume, record one more episode."""
    settings = {"fps": FPS, "features": FEATURES, "root": root, "rgb_encoder": H264, "resume": True}
    async with aiorecord.Recorder("me/set", **settings, encode="deferred", **options) as recorder:
        await record_episode(recorder, 5, episode=9, task="New")
    return recorder


@pytest.mark.parametrize("lost_info", [False, True])
async def test_resume_keeps_by_default(killed, lost_info):
    if lost_info:
        (killed / "meta/info.json").unlink()
    recorder = await resume(killed)
    assert [str(e.state) for e in recorder.recovered][: ENDED + 1] == ["complete"] * ENDED + ["interrupted"]
    lengths = [e["length"] for e in episodes_of(killed)]
    assert lengths == [FRAMES, FRAMES, recorder.recovered[ENDED].frames, 5]
    assert not (killed / ".aiorecord").exists()


async def test_resume_can_drop(killed):
    recorder = await resume(killed, partial="drop")
    assert str(recorder.recovered[ENDED].step) == "drop"
    assert [e["length"] for e in episodes_of(killed)] == [FRAMES, FRAMES, 5]
    assert not (killed / ".aiorecord").exists()


async def test_sessions_go_on_beside_a_staged_episode(killed):
    path = Staging(killed).episode_paths()[ENDED]
    before = tree_hash(path)
    for _ in range(2):
        await resume(killed, partial="stage")
        assert tree_hash(path) == before
    assert [e["length"] for e in episodes_of(killed)] == [FRAMES, FRAMES, 5, 5]
    recorder = await resume(killed)
    kept = recorder.recovered[0]
    assert [e["length"] for e in episodes_of(killed)] == [FRAMES, FRAMES, 5, 5, kept.frames, 5]
    assert json.loads((killed / "meta/info.json").read_text())["total_episodes"] == 6


def test_an_unknown_choice_is_refused(tmp_path):
    with pytest.raises(aiorecord.ConfigError, match="partial"):
        aiorecord.Recorder("me/set", fps=30, features=FEATURES, root=tmp_path, partial="half")
