"""What `aiorecord info` says of an episode: in words, by its number, and nothing that it does not know."""

import asyncio
import shutil

import pytest
from helpers import FPS, STATES

from aiorecord import Recorder
from aiorecord.cli import main
from aiorecord.cli.quality_notes import notes_of
from aiorecord.quality import CameraQuality, EpisodeQuality

FACTS = {
    "end_reason": "the disk is full",
    "salvaged": {"lost": 3, "missing": {"observation.images.front": 3}},
    "sources": {
        "robot": {
            "errors": 24,
            "retries": 1,
            "held": 24,
            "held_frames": [[90, 113], [120, 121]],
            "last_error": "unplugged",
        },
        "observation.images.front": {"errors": 0, "retries": 0, "held": 2, "held_frames": [[1, 3]]},
    },
    "lights": "dim",
    "pose": {"x": [1, None, True]},
}


def record(**changes):
    values = {"episode_index": 4, "episode_id": "a", "length": 120, "tasks": ["T"], "fps": 30, "facts": FACTS}
    return EpisodeQuality(**(values | changes))


def test_facts_are_said_in_words():
    quality = record(
        interrupted=True, flags=["too late"], cameras={"observation.images.front": CameraQuality(9, lost=2)}
    )
    assert [text for text, _ in notes_of(quality)] == [
        "interrupted by an error or a signal",
        "CUT SHORT: the disk is full",
        "FLAGGED: too late",
        "salvaged: 3 frames are lost (missing: front 3)",
        "front: 2 lost",
        "robot: 24 failures, held in 24 frames (90-112, 120); last: unplugged",
        "front: held in 2 frames (1-2)",
        "lights=dim",
        'pose={"x": [1, null, true]}',
    ]


@pytest.mark.parametrize(
    "value", [None, 1, "x", [], [[]], {"a": 1}, {"a": {"held": "x", "held_frames": [[1]]}}, "y" * 9999]
)
@pytest.mark.parametrize("name", ["end_reason", "salvaged", "sources", "other"])
def test_facts_of_any_kind_are_shown(name, value):
    notes = notes_of(record(facts={name: value}))
    assert all(len(text) < 10_100 and "'" not in text for text, _ in notes)


async def test_before_the_first_episode_nothing_is_said_of_its_record(tmp_path, capsys):
    root = tmp_path / "set"

    async with Recorder("t/i", root=root, fps=FPS, features=STATES) as recorder:
        async with recorder.episode("Now") as episode:
            assert await asyncio.to_thread(main, ["info", str(root)]) == 0
            episode.discard()
    out = capsys.readouterr().out
    assert "0 episodes" in out
    assert "not recorded by" not in out
    assert "no quality record" not in out
    assert "recording or prepared" in out


async def test_what_a_dead_process_left_is_called_interrupted(tmp_path, capsys):
    root, copy = tmp_path / "set", tmp_path / "copy"

    async with Recorder("t/i", root=root, fps=FPS, features=STATES):
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns("lock*"))
    assert main(["info", str(copy)]) == 0
    out = capsys.readouterr().out
    assert "1 unfinished episode (1 interrupted" in out
    assert "recording" not in out
