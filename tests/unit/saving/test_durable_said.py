"""What is said of an episode that ended, before it is durable and after: "safe" only when it is."""

import threading
from types import SimpleNamespace

import pytest
from helpers import FPS, STATES, leaked, make_frame

from aiorecord import Recorder, SaveError, Stage
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.cli.summary import summary_lines
from aiorecord.errors import StorageError


async def record(recorder):
    """An episode that has ended; its save."""
    async with recorder.episode("Task") as episode:
        for k in range(5):
            episode.add_frame(make_frame(k, features=STATES))
    return episode.save


def said(recorder, save):
    record = SimpleNamespace(number=1, save=save, flags=[], end_reason=None)
    session = SimpleNamespace(recorder=recorder, records=[record], name_of=lambda save: "take 1")
    return "\n".join(summary_lines(session, left_early=False))


async def test_an_episode_is_safe_when_it_is_durable_and_not_before(tmp_path, monkeypatch):
    gate = threading.Event()
    keep = EpisodeCapture.keep

    def gated_keep(self, interrupted=False):
        assert gate.wait(30)
        return keep(self, interrupted)

    monkeypatch.setattr(EpisodeCapture, "keep", gated_keep)

    recorder = Recorder("a/b", root=tmp_path / "set", fps=FPS, features=STATES)
    async with recorder:
        save = await record(recorder)
        assert (save.stage, save.is_durable) == (Stage.RECORDING, False)
        assert save.stage.words == "not on disk yet"
        recorder.saver.abandon()  # what a second Ctrl-C does
        assert "safe in staging" not in str(save.error)
        assert "not in staging yet" in str(save.error)
        assert "safe on disk" not in said(recorder, save)
        gate.set()
    assert save.is_durable
    assert "1 episode waits in staging, safe on disk" in said(recorder, save)
    assert leaked() == (set(), set())


async def test_an_episode_that_the_disk_refused_is_not_called_safe(tmp_path, monkeypatch):
    def refused(self, interrupted=False):
        raise StorageError("full")

    monkeypatch.setattr(EpisodeCapture, "keep", refused)

    async with Recorder("a/b", root=tmp_path / "set", fps=FPS, features=STATES) as recorder:
        save = await record(recorder)
        with pytest.raises(SaveError, match="full"):
            await save.durable()
        assert not save.is_durable
    lines = said(recorder, save)
    assert "NOT on disk whole: take 1" in lines
    assert "safe on disk" not in lines
