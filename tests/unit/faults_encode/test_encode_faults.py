"""Encoders that are killed, crash, hang, run out of memory or refuse, in the real worker processes."""

import asyncio
import json
import subprocess
import sys
from concurrent.futures import Executor

import pytest
from helpers import FEATURES, FPS, H264, episodes_of, leaked, record_episode, rows_of
from injected_faults import FAULTS, FaultyPool

import aiorecord
from aiorecord import Recorder, Stage
from aiorecord.encoding import episode_encoding
from aiorecord.encoding.episode_encoding import ATTEMPTS
from aiorecord.media.video_file import count_packets, probe_video
from aiorecord.staging.folder import Staging
from aiorecord.workers import watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and limits of Linux")
ALL = [*FAULTS, "codec does not open", "encoder error"]
HANGS = ("SIGSTOP", "hang")
STALL_S = 6.0
"""More than a worker needs to start, on a busy machine too."""

TWO_CAMERAS = FEATURES | {"observation.images.wrist": FEATURES["observation.images.front"]}
DEPTH = FEATURES | {
    "observation.images.depth": {
        "dtype": "video",
        "shape": (48, 64, 1),
        "names": ["height", "width", "channels"],
        "info": {"is_depth_map": True},
    }
}


@pytest.fixture(autouse=True)
def _starved_sooner(monkeypatch):
    """A stopped worker is given up after twice the limit: five times would be minutes of waiting."""
    monkeypatch.setattr(watched, "STARVED_FACTOR", 2)
    monkeypatch.setattr(episode_encoding, "STARVED_FACTOR", 2)


@pytest.fixture
def pool():
    with FaultyPool(2) as pool:
        pool.warm()
        yield pool


def recorder_for(root, pool: Executor, features=FEATURES, **options):
    options = {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred"} | options
    return Recorder(
        "test/set", root=root / "set", fps=FPS, features=features, encode_executor=pool, **options
    )


def videos_of(root):
    return sorted((root / "set" / "videos").rglob("*.mp4"))


def codec_of(path):
    return probe_video(path)["video.codec"]


@pytest.mark.parametrize("fault", ALL)
async def test_a_fault_costs_a_second_attempt_and_nothing_else(tmp_path, pool, fault):
    pool.fault, pool.left = fault, 1

    async with recorder_for(tmp_path, pool, save_timeout=STALL_S) as recorder:
        first = (await record_episode(recorder, episode=0)).save
        second = (await record_episode(recorder, episode=1)).save
        assert [(await save).episode_index for save in (first, second)] == [0, 1]
        assert (first.attempts, second.attempts) == (2, 1)
        assert len(first.problems) == 1
        assert "observation.images.front" in first.problems[0]
        assert first.problems[0].endswith("it is encoded again.")
    assert leaked()[0] == set()
    assert [row["observation.state"][1] for row in rows_of(tmp_path / "set")] == [0] * 10 + [1] * 10
    assert sum(count_packets(path) for path in videos_of(tmp_path)) == 20
    assert not (tmp_path / "set" / ".aiorecord").exists()


@pytest.mark.parametrize("fault", ["SIGSEGV", "SIGSTOP", "RLIMIT_AS", "codec does not open"])
async def test_a_fault_that_stays_leaves_the_episode_staged_and_the_next_ones_commit(tmp_path, pool, fault):
    pool.fault, pool.left = fault, ATTEMPTS

    async with recorder_for(tmp_path, pool, save_timeout=STALL_S) as recorder:
        bad = (await record_episode(recorder, episode=0)).save
        good = (await record_episode(recorder, episode=1)).save
        with pytest.raises(aiorecord.SaveError, match="staging"):
            await bad
        assert (await good).episode_index == 0
        assert (bad.stage, bad.attempts) == (Stage.FAILED, ATTEMPTS)
        status = recorder.saver.get_status()
        assert (status["total_failed"], status["total_completed"]) == (1, 1)
        assert bad.folder.path in Staging(tmp_path / "set").episode_paths()
        bad.retry()
        assert (await bad).episode_index == 1
        assert bad.attempts == ATTEMPTS + 1
    assert [row["observation.state"][1] for row in rows_of(tmp_path / "set")] == [1] * 10 + [0] * 10


async def test_what_failed_is_finished_by_recover(tmp_path, pool):
    pool.fault, pool.left = "abort", ATTEMPTS

    async with recorder_for(tmp_path, pool) as recorder:
        bad = (await record_episode(recorder, episode=0)).save
        await (await record_episode(recorder, episode=1)).save
        with pytest.raises(aiorecord.SaveError):
            await bad
    done = subprocess.run(
        [sys.executable, "-m", "aiorecord", "recover", str(tmp_path / "set")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["observation.state"][1] for row in rows_of(tmp_path / "set")] == [1] * 10 + [0] * 10
    assert not (tmp_path / "set" / ".aiorecord").exists()


async def test_one_camera_hangs_while_the_other_is_encoded(tmp_path, pool):
    pool.fault, pool.left = "hang", 1

    async with recorder_for(tmp_path, pool, TWO_CAMERAS, save_timeout=STALL_S) as recorder:
        save = (await record_episode(recorder)).save
        assert (await save).success
        assert save.attempts == 2
        assert "no progress" in save.problems[0]


@pytest.mark.parametrize("first", [True, False])
async def test_the_fallback_codec_takes_over_where_it_is_allowed(tmp_path, pool, first):
    pool.fault, pool.left = "SIGKILL", ATTEMPTS if first else 0

    options = {"fallback_vcodec": "hevc", "save_timeout": 60}
    async with recorder_for(tmp_path, pool, **options) as recorder:
        saves = []
        for episode in range(4):
            if episode == 2:
                pool.left = ATTEMPTS
            saves.append((await record_episode(recorder, episode=episode)).save)
            assert (await saves[-1]).episode_index == episode
        bad = saves[2]
        assert bad.attempts == ATTEMPTS + 1
        assert "encoded with hevc instead" in bad.problems[-1]
        loose = [codec_of(path) for path in videos_of(tmp_path)]
        assert loose == ["hevc" if first else "h264", "h264", "hevc", "h264"]
    root = tmp_path / "set"
    info = json.loads((root / "meta/info.json").read_text())
    described = info["features"]["observation.images.front"]["info"]
    # It is what was encoded first, not what was to be.
    assert (described["video.codec"], described["video.pix_fmt"]) == ("hevc" if first else "h264", "yuv420p")
    # Packing has joined what is alike, and nothing else.
    packed = [(codec_of(path), count_packets(path)) for path in videos_of(tmp_path)]
    if first:
        assert packed == [("hevc", 10), ("h264", 10), ("hevc", 10), ("h264", 10)]
    else:
        assert packed == [("h264", 20), ("hevc", 10), ("h264", 10)]
    assert [e["length"] for e in episodes_of(root)] == [10] * 4
    lines = (root / "meta/aiorecord/episodes.jsonl").read_text().splitlines()
    encodes = [json.loads(line)["encode"]["observation.images.front"] for line in lines]
    assert [e.get("fallback_for") for e in encodes] == ["h264" if first else None, None, "h264", None]


async def test_the_fallback_also_stands_in_for_a_copy_of_what_was_captured_live(tmp_path, pool):
    pool.fault, pool.left = "killed at the start", ATTEMPTS

    async with recorder_for(tmp_path, pool, encode="live", fallback_vcodec="hevc") as recorder:
        save = (await record_episode(recorder)).save
        assert (await save).success
        assert save.attempts == ATTEMPTS + 1
    assert [(codec_of(path), count_packets(path)) for path in videos_of(tmp_path)] == [("hevc", 10)]


async def test_depth_has_no_fallback(tmp_path, pool):
    """12-bit codes are for the configured codec only; h264 would change what lerobot reads."""
    import numpy as np

    pool.fault, pool.left = "SIGKILL", 2 * ATTEMPTS

    async with recorder_for(tmp_path, pool, DEPTH, fallback_vcodec="h264") as recorder:
        async with recorder.episode("Test") as episode:
            for k in range(5):
                frame = {key: np.zeros(3, np.float32) for key in ("observation.state", "action")}
                frame["observation.images.front"] = np.full((48, 64, 3), 20 * k, np.uint8)
                frame["observation.images.depth"] = np.full((48, 64), 500 + k, np.uint16)
                episode.add_frame(frame)
        with pytest.raises(aiorecord.SaveError, match="SIGKILL"):
            await episode.save
        assert not any("h264" in p and "depth" in p for p in episode.save.problems)
        episode.save.retry()
        assert (await episode.save).success


async def test_taking_an_episode_back_ends_its_hanging_encode(tmp_path, pool):
    pool.fault, pool.left = "hang", 1

    async with recorder_for(tmp_path, pool, save_timeout=None) as recorder:
        hanging = (await record_episode(recorder, episode=0)).save
        while pool.left or not hanging.progress:  # it is in the worker, and has begun
            await asyncio.sleep(0.001)
        assert await recorder.take_back(hanging)
        assert (await (await record_episode(recorder, episode=1)).save).episode_index == 0


async def test_a_fallback_that_does_not_open_is_found_before_anything_is_written(tmp_path, pool):
    with pytest.raises(aiorecord.CodecUnavailableError, match="h264_nvenc"):
        async with recorder_for(tmp_path, pool, fallback_vcodec="h264_nvenc"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("vcodec", ["auto", "h266", ""])
def test_a_fallback_that_is_no_codec_is_refused(tmp_path, pool, vcodec):
    with pytest.raises(aiorecord.ConfigError, match="fallback_vcodec"):
        recorder_for(tmp_path, pool, fallback_vcodec=vcodec)
