"""An upload that is left behind keeps the dataset locked for as long as it may read it."""

import asyncio
import threading

import pytest
from helpers import FPS, STATES, record_episode

from aiorecord import Recorder
from aiorecord.cli import hub
from aiorecord.cli.commands.push import push_dataset
from aiorecord.dataset.commit.lock import is_locked
from aiorecord.system.threads import run_in_thread


def test_the_lock_is_let_go_when_the_thread_of_the_upload_has_ended(tmp_path, monkeypatch):
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __init__(self, *arguments):
            pass

        def run(self, *arguments):
            begun.set()
            go_on.wait(30)
            ended.set()

    async def main():
        async with Recorder("me/set", root=tmp_path / "set", fps=FPS, features=STATES) as recorder:
            await record_episode(recorder, 2)
        pushing = asyncio.create_task(push_dataset(tmp_path / "set", "me/set"))
        assert await run_in_thread(begun.wait, 30)
        pushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pushing
        assert is_locked(tmp_path / "set")
        go_on.set()
        await run_in_thread(ended.wait, 30)
        while is_locked(tmp_path / "set"):
            await asyncio.sleep(0)

    monkeypatch.setattr(hub, "_Upload", Slow)
    asyncio.run(main())
