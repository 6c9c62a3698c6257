"""A machine that gives no more threads, processes or temporary files: a clear error, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import aiorecord
from aiorecord.encoding.plans.trial import try_encoder
from aiorecord.errors import AiorecordError, CodecUnavailableError, StateError, StorageError
from aiorecord.system.storage import temporary_folder
from aiorecord.workers.pool import WorkerPool

FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
    "observation.images.front": {
        "dtype": "video",
        "shape": (48, 64, 3),
        "names": ["height", "width", "channels"],
    },
}
ENCODER = aiorecord.RGBEncoderConfig(vcodec="h264", preset="ultrafast")
OPTIONS = {"fps": 30, "features": FEATURES, "rgb_encoder": ENCODER, "encode": "deferred", "min_free_gb": 0}


class Scarce:
    """Lets so many calls through and refuses all later ones."""

    def __init__(self, allowed: int) -> None:
        self.allowed, self.calls = allowed, 0

    def take(self) -> bool:
        self.calls += 1
        return self.calls <= self.allowed


async def record(root: Path) -> None:
    recorder = aiorecord.Recorder(
        "case/data",
        root=root,
        fps=30,
        features=FEATURES,
        rgb_encoder=ENCODER,
        encode="deferred",
        min_free_gb=0,
    )
    async with recorder, recorder.episode(task="t") as episode:
        for index in range(3):
            image = np.full((48, 64, 3), index, np.uint8)
            episode.add_frame(
                {"observation.state": np.zeros(2, np.float32), "observation.images.front": image}
            )


def threads_of_ours() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("aiorecord")}


def test_wherever_threads_run_out_the_recorder_says_so_and_lets_everything_go(tmp_path, monkeypatch):
    start = threading.Thread.start
    scarce = Scarce(0)

    def sparing(thread: threading.Thread) -> None:
        # Those of the standard library's own pools for files and names are no subject here.
        if thread.name.startswith("aiorecord") and not scarce.take():
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", sparing)
    for allowed in range(100):
        root = tmp_path / str(allowed)
        scarce.allowed, scarce.calls = allowed, 0
        try:
            asyncio.run(record(root))
        except AiorecordError as error:
            assert "thread" in str(error), error
        else:
            if scarce.calls <= allowed:
                break
        assert not threads_of_ours(), f"after {allowed} threads"
        assert not (root / ".aiorecord" / "lock").exists()
    else:
        pytest.fail("it never got all the threads that it asked for")
    assert allowed > 5
    monkeypatch.undo()
    for root in tmp_path.iterdir():
        if (root / "meta" / "info.json").exists():
            asyncio.run(opened_again(root))


async def opened_again(root: Path) -> None:
    async with aiorecord.Recorder("case/data", root=root, resume=True, **OPTIONS):
        pass


@pytest.mark.parametrize("allowed", [0, 1, 2])
async def test_where_processes_run_out_the_recorder_says_so_and_lets_everything_go(
    tmp_path, monkeypatch, allowed
):
    scarce = Scarce(allowed)
    popen = subprocess.Popen.__init__

    def sparing(self, *args, **kwargs):
        if not scarce.take():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        popen(self, *args, **kwargs)

    monkeypatch.setattr(subprocess.Popen, "__init__", sparing)
    before = set(os.listdir("/dev/fd"))
    try:
        await record(tmp_path / "data")
    except AiorecordError as error:
        assert "Could not start a worker process" in str(error)
    else:
        assert allowed
    assert not threads_of_ours()
    assert not (tmp_path / "data" / ".aiorecord" / "lock").exists()
    assert len(os.listdir("/dev/fd")) <= len(before) + 1  # of listing itself


def test_without_a_temporary_folder_the_error_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match="Set TMPDIR"), temporary_folder("check"):
        pass


def test_a_session_records_without_a_temporary_folder(tmp_path):
    """Only measuring needs one; it is left out then."""
    code = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere']"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(code)
    root = tmp_path / "data"
    flags = [
        *("--robot.type=sim", "--robot.cameras={front: {width: 64, height: 48}}", "--teleop.type=sim"),
        *(
            "--dataset.repo_id=case/data",
            f"--dataset.root={root}",
            "--dataset.single_task=t",
            "--display=none",
        ),
        *("--dataset.num_episodes=1", "--dataset.episode_time_s=0.3", "--dataset.reset_time_s=0"),
        *("--dataset.rgb_encoder.vcodec=h264", "--play_sounds=false", "--display=none"),
    ]
    command = [sys.executable, "-m", "aiorecord"]
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([*command, "record", *flags], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check = subprocess.run(
        [sys.executable, "-m", "aiorecord", "check", str(root)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 3
    assert "Set TMPDIR" in check.stdout
    assert "Traceback" not in check.stderr


def spin(*_):
    while True:
        pass


def crash(*_):
    os.kill(os.getpid(), 11)


async def test_a_codec_that_hangs_when_it_is_tried_is_given_up():
    with WorkerPool(1) as pool:
        with pytest.raises(CodecUnavailableError, match=r"no answer.*Choose another vcodec"):
            await try_encoder(pool, ENCODER, 64, 48, 30, None, check=spin, limit_s=0.3)
        with pytest.raises(CodecUnavailableError, match="SIGSEGV"):
            await try_encoder(pool, ENCODER, 64, 48, 30, None, check=crash)
        assert await try_encoder(pool, ENCODER, 64, 48, 30, None) == "h264"


async def test_cancelling_the_trial_of_a_codec_ends_its_worker():
    with WorkerPool(1) as pool:
        task = asyncio.create_task(try_encoder(pool, ENCODER, 64, 48, 30, None, check=spin))
        while not pool.pids():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await try_encoder(pool, ENCODER, 64, 48, 30, None) == "h264"


async def test_an_executor_that_is_shut_down_while_a_codec_is_tried_is_told():
    pool = WorkerPool(1)
    running = pool.submit(spin)
    task = asyncio.create_task(try_encoder(pool, ENCODER, 64, 48, 30, None))
    await asyncio.sleep(0)
    while not pool.pids():
        await asyncio.sleep(0.01)
    pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(StateError, match="shut down"):
        await task
    pool.abort(running)
    pool.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit does not hold")
@pytest.mark.parametrize("megabytes", [300])
def test_a_limit_of_memory_ends_the_command_with_one_line(tmp_path, megabytes):
    import resource

    size = megabytes << 20
    done = subprocess.run(
        [sys.executable, "-m", "aiorecord", "info", str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
