"""What a program that a recorder is embedded in does to it: two that close, none, another clock, no loop."""

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings

import pytest
from helpers import FPS, H264, STATES, episodes_of, make_frame, record_episode

import aiorecord
from aiorecord.workers import process


def recorder_for(root, features=STATES, **options):
    options = {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred"} | options
    return aiorecord.Recorder("test/set", root=root / "set", fps=FPS, features=features, **options)


def thrown_away():
    """Collect twice: the first time, coroutines that the loop left are ended."""
    gc.collect()
    gc.collect()


async def test_cancelling_one_of_two_that_close_leaves_the_saves_to_the_other(tmp_path):
    recorder = recorder_for(tmp_path)
    await recorder.open()
    save = (await record_episode(recorder, 5)).save
    first, second = (asyncio.create_task(recorder.aclose()) for _ in range(2))
    await asyncio.sleep(0)
    assert not save.done()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert save.result().success
    assert len(episodes_of(tmp_path / "set")) == 1


async def test_cancelling_both_leaves_them_in_staging(tmp_path):
    async def main():
        recorder = recorder_for(tmp_path)
        await recorder.open()
        save = (await record_episode(recorder, 5)).save
        both = [asyncio.create_task(recorder.aclose()) for _ in range(2)]
        await asyncio.sleep(0)
        for task in both:
            task.cancel()
        assert [type(e) for e in await asyncio.gather(*both, return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 2
        return save.done()

    assert await main()


@pytest.mark.leaves("set/.aiorecord/lock")  # nobody closes it
def test_a_recorder_that_was_never_closed_names_its_root_and_what_to_run(tmp_path):
    async def main():
        recorder = recorder_for(tmp_path)
        await recorder.open()
        await (await record_episode(recorder, 3)).save

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(main())
        thrown_away()
    (message,) = [str(w.message) for w in told if "recorder of" in str(w.message)]
    assert f"The recorder of {tmp_path / 'set'} was never closed" in message
    assert f"`aiorecord recover {tmp_path / 'set'}`" in message
    assert any(issubclass(w.category, ResourceWarning) for w in told)


def test_a_closed_one_and_one_that_could_not_open_say_nothing(tmp_path):
    async def main():
        async with recorder_for(tmp_path):
            with pytest.raises(aiorecord.DatasetLockedError):
                await recorder_for(tmp_path, resume=True).open()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(main())
        thrown_away()
    assert [str(w.message) for w in told] == []


@pytest.mark.skipif(sys.platform == "win32", reason="a working directory cannot be deleted there")
async def test_a_deleted_working_directory(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.syspath_prepend("")  # as in an interactive session
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(aiorecord.ConfigError, match=r"'data/set' is relative .* was deleted") as caught:
        aiorecord.Recorder("me/x", root="data/set", fps=FPS, features=STATES)
    assert caught.value.option == "root"
    assert "" not in process._environment()["PYTHONPATH"].split(os.pathsep)

    async def main():
        async with recorder_for(tmp_path) as recorder:
            return await (await record_episode(recorder, 3)).save

    assert (await main()).success


class MovedTime:
    """The functions of `time` as a test of an application replaces them: each reading an hour later."""

    def __init__(self, monkeypatch):
        self.now_s = 10**9
        for name in ("time", "monotonic", "perf_counter"):
            monkeypatch.setattr(time, name, self.read)
            monkeypatch.setattr(time, f"{name}_ns", lambda: int(self.read() * 10**9))

    def read(self):
        self.now_s += 3600
        return self.now_s


async def test_replaced_functions_of_time_change_nothing(tmp_path, monkeypatch):
    """It took the encoder, which had just started, for one that does not start, and stalls."""

    async def main():
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda real=aiorecord.system.machine_time.monotonic_s: real())
        features = {**STATES, "observation.images.front": aiorecord_camera()}
        MovedTime(monkeypatch)
        async with recorder_for(tmp_path, features, save_timeout=60) as recorder:
            async with recorder.episode("x") as episode:
                async for tick in recorder.ticks(seconds=0.2):
                    episode.add_frame(make_frame(tick.index, 0, features))
            result = await episode.save
            return result, episode.save.problems, episode.lateness.summary(), episode.cameras

    result, problems, lateness, cameras = await main()
    monkeypatch.undo()
    assert result.success
    assert problems == []
    assert lateness["ticks"] + lateness["missed"] == 6
    assert lateness["worst_ms"] < 3_600_000
    assert cameras["observation.images.front"].spilled == 0


def aiorecord_camera():
    return {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]}


def test_without_asyncio_it_says_what_is_needed(tmp_path):
    """As trio drives it: coroutines run, and asyncio has no loop."""
    recorder = recorder_for(tmp_path)
    with pytest.raises(aiorecord.StateError, match=r"needs a running event loop of asyncio.*under trio") as e:
        recorder.open().send(None)
    assert isinstance(e.value, RuntimeError)
    assert not (tmp_path / "set").exists()
    assert not [t for t in threading.enumerate() if "aiorecord" in t.name]


def test_the_warning_comes_at_the_end_of_a_program_too(tmp_path):
    program = f"""
import asyncio, aiorecord
features = {{"action": {{"dtype": "float32", "shape": (1,), "names": ["a"]}}}}
async def main():
    return await aiorecord.open("me/x", root={str(tmp_path / "my set")!r}, fps=30, features=features)
kept = asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "was never closed" in done.stderr
    assert f"`aiorecord recover '{tmp_path / 'my set'}'`" in done.stderr
