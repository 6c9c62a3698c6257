"""What cannot work is refused before anything is opened, with the limit in the message."""

import asyncio
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aiorecord import Recorder
from aiorecord.clock import SystemClock, Ticker
from aiorecord.encoder_limits import LIMITS, check_video_limits
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.encoding.plans.apply import try_encoders
from aiorecord.encoding.stats import aggregate, column_stats, to_json
from aiorecord.errors import ConfigError, FeatureError, FrameError
from aiorecord.features import Schema
from aiorecord.robots.guarding.source_policy import SourcePolicy
from aiorecord.session import SessionPlan
from aiorecord.system.threads import Threads
from aiorecord.workers.pool import WorkerPool

STATE = {"observation.state": {"dtype": "float32", "shape": (1,), "names": None}}


def camera(width, height, channels=3, **info):
    return {"observation.images.front": {"dtype": "video", "shape": (height, width, channels), "info": info}}


@pytest.mark.parametrize(("width", "height"), [(16, 16), (24, 64), (200, 8), (2, 2), (16386, 64)])
def test_av1_below_and_above_its_sizes(width, height):
    with pytest.raises(ConfigError, match="x"):
        Recorder("me/x", fps=30, features=camera(width, height))


def test_the_fallback_is_judged_too():
    with pytest.raises(ConfigError, match="32x16"):
        Recorder(
            "me/x",
            fps=30,
            features=camera(16, 16),
            rgb_encoder=RGBEncoderConfig(vcodec="h264"),
            fallback_vcodec="libsvtav1",
        )


@pytest.mark.parametrize(("vcodec", "fps"), [("libsvtav1", 241), ("h264", 1001)])
def test_rates(vcodec, fps):
    with pytest.raises(ConfigError, match=str(fps - 1)):
        Recorder("me/x", fps=fps, features=camera(64, 48), rgb_encoder=RGBEncoderConfig(vcodec=vcodec))


async def _settled(schema, options, executor):
    threads = Threads(1)
    try:
        return await try_encoders(schema, options, 30, executor, threads)
    finally:
        await threads.aclose()


async def test_the_worker_that_tried_the_codecs_has_ended_with_the_trial():
    threads, executor = Threads(1), ThreadPoolExecutor(1)
    options = Recorder("me/x", fps=30, features=STATE).options
    settling = asyncio.create_task(
        try_encoders(Schema(camera(64, 64)), options, 30, executor, threads), name="settling"
    )
    while "aiorecord-encode-0" not in {thread.name for thread in threading.enumerate()}:
        await asyncio.sleep(0)
    settling.cancel()
    await asyncio.wait((settling,))
    left = {thread.name for thread in threading.enumerate()}
    await threads.aclose()
    executor.shutdown()
    assert settling.cancelled()
    assert "aiorecord-encode-0" not in left


@pytest.mark.parametrize("vcodec", list(LIMITS))
async def test_the_least_sizes_are_really_encoded_and_a_thread_pool_does_not_open_codecs(vcodec):
    width, height = LIMITS[vcodec].least
    options = Recorder("me/x", fps=30, features=STATE, rgb_encoder=RGBEncoderConfig(vcodec=vcodec)).options
    with ThreadPoolExecutor(1) as threads:
        submitted = []
        threads.submit = lambda *args: submitted.append(args[0])
        encoders = await _settled(Schema(camera(width, height)), options, threads)
    assert [encoder.vcodec for encoder in encoders.values()] == [vcodec]
    assert submitted == [int]  # whether it takes jobs at all


def test_a_crash_of_the_library_is_that_of_a_worker():
    """What the limits are for: SVT-AV1 below them divides by zero."""
    from aiorecord.media.codecs import _encode_grey
    from aiorecord.workers.pool import WorkerDiedError

    pool = WorkerPool(1)
    try:
        with pytest.raises(WorkerDiedError):
            pool.submit(_encode_grey, RGBEncoderConfig(), 24, 64, 30, None).result(60)
    finally:
        pool.shutdown()
    with pytest.raises(ConfigError):
        check_video_limits(RGBEncoderConfig(), 24, 64, 30)


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "x" * 256, "a\0b", "bad\udc80", ""])
def test_roots_that_lerobot_or_files_refuse(name, tmp_path):
    with pytest.raises(ConfigError, match="root"):
        Recorder("me/x", fps=30, features=STATE, root=name and f"{tmp_path}/{name}/data")


NO_NUMBERS = [math.nan, math.inf, -math.inf, -1.0]


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("option", ["buffer_mb", "save_timeout", "min_free_gb", "max_backlog_gb"])
def test_numbers_of_a_recorder(option, value):
    with pytest.raises(ConfigError, match=option):
        Recorder("me/x", fps=30, features=STATE, **{option: value})


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_numbers_of_a_session(value):
    for option in ("episode_time_s", "reset_time_s"):
        with pytest.raises(ConfigError, match=option):
            SessionPlan(**{option: value})
    for option in ("max_hold_s", "call_timeout_s", "reconnect_s", "backoff_s"):
        with pytest.raises(ConfigError, match=option):
            SourcePolicy(**{option: value})
    with pytest.raises(ConfigError):
        Ticker(SystemClock(), 30, value)
    with pytest.raises(ConfigError):
        Ticker(SystemClock(), value)


async def test_an_episode_without_a_tick():
    with pytest.raises(ConfigError, match=r"0\.0333"):
        SessionPlan(episode_time_s=0.01).check_rate(30)
    SessionPlan(episode_time_s=1 / 30).check_rate(30)
    with pytest.raises(ConfigError, match="no frame"):
        await Recorder("me/x", fps=30, features=STATE).record(None, None, seconds=0.01)


def test_grey_cameras_and_large_numbers():
    with pytest.raises(FeatureError, match="three equal channels"):
        Schema(camera(64, 48, 1, is_depth_map=False))
    grey = Schema(camera(64, 48, 1))
    with pytest.raises(FrameError, match="three equal channels"):
        grey.check({"observation.images.front": np.zeros((48, 64, 1), np.uint8)})
    schema = Schema({"count": {"dtype": "uint64", "shape": (2,)}})
    schema.check({"count": np.array([0, 2**63 - 1], np.uint64)})
    with pytest.raises(FrameError, match="9223372036854775807"):
        schema.check({"count": np.array([0, 2**63], np.uint64)})


def test_statistics_of_values_whose_squares_overflow_stay_finite():
    large = np.array([[-1.7e308], [1.7e308], [3.0]])
    parts = [{"state": column_stats(large)}, {"state": column_stats(large / 2)}]
    json.dumps(to_json(aggregate(parts)), allow_nan=False)
    stats = aggregate(parts)["state"]
    assert all(np.isfinite(value).all() for value in stats.values())
    scaled = aggregate([{"state": column_stats(large / 2**600)}, {"state": column_stats(large / 2**601)}])
    assert stats["std"] == pytest.approx(scaled["state"]["std"] * 2.0**600, rel=1e-9)
    assert stats["count"].tolist() == [6]
