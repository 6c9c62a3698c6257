"""Disks that fill up, while an episode is recorded, encoded, committed and packed, and have room again."""

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from helpers import FPS, rows_of, videos_of
from small_disk import break_ext4, fill, small_disk

import aiorecord
from aiorecord import Recorder, RGBEncoderConfig, Stage
from aiorecord.encoding.camera_encoding import encode_camera
from aiorecord.features import Schema
from aiorecord.media.video_file import count_packets
from aiorecord.saving import disk_guard
from aiorecord.staging.folder import Staging
from aiorecord.staging.rows import read_rows
from aiorecord.system import storage
from aiorecord.workers.pool import WorkerPool

ROUGH = RGBEncoderConfig(vcodec="h264", crf=45, preset="ultrafast")
HEIGHT, WIDTH = 120, 160
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
    "observation.images.front": {
        "dtype": "video",
        "shape": (HEIGHT, WIDTH, 3),
        "names": ["height", "width", "channels"],
    },
    "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
}
KINDS = ["tmpfs", "ext4"]


def noise(k, episode=0):
    """A frame that no lossless codec makes small: about 50 kB."""
    pixels = np.random.default_rng([episode, k]).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    state = np.array([k, episode], np.float32)
    return {"observation.state": state, "action": state, "observation.images.front": pixels}


def recorder_for(disk, **options):
    options = {"rgb_encoder": ROUGH, "encode_workers": 1, "encode": "deferred", "min_free_gb": 0} | options
    return Recorder("test/set", root=disk / "set", fps=FPS, features=FEATURES, **options)


async def record(recorder, length, episode=0, **options):
    async with recorder.episode("Test", **options) as recording:
        for k in range(length):
            recording.add_frame(noise(k, episode))
    return recording.save


def contents(root):
    """(episode's number, rows) of each committed episode; every video must have a frame for every row."""
    rows = rows_of(root)
    info = json.loads((root / "meta/info.json").read_text())
    rows = rows[: info["total_frames"]]
    assert len(rows) == info["total_frames"]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    found = []
    for index in range(info["total_episodes"]):
        own = [row for row in rows if row["episode_index"] == index]
        assert [row["observation.state"][0] for row in own] == list(range(len(own)))
        found.append((int(own[0]["observation.state"][1]), len(own)))
    assert sum(count_packets(path) for path in videos_of(root)) == len(rows)
    return found


@pytest.fixture(params=KINDS)
def disk(tmp_path, request):
    with small_disk(tmp_path, request.param, 48) as disk:
        yield disk


@pytest.fixture
def watchful(monkeypatch):
    monkeypatch.setattr(disk_guard, "PERIOD_S", 0.01)
    monkeypatch.setattr(disk_guard, "RETRY_AFTER_S", 0.01)


async def test_the_episode_ends_before_the_reserve_is_touched(disk, watchful):
    async with recorder_for(disk, min_free_gb=0.02) as recorder:
        async with recorder.episode("Test") as episode:
            async for tick in recorder.ticks(fps=60):  # 3 MB a second
                episode.add_frame(noise(tick.index))
        assert "min_free_gb" in episode.end_reason
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        assert free > 20_000_000
        result = await episode.save
        assert result.success
        assert result.length == tick.index + 1
        # The capture is deleted now; there is room again.
        assert (await record(recorder, 5, 1)).length == 5
    found = contents(disk / "set")
    assert [episode for episode, _ in found] == [0, 1]
    assert found[0][1] > 30


async def test_no_episode_begins_on_a_full_disk_and_one_does_when_there_is_room_again(disk):
    async with recorder_for(disk, min_free_gb=0.02) as recorder:
        await (await record(recorder, 3, 0))
        ballast = fill(disk, leave=10 << 20)
        await recorder.core.disk.measure()
        assert recorder.disk_is_full
        assert recorder.get_status().disk.is_full
        with pytest.raises(aiorecord.DiskFullError, match=r"min_free_gb.*resume") as caught:
            await record(recorder, 3, 1)
        assert caught.value.free_bytes < 11 << 20
        ballast.unlink()
        await (await record(recorder, 3, 2))
    assert contents(disk / "set") == [(0, 3), (2, 3)]


async def test_beginning_waits_for_saves_that_make_room(disk):
    with WaitingPool(1) as pool:
        async with recorder_for(disk, min_free_gb=0.02, encode_executor=pool) as recorder:
            pool.go.clear()
            save = await record(recorder, 100, 0, hold=True)
            await save.durable()
            fill(disk, leave=18 << 20)
            await recorder.core.disk.measure()
            assert recorder.disk_is_full
            beginning = asyncio.create_task(record(recorder, 3, 1))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not beginning.done()
            pool.go.set()
            await beginning
            assert save.stage is Stage.COMMITTED
            (disk / "ballast").unlink()
    assert contents(disk / "set") == [(0, 100), (1, 3)]


class WaitingPool(WorkerPool):
    """Real worker processes; encodes wait for `go`."""

    def __init__(self, workers):
        super().__init__(workers)
        self.go = threading.Event()
        self.go.set()

    def submit(self, fn, /, *args, **kwargs):
        if fn is encode_camera:
            assert self.go.wait(60)
        return super().submit(fn, *args, **kwargs)


async def test_a_disk_that_fills_while_recording_keeps_what_it_took(disk):
    async with recorder_for(disk) as recorder:
        await (await record(recorder, 4, 0))
        async with recorder.episode("Test") as episode:
            for k in range(100_000):
                if k == 20:
                    ballast = fill(disk, leave=1 << 20)
                try:
                    episode.add_frame(noise(k, 1))
                except aiorecord.StorageError:
                    break
                await asyncio.sleep(0)
            assert episode.end_reason is not None
            assert episode.frames > 20
        frames, save = episode.frames, episode.save
        with pytest.raises(aiorecord.SaveError):
            await save
        assert contents(disk / "set") == [(0, 4)]
        ballast.unlink()
        save.retry()
        result = await save
        assert 20 <= result.length <= frames
        assert f"{frames - result.length} of {frames} frames are lost" in save.problems[-1]
        await (await record(recorder, 4, 2))
    length = result.length
    assert contents(disk / "set") == [(0, 4), (1, length), (2, 4)]
    lines = (disk / "set/meta/aiorecord/episodes.jsonl").read_text().splitlines()
    record_of = json.loads(lines[1])
    assert record_of["interrupted"]
    assert record_of["cameras"]["observation.images.front"]["lost"] > 0
    assert "No space" in record_of["facts"]["end_reason"]


async def test_what_a_full_disk_kept_from_being_finished_is_finished_by_recover(disk):
    """The disk stays full until the program has ended."""

    async def main():
        async with recorder_for(disk) as recorder:
            await (await record(recorder, 4, 0))
            async with recorder.episode("Test") as episode:
                for k in range(100_000):
                    if k == 60:
                        rows = disk / "set/.aiorecord/episodes" / episode.id / "rows.arrows"
                        while read_rows(rows, Schema(FEATURES)).num_rows < 30:
                            await asyncio.sleep(0.01)  # they are flushed every second
                        fill(disk)
                    try:
                        episode.add_frame(noise(k, 1))
                    except aiorecord.StorageError:
                        break
                    await asyncio.sleep(0)
        return episode.frames

    with pytest.raises(aiorecord.SaveError, match="recover"):
        await main()
    assert contents(disk / "set") == [(0, 4)]
    (disk / "ballast").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "aiorecord", "recover", str(disk / "set")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 3), done.stdout + done.stderr
    assert contents(disk / "set")[0] == (0, 4)
    episode, length = contents(disk / "set")[1]
    assert episode == 1
    assert length > 0
    assert not (disk / "set" / ".aiorecord").exists()


async def test_an_ext4_that_its_kernel_makes_read_only_keeps_what_was_committed(tmp_path):
    """As a failing disk does it: an error inside the filesystem, from then on nothing is written."""
    found_out = []
    with small_disk(tmp_path, "ext4", 48) as disk:

        async def main():
            async with recorder_for(disk) as recorder:
                await (await record(recorder, 4, 0))
                save = await record(recorder, 6, 1, hold=True)
                while save.encoded is None:
                    await asyncio.sleep(0.01)
                await recorder.core.standby.wait()  # a folder that cannot be deleted when it closes
                break_ext4(disk)
                save.release()
                with pytest.raises(aiorecord.SaveError, match=r"Read-only|Input/output"):
                    await save
                assert contents(disk / "set") == [(0, 4)]
                found_out.append((await recorder.core.disk.measure()).is_full)
                with pytest.raises(aiorecord.StorageError, match="read-only"):
                    await record(recorder, 3, 2)
                found_out.append("in time")

        with pytest.raises(aiorecord.AiorecordError):
            await main()
        assert found_out == [True, "in time"]  # what is raised on closing hides what failed before
        assert contents(disk / "set") == [(0, 4)]
        rescued = tmp_path / "rescued"
        shutil.copytree(disk / "set", rescued)
        done = subprocess.run(
            [sys.executable, "-m", "aiorecord", "recover", str(rescued)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert contents(rescued) == [(0, 4), (1, 6)]


async def test_a_save_goes_on_by_itself_when_there_is_room_again(disk, watchful):
    with WaitingPool(1) as pool:
        async with recorder_for(disk, encode_executor=pool) as recorder:
            pool.go.clear()
            save = await record(recorder, 30, 0)
            await save.durable()
            ballast = fill(disk)
            pool.go.set()
            with pytest.raises(aiorecord.SaveError, match="staging"):
                await save
            ballast.unlink()
            while save.stage is not Stage.COMMITTED:
                await asyncio.sleep(0.01)
            assert save.attempts >= 2
    assert contents(disk / "set") == [(0, 30)]


async def test_a_commit_that_the_disk_refuses_leaves_the_dataset_as_it_was(disk):
    async with recorder_for(disk) as recorder:
        await (await record(recorder, 4, 0))
        save = await record(recorder, 6, 1, hold=True)
        while save.encoded is None:
            await asyncio.sleep(0.01)
        ballast = fill(disk)
        save.release()
        with pytest.raises(aiorecord.SaveError, match="staging"):
            await save
        assert contents(disk / "set") == [(0, 4)]
        assert save.folder.path in Staging(disk / "set").episode_paths()
        ballast.unlink()
        later = await record(recorder, 5, 2)
        assert (await later).episode_index == 1
        save.retry()
        assert (await save).episode_index == 2
    assert contents(disk / "set") == [(0, 4), (2, 5), (1, 6)]


async def test_a_packing_that_the_disk_refuses_leaves_the_dataset_as_it_was(disk):
    async with recorder_for(disk, pack=False) as recorder:
        for episode in range(3):
            await (await record(recorder, 5, episode))
        ballast = fill(disk)
        with pytest.raises(aiorecord.StorageError, match="free space"):
            await recorder.pack()
        assert contents(disk / "set") == [(0, 5), (1, 5), (2, 5)]
        ballast.unlink()
        assert (await recorder.pack()).video_files == 1
    assert contents(disk / "set") == [(0, 5), (1, 5), (2, 5)]


async def test_an_input_output_error_in_a_commit_is_tried_again_by_itself(tmp_path, watchful, monkeypatch):
    publish, failures = storage.publish, [errno.EIO, errno.EIO, errno.EROFS]

    def faulty(temporary, final):
        if final.name == "info.json" and failures and final.parent.parent.name == "set":
            raise OSError(failures.pop(), "injected")
        publish(temporary, final)

    async with recorder_for(tmp_path) as recorder:
        monkeypatch.setattr(storage, "publish", faulty)
        save = await record(recorder, 5, 0)
        with pytest.raises(aiorecord.SaveError, match="injected"):
            await save
        while save.stage is not Stage.COMMITTED:
            await asyncio.sleep(0.01)
        assert not failures
    assert contents(tmp_path / "set") == [(0, 5)]


LIMITED = """
    import asyncio, resource, sys
    from pathlib import Path
    sys.path[:0] = {path!r}
    from test_disk_full import noise, record, recorder_for
    import aiorecord

    async def main(place):
        async with recorder_for(place) as recorder:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
            async with recorder.episode("Test") as episode:
                for k in range(10_000):
                    try:
                        episode.add_frame(noise(k))
                    except aiorecord.StorageError:
                        break
                    await asyncio.sleep(0)
            print(episode.end_reason)
            result = await episode.save
            assert 5 < result.length < episode.frames, result
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert (await (await record(recorder, 5, 1))).success

    asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_limit_on_the_size_of_files_ends_the_episode_and_keeps_it(tmp_path):
    here = os.path.dirname(__file__)
    code = textwrap.dedent(LIMITED).format(path=[here, os.path.join(here, "..", "..")])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    found = contents(tmp_path / "set")
    assert [episode for episode, _ in found] == [0, 1]
    assert found[0][1] > 5
