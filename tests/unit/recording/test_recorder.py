"""The recorder from the outside: what is recorded is in the dataset; what goes wrong is said and kept."""

import asyncio
import json
import math
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from helpers import FEATURES, FPS, H264, STATES, episodes_of, leaked, make_frame, record_episode, rows_of

import aiorecord
from aiorecord import Recorder, Stage
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.encoding.episode_encoding import ATTEMPTS
from aiorecord.media.video_file import count_packets
from aiorecord.recording import standby
from aiorecord.saving.commit_stage import Committer
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.testing import ControlledEncoder


def recorder_for(root, features=FEATURES, **options):
    options = {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred"} | options
    return Recorder("test/set", root=root / "set", fps=FPS, features=features, **options)


async def test_episodes_are_in_the_dataset_when_the_block_is_left(tmp_path):
    async def main():
        async with recorder_for(tmp_path) as recorder:
            for e in range(3):
                await record_episode(recorder, length=5 + e, episode=e, task=f"Task {e % 2}")
        assert leaked() == (set(), set())

    await main()
    root = tmp_path / "set"
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 18, 2)
    rows = rows_of(root)
    assert [row["index"] for row in rows] == list(range(18))
    assert [row["episode_index"] for row in rows] == [0] * 5 + [1] * 6 + [2] * 7
    assert [row["task_index"] for row in rows] == [0] * 5 + [1] * 6 + [0] * 7
    for row in rows:
        k, e = row["frame_index"], row["episode_index"]
        assert row["timestamp"] == pytest.approx(k / FPS)
        np.testing.assert_allclose(row["observation.state"], [k, e, k / FPS], rtol=1e-6)
        np.testing.assert_allclose(row["action"], [k + 1, e + 1, k / FPS + 1], rtol=1e-6)
    assert sum(count_packets(p) for p in (root / "videos").rglob("*.mp4")) == 18
    assert [e["tasks"] for e in episodes_of(root)] == [["Task 0"], ["Task 1"], ["Task 0"]]
    assert not (root / ".aiorecord").exists()


async def test_a_save_goes_through_its_stages_and_returns_its_result(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        episode = await record_episode(recorder)
        save = episode.save
        assert not save.done()
        await save.durable()
        folder = EpisodeFolder.load(save.job.folder.path)
        assert folder.manifest.state == "complete"
        assert folder.manifest.length == 10
        result = await save
        assert save.stage is Stage.COMMITTED
        assert (result.success, result.episode_index, result.length) == (True, 0, 10)
        assert 0 < result.durable_s <= result.encoded_s <= result.committed_s <= result.duration_s
        assert result.bytes > 0
        assert await save == result
        assert recorder.get_status().episodes == 1
        assert await recorder.saver.get_results() == [result]


async def test_what_the_caller_reuses_was_copied(tmp_path):
    frame = make_frame(0)
    async with recorder_for(tmp_path, STATES) as recorder:
        async with recorder.episode("x") as episode:
            for k in range(5):
                frame["action"][:] = k
                episode.add_frame({key: frame[key] for key in STATES})
    assert [row["action"][0] for row in rows_of(tmp_path / "set")] == [0, 1, 2, 3, 4]


async def test_frames_may_carry_their_own_task(tmp_path):
    async with recorder_for(tmp_path, STATES) as recorder:
        async with recorder.episode("first") as episode:
            for k in range(4):
                extra = {"task": "зачем 🤖"} if k >= 2 else {}
                episode.add_frame(make_frame(k, 0, STATES) | extra)
    assert [row["task_index"] for row in rows_of(tmp_path / "set")] == [0, 0, 1, 1]


async def test_discarded_and_taken_back_episodes_leave_no_trace(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        async with recorder.episode("x") as episode:
            episode.add_frame(make_frame(0))
            episode.discard()
            with pytest.raises(aiorecord.StateError):
                episode.add_frame(make_frame(1))
        assert not episode.has_save
        held = (await record_episode(recorder, episode=7, hold=True)).save
        assert await recorder.take_back(held)
        assert held.stage is Stage.DISCARDED
        with pytest.raises(aiorecord.SaveError, match="discarded"):
            await held
        kept = (await record_episode(recorder, length=3, episode=1)).save
        assert (await kept).episode_index == 0
        assert not await recorder.take_back(kept)
    assert len(rows_of(tmp_path / "set")) == 3
    assert not (tmp_path / "set" / ".aiorecord").exists()


async def test_a_held_episode_is_committed_when_the_next_begins(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        first = (await record_episode(recorder, hold=True)).save
        assert not await recorder.saver.wait_for_completion(timeout=0)
        assert first.held
        async with recorder.episode("next") as episode:
            assert not first.held
            assert (await first).episode_index == 0
            episode.add_frame(make_frame(0))


async def test_an_exception_inside_keeps_the_partial_episode(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        with pytest.raises(ZeroDivisionError) as caught:
            async with recorder.episode("x") as episode:
                for k in range(4):
                    episode.add_frame(make_frame(k))
                raise ZeroDivisionError
        assert "4 frames" in caught.value.__notes__[0]
        assert not episode.has_save
        await (await record_episode(recorder)).save
    folder = EpisodeFolder.load(Staging(tmp_path / "set").episode_paths()[0])
    assert folder.manifest.interrupted
    assert folder.manifest.length == 4

    async with recorder_for(tmp_path, resume=True) as recorder:
        assert recorder.saver.get_status()["pending_tasks"] == 1
    assert [e["length"] for e in episodes_of(tmp_path / "set")] == [10, 4]
    assert not (tmp_path / "set" / ".aiorecord").exists()


async def test_an_empty_episode_is_an_error_and_leaves_nothing(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        with pytest.raises(aiorecord.StateError, match="no frames"):
            async with recorder.episode("x"):
                pass
        await (await record_episode(recorder)).save
    assert len(episodes_of(tmp_path / "set")) == 1


async def test_a_bad_frame_is_refused_and_the_episode_goes_on(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        async with recorder.episode("x") as episode:
            episode.add_frame(make_frame(0))
            with pytest.raises(aiorecord.FrameError):
                episode.add_frame({"action": 1})
            assert episode.add_frame(make_frame(1)) == 1
        with pytest.raises(aiorecord.StateError):
            episode.add_frame(make_frame(2))
        assert (await episode.save).length == 2


@pytest.mark.parametrize("policy", ["accept", "refuse"])
async def test_nan_is_counted_or_refused(tmp_path, policy, caplog):
    bad = make_frame(1, 0, STATES) | {"action": np.array([0, math.nan, math.inf], np.float32)}

    async with recorder_for(tmp_path, STATES, nonfinite=policy) as recorder:
        async with recorder.episode("x") as episode:
            for frame in (make_frame(0, 0, STATES), bad, bad):
                try:
                    episode.add_frame(frame)
                except aiorecord.FrameError as error:
                    assert error.key == "action"
        assert recorder.get_status().nonfinite_frames == (2 if policy == "accept" else 0)
    assert len(rows_of(tmp_path / "set")) == (3 if policy == "accept" else 1)
    assert len([r for r in caplog.records if "NaN" in r.message]) == (policy == "accept")


async def test_an_unexpected_error_while_an_episode_is_made_durable_fails_that_save_only(
    tmp_path, monkeypatch
):
    keep = EpisodeCapture.keep

    def fails_once(capture, *args):
        monkeypatch.setattr(EpisodeCapture, "keep", keep)
        raise MemoryError("injected")

    async with recorder_for(tmp_path) as recorder:
        monkeypatch.setattr(EpisodeCapture, "keep", fails_once)
        first = (await record_episode(recorder, episode=0)).save
        with pytest.raises(aiorecord.SaveError, match="injected"):
            await first
        second = (await record_episode(recorder, episode=1)).save
        assert (await second).episode_index == 0
        first.retry()
        assert (await first).episode_index == 1, "its frames were still there"


async def test_nobody_waits_for_saves_when_a_task_of_the_saver_died(tmp_path, monkeypatch):
    async def dies(committer):
        await committer._pending.changed.wait()
        raise ZeroDivisionError

    monkeypatch.setattr(Committer, "run", dies)

    recorder = recorder_for(tmp_path)
    await recorder.__aenter__()
    save = (await record_episode(recorder, episode=0)).save
    waiting = asyncio.create_task(recorder.saver.wait_for_completion())
    with pytest.raises(aiorecord.SaveError, match="recover"):
        await save
    assert not await waiting
    with pytest.raises(ZeroDivisionError):
        await recorder.aclose()


async def test_a_full_queue_saves_in_the_foreground_and_says_so(tmp_path, caplog):
    gate = ControlledEncoder(2, held=True)
    async with recorder_for(tmp_path, encode_executor=gate, save_queue_size=1) as recorder:
        first = (await record_episode(recorder, episode=0)).save  # taken by the worker
        while recorder.saver.get_status()["queue_size"]:
            await asyncio.sleep(0.001)
        second = (await record_episode(recorder, episode=1)).save  # fills the queue
        third = asyncio.create_task(record_episode(recorder, episode=2))
        while len(recorder.saver.pending) < 3:
            await asyncio.sleep(0.001)
        assert not third.done()
        assert "foreground" in caplog.text
        gate.let()
        assert (await third).save.done()
        results = [await save for save in (first, second, third.result().save)]
        assert [r.episode_index for r in results] == [0, 1, 2]
    gate.shutdown()


async def test_an_error_names_a_few_of_many_episodes(tmp_path):
    gate = ControlledEncoder(2)
    gate.fail_next(100, aiorecord.EncodeError("injected"))
    with pytest.raises(aiorecord.SaveError, match=r"^12 episode\(s\) .* and 7 more\): injected") as caught:
        async with recorder_for(tmp_path, encode_executor=gate) as recorder:
            for episode in range(12):
                await record_episode(recorder, episode=episode)
    gate.shutdown()
    text = str(caught.value)
    assert "000005-" in text
    assert "000006-" not in text


async def test_saving_in_the_foreground_returns_when_committed(tmp_path):
    async with recorder_for(tmp_path, async_saving=False) as recorder:
        episode = await record_episode(recorder)
        assert episode.save.result().success


async def test_a_failed_save_stays_in_staging_and_the_next_ones_succeed(tmp_path):
    gate = ControlledEncoder(2)
    gate.fail_next(ATTEMPTS, aiorecord.EncodeError("injected"))
    async with recorder_for(tmp_path, encode_executor=gate) as recorder:
        bad = (await record_episode(recorder, episode=0)).save
        good = (await record_episode(recorder, episode=1)).save
        with pytest.raises(aiorecord.SaveError, match="injected") as caught:
            await bad
        assert caught.value.staging.is_dir()
        assert (await good).episode_index == 0
        status = recorder.saver.get_status()
        assert (status["total_completed"], status["total_failed"]) == (1, 1)
        assert "injected" in status["last_error"]
        bad.retry()
        assert (await bad).episode_index == 1
        assert recorder.saver.get_status()["total_failed"] == 0
    gate.shutdown()
    assert [row["observation.state"][1] for row in rows_of(tmp_path / "set")] == [1] * 10 + [0] * 10


async def test_a_failed_save_that_nobody_awaited_is_raised_when_the_block_is_left(tmp_path):
    gate = ControlledEncoder(2)
    gate.fail_next(ATTEMPTS, aiorecord.EncodeError("injected"))
    with pytest.raises(aiorecord.SaveError, match="staging"):
        async with recorder_for(tmp_path, encode_executor=gate) as recorder:
            await record_episode(recorder)
    gate.shutdown()
    assert len(Staging(tmp_path / "set").episode_paths()) == 1


async def test_a_save_without_progress_times_out_and_the_next_ones_succeed(tmp_path):
    class Stuck(ControlledEncoder):
        failures = 1

        def submit(self, function, /, *args, **kwargs):
            if function.__name__ == "encode_camera" and self.failures > 0:
                self.failures -= 1
                stuck = Future()
                stuck.set_running_or_notify_cancel()
                self.stuck = stuck
                threading.Timer(2, lambda: stuck.set_exception(aiorecord.EncodeError("late"))).start()
                return stuck
            return super().submit(function, *args, **kwargs)

    gate = Stuck(2)
    async with recorder_for(tmp_path, encode_executor=gate, save_timeout=0.05) as recorder:
        bad = (await record_episode(recorder, episode=0)).save
        good = (await record_episode(recorder, episode=1)).save
        with pytest.raises(aiorecord.SaveTimeoutError, match="no progress"):
            await bad
        assert (await good).episode_index == 0
    gate.shutdown()


@pytest.mark.parametrize("kind", ["threads", "processes"])
async def test_any_executor_encodes(tmp_path, kind):
    spawn = multiprocessing.get_context("spawn")
    executor = ThreadPoolExecutor(1) if kind == "threads" else ProcessPoolExecutor(1, mp_context=spawn)

    async def main():
        async with recorder_for(tmp_path, encode_executor=executor) as recorder:
            assert (await (await record_episode(recorder)).save).success

    with executor:
        await main()


async def test_a_second_recorder_is_refused_by_name(tmp_path):
    async with recorder_for(tmp_path) as recorder:
        await (await record_episode(recorder)).save
        with pytest.raises(aiorecord.DatasetLockedError) as caught:
            async with recorder_for(tmp_path, resume=True):
                pass
        assert caught.value.pid == os.getpid()
        assert caught.value.host == socket.gethostname()
        assert str(os.getpid()) in str(caught.value)
        await (await record_episode(recorder)).save


async def test_resume_continues_and_refuses_what_does_not_match(tmp_path):
    async def record(**options):
        async with recorder_for(tmp_path, **options) as recorder:
            return (await (await record_episode(recorder)).save).episode_index

    assert await record() == 0
    with pytest.raises(aiorecord.DatasetError, match="resume"):
        await record()
    assert await record(resume=True) == 1
    other = FEATURES | {"action": {"dtype": "float32", "shape": (4,), "names": None}}
    with pytest.raises(aiorecord.DatasetError, match="action"):
        await record(resume=True, features=other)
    assert len(rows_of(tmp_path / "set")) == 20


async def test_resume_of_nothing_starts_a_dataset(tmp_path):
    async with recorder_for(tmp_path, resume=True) as recorder:
        assert (await (await record_episode(recorder)).save).episode_index == 0


async def test_a_folder_with_other_things_is_left_alone(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")

    with pytest.raises(aiorecord.DatasetError, match="not empty"):
        async with recorder_for(tmp_path):
            pass
    assert leaked() == (set(), set())
    assert os.listdir(folder) == ["thesis.txt"]


async def test_a_codec_that_cannot_be_opened_is_found_before_anything_is_written(tmp_path):
    bad = aiorecord.RGBEncoderConfig(vcodec="h264_nvenc")

    with pytest.raises(aiorecord.CodecUnavailableError, match="h264_nvenc"):
        async with recorder_for(tmp_path, rgb_encoder=bad):
            pass
    assert leaked() == (set(), set())
    assert os.listdir(tmp_path) == []


async def test_a_recorder_without_episodes_leaves_no_dataset(tmp_path):
    async with recorder_for(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "..", "a/../b", "/etc/x", "a/b/c", "a b", "x/", "-", "C:\\x", "a/.."])
def test_names_that_would_leave_the_root_are_refused(name):
    with pytest.raises(aiorecord.ConfigError):
        Recorder(name, fps=30, features=STATES)


@pytest.mark.parametrize("fps", [0, -1, 29.97, True, "30"])
def test_impossible_rates_are_refused(fps):
    with pytest.raises(aiorecord.ConfigError):
        Recorder("x", fps=fps, features=STATES)


@pytest.mark.parametrize(
    "options", [{"buffer_mb": 0}, {"nonfinite": "maybe"}, {"encode_workers": 0}, {"save_queue_size": 0}]
)
async def test_impossible_options_are_refused(tmp_path, options):
    async def main():
        async with recorder_for(tmp_path, **options):
            pass

    with pytest.raises(aiorecord.ConfigError):
        await main()


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="colour"):
        Recorder("x", fps=30, features=STATES, colour="red")


async def test_calls_at_the_wrong_time_say_so(tmp_path):
    recorder = recorder_for(tmp_path)
    with pytest.raises(aiorecord.StateError, match="not open"):
        await recorder.episode("x").__aenter__()
    async with recorder:
        with pytest.raises(aiorecord.StateError, match="opened once"):
            await recorder.open()
        async with recorder.episode("x") as episode:
            with pytest.raises(aiorecord.StateError, match="already"):
                async with recorder.episode("y"):
                    pass
            episode.add_frame(make_frame(0))
        with pytest.raises(aiorecord.StateError, match="once"):
            await episode.__aenter__()
    with pytest.raises(aiorecord.StateError, match="closed"):
        await recorder.episode("x").__aenter__()
    await recorder.aclose()


async def test_cancelling_the_close_leaves_the_rest_in_staging_and_closes(tmp_path):
    gate = ControlledEncoder(2, held=True)
    recorder = recorder_for(tmp_path, encode_executor=gate)
    await recorder.open()
    save = (await record_episode(recorder)).save
    await save.durable()
    closing = asyncio.create_task(recorder.aclose())
    await asyncio.sleep(0)
    while recorder.saver.get_status()["queue_size"]:
        await asyncio.sleep(0.001)
    closing.cancel()
    while not save.done():
        await asyncio.sleep(0.001)
    gate.let()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await recorder.aclose()
    assert save.stage is Stage.FAILED
    assert leaked() == (set(), set())
    gate.shutdown()
    assert len(Staging(tmp_path / "set").episode_paths()) == 1

    async with recorder_for(tmp_path, resume=True):
        pass
    assert len(rows_of(tmp_path / "set")) == 10


async def test_cancelling_the_application_keeps_the_running_episode(tmp_path):
    async def application(started):
        async with recorder_for(tmp_path) as recorder, recorder.episode("x") as episode:
            for k in range(6):
                episode.add_frame(make_frame(k))
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    task = asyncio.create_task(application(started))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leaked() == (set(), set())
    folder = EpisodeFolder.load(Staging(tmp_path / "set").episode_paths()[0])
    assert (folder.manifest.length, folder.manifest.interrupted) == (6, True)


async def test_closing_while_the_next_episode_is_prepared_leaves_nothing(tmp_path, monkeypatch):
    prepare = EpisodeCapture.prepare
    begun, go_on = threading.Event(), threading.Event()

    def slow(*args, **kwargs):
        begun.set()
        assert go_on.wait(60)
        return prepare(*args, **kwargs)

    recorder = recorder_for(tmp_path)
    await recorder.open()
    monkeypatch.setattr(EpisodeCapture, "prepare", slow)
    await record_episode(recorder)  # the next one begins to be prepared meanwhile
    await asyncio.to_thread(begun.wait)
    closing = asyncio.create_task(recorder.aclose())
    for _ in range(5):
        await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    await closing
    assert leaked() == (set(), set())
    assert not (tmp_path / "set" / ".aiorecord").exists()


async def test_the_next_episode_is_prepared_a_little_after_this_one_began(tmp_path, monkeypatch):
    prepare = EpisodeCapture.prepare
    prepared = threading.Event()

    def noted(*args, **kwargs):
        prepared.set()
        return prepare(*args, **kwargs)

    monkeypatch.setattr(standby, "PREPARE_AFTER_S", 3600.0)
    async with recorder_for(tmp_path) as recorder:
        monkeypatch.setattr(EpisodeCapture, "prepare", noted)
        await record_episode(recorder)  # leaves the beginning alone
        assert not prepared.is_set()
        monkeypatch.setattr(standby, "PREPARE_AFTER_S", 0.01)
        async with recorder.episode() as episode:  # does not wait for an hour
            assert prepared.is_set()
            prepared.clear()
            episode.add_frame(make_frame(0))
            assert await asyncio.to_thread(prepared.wait, 60)
        monkeypatch.setattr(standby, "PREPARE_AFTER_S", 3600.0)
        await record_episode(recorder)
    assert leaked() == (set(), set())  # closing waits no hour either
    assert [episode["length"] for episode in episodes_of(tmp_path / "set")] == [10, 1, 10]


async def test_a_recorder_may_be_opened_and_closed_in_different_tasks(tmp_path):
    opening = asyncio.create_task(aiorecord.open("test/set", root=tmp_path / "set", fps=FPS, features=STATES))
    recorder = await opening
    await (await record_episode(recorder)).save
    await asyncio.create_task(recorder.aclose())
    assert leaked() == (set(), set())


def test_importing_the_package_is_cheap_and_brings_no_heavy_library():
    code = (
        "import sys, aiorecord; assert not {'av', 'pyarrow', 'numpy'} & set(sys.modules); "
        "from aiorecord import Recorder; "
        "assert not {'torch', 'datasets', 'pandas', 'lerobot', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
