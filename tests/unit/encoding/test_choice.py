"""Which plan each camera gets, and what is remembered of this machine."""

from __future__ import annotations

import json
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
from helpers import FEATURES, FPS, STATES, make_frame

from aiorecord import DepthEncoderConfig, Recorder, RGBEncoderConfig
from aiorecord.encoding.plans import calibration, speeds
from aiorecord.encoding.plans.calibration import calibrate
from aiorecord.encoding.plans.choice import LiveSpeed, choose_plans, live_candidates
from aiorecord.encoding.plans.measure import measure_live
from aiorecord.encoding.plans.speeds import SpeedQuestion, load_speed, speeds_path, store_speed
from aiorecord.errors import ConfigError, EncodeError
from aiorecord.features import Schema

H264 = RGBEncoderConfig(vcodec="h264")
FAST = LiveSpeed(frames_per_s=100, held_frames=3, open_s=0.002)
AXES = ["height", "width", "channels"]
SCHEMA = Schema(
    {
        "front": {"dtype": "video", "shape": (48, 64, 3), "names": AXES},
        "still": {"dtype": "image", "shape": (48, 64, 3), "names": AXES},
        "depth": {
            "dtype": "video",
            "shape": (48, 64, 1),
            "names": AXES,
            "info": {"is_depth_map": True},
        },
    }
)


def plans(encoder=H264, encode="auto", speed=FAST, fps=30):
    return choose_plans(SCHEMA.cameras, encoder, DepthEncoderConfig(), fps, encode, speed)


def test_only_colour_video_is_captured_live():
    chosen = plans()
    assert {key: plan.mode for key, plan in chosen.items()} == {
        "front": "live",
        "still": "deferred",
        "depth": "deferred",
    }
    assert {key: plan.codec for key, plan in chosen.items()} == {
        "front": "h264",
        "still": "png",
        "depth": "hevc",
    }
    assert "100 frames a second" in chosen["front"].why
    assert chosen["front"].as_dict()["measured"] == {"frames_per_s": 100, "held_frames": 3, "open_ms": 2.0}
    forced = plans(encode="live")
    assert [plan.mode for plan in forced.values()] == ["live", "deferred", "deferred"]


@pytest.mark.parametrize(
    ("speed", "why"),
    [
        (LiveSpeed(59, 3, 0.002), "needs 60"),
        (LiveSpeed(100, 31, 0.002), "holds back 31 frames"),
        (LiveSpeed(100, 3, 0.2), "stop the control loop for 200 ms"),
        ("its speed could not be measured: no room", "no room"),
    ],
)
def test_auto_wants_speed_little_lookahead_and_a_quick_opening(speed, why):
    plan = plans(speed=speed)["front"]
    assert plan.mode == "deferred"
    assert why in plan.why
    assert plans(encode="live", speed=speed)["front"].mode == "live"


@pytest.mark.parametrize("vcodec", ["libsvtav1", "libaom-av1", "hevc"])
def test_auto_never_measures_what_is_known_to_be_dear(vcodec):
    encoder = RGBEncoderConfig(vcodec=vcodec)
    assert live_candidates(SCHEMA.cameras, encoder, 30, "auto") == []
    assert plans(encoder)["front"].mode == "deferred"
    forced = plans(encoder, "live")["front"]
    assert forced.mode == "live"
    assert ";" in forced.why  # it says what that costs


@pytest.mark.parametrize("vcodec", ["h264", "h264_nvenc", "h264_videotoolbox", "hevc_nvenc"])
def test_candidates_are_measured_once_they_could_win(vcodec):
    encoder = RGBEncoderConfig(vcodec=vcodec)
    assert live_candidates(SCHEMA.cameras, encoder, 30, "auto") == ["front"]
    assert live_candidates(SCHEMA.cameras, encoder, 30, "live") == []
    assert live_candidates(SCHEMA.cameras, encoder, 30, "deferred") == []
    assert live_candidates(SCHEMA.cameras, encoder, 501, "auto") == []


def test_what_live_capture_cannot_do_is_deferred_whatever_is_asked():
    assert plans(RGBEncoderConfig(vcodec="h264", pix_fmt="rgb24"), "live")["front"].mode == "deferred"
    assert "500 fps" in plans(encode="live", fps=501)["front"].why


QUESTION = SpeedQuestion(H264, ((48, 64), (96, 128)), 30, None)


def test_speeds_are_kept_by_everything_they_depend_on(tmp_path):
    path = tmp_path / "a" / "speeds.json"
    assert load_speed(QUESTION, path) is None
    store_speed(QUESTION, FAST, path)
    assert load_speed(QUESTION, path) == FAST
    assert load_speed(SpeedQuestion(H264, ((96, 128), (48, 64)), 30, None), path) == FAST
    for other in (
        SpeedQuestion(H264, ((48, 64),), 30, None),
        SpeedQuestion(H264, QUESTION.sizes, 60, None),
        SpeedQuestion(H264, QUESTION.sizes, 30, 2),
        SpeedQuestion(RGBEncoderConfig(vcodec="h264", preset="fast"), QUESTION.sizes, 30, None),
        SpeedQuestion(RGBEncoderConfig(vcodec="h264", pix_fmt="yuv444p"), QUESTION.sizes, 30, None),
        SpeedQuestion(RGBEncoderConfig(vcodec="h264_nvenc"), QUESTION.sizes, 30, None),
    ):
        assert load_speed(other, path) is None
        store_speed(other, FAST, path)
    assert len(json.loads(path.read_text())["speeds"]) == 7


def test_another_machine_is_another_question(tmp_path, monkeypatch):
    path = tmp_path / "speeds.json"
    store_speed(QUESTION, FAST, path)
    monkeypatch.setattr(speeds, "described_machine", lambda: "another")
    assert load_speed(QUESTION, path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"version": 2, "speeds": {}}',
        '{"version": 1, "speeds": []}',
        '{"version": 1, "speeds": {"KEY": 3}}',
        '{"version": 1, "speeds": {"KEY": {"frames_per_s": "x", "held_frames": 1, "open_s": 0}}}',
        '{"version": 1, "speeds": {"KEY": {"frames_per_s": NaN, "held_frames": 1, "open_s": 0}}}',
        '{"version": 1, "speeds": {"KEY": {"frames_per_s": 1, "held_frames": Infinity, "open_s": 0}}}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_of_speeds_is_as_good_as_none(tmp_path, text):
    path = tmp_path / "speeds.json"
    if isinstance(text, str):
        path.write_text(text.replace('"KEY"', json.dumps(QUESTION.key())))
    else:
        path.write_bytes(text)
    assert load_speed(QUESTION, path) is None
    store_speed(QUESTION, FAST, path)
    assert load_speed(QUESTION, path) == FAST


def test_the_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert speeds_path() == tmp_path / "aiorecord" / "live_speeds.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert speeds_path() == tmp_path / ".cache" / "aiorecord" / "live_speeds.json"


def test_measuring_encodes_for_real():
    speed = measure_live(H264, [(48, 64), (96, 128)], 30, None, seconds=0.05)
    assert speed.frames_per_s > 0
    assert speed.open_s > 0
    assert 1 <= speed.held_frames < 60
    far = measure_live(RGBEncoderConfig(vcodec="h264", g=None), [(48, 64)], 30, None, seconds=0.3)
    assert far.held_frames > speed.held_frames


class Counting(ThreadPoolExecutor):
    def __init__(self) -> None:
        super().__init__(1)
        self.calls = 0

    def submit(self, fn, /, *args, **kwargs):
        self.calls += fn is measure_live
        return super().submit(fn, *args, **kwargs)


def test_calibrate_measures_once_and_again_on_request(tmp_path):
    path = tmp_path / "speeds.json"
    with Counting() as executor:
        first = calibrate(QUESTION, executor, seconds=0.02, path=path)
        assert calibrate(QUESTION, executor, seconds=0.02, path=path) == first
        assert executor.calls == 1
        second = calibrate(QUESTION, executor, seconds=0.02, path=path, refresh=True)
        assert executor.calls == 2
    assert load_speed(QUESTION, path) == second


def test_a_folder_that_cannot_be_written_costs_only_the_memory(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with Counting() as executor:
        assert calibrate(QUESTION, executor, seconds=0.02, path=tmp_path / "file" / "x").frames_per_s > 0
    assert "could not be stored" in caplog.text


class Never(Executor):
    def submit(self, fn, /, *args, **kwargs):
        return Future()


def test_a_measurement_that_does_not_come_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "PATIENCE_S", 0.01)
    with pytest.raises(EncodeError, match="could not be measured"):
        calibrate(QUESTION, Never(), path=tmp_path / "x")


async def test_the_recorder_measures_once_and_says_what_it_chose(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    async def record(root, **options):
        with Counting() as executor:
            async with Recorder(
                "a/b", root=root, fps=FPS, features=FEATURES, encode_executor=executor, **options
            ) as recorder:
                async with recorder.episode("Test") as episode:
                    for k in range(5):
                        episode.add_frame(make_frame(k))
                (plan,) = recorder.get_status().plans.values()
                kind = episode.save.job.source.manifest.cameras["observation.images.front"].capture
            return executor.calls, plan, kind

    calls, first, kind = await record(tmp_path / "1", rgb_encoder=H264)
    assert calls == 1
    assert (kind == "live") == (first.mode == "live")
    assert first.speed is not None
    calls, again, _ = await record(tmp_path / "2", rgb_encoder=H264)
    assert (calls, again) == (0, first)
    calls, plan, kind = await record(tmp_path / "3")  # the default codec
    assert (calls, plan.mode, kind) == (0, "deferred", "lossless")
    calls, plan, kind = await record(tmp_path / "4", rgb_encoder=H264, encode="live")
    assert (calls, plan.mode, kind) == (0, "live", "live")
    calls, plan, kind = await record(tmp_path / "5", rgb_encoder=H264, encode="deferred")
    assert (calls, plan.mode, kind) == (0, "deferred", "lossless")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("encode", "always"),
        ("save_order", "longest"),
        ("max_backlog_gb", -1),
        ("max_backlog_gb", float("nan")),
        ("max_backlog_gb", float("inf")),
    ],
)
def test_options_that_make_no_sense(tmp_path, option, value):
    with pytest.raises(ConfigError) as caught:
        Recorder("a/b", root=tmp_path, fps=30, features=STATES, **{option: value})
    assert caught.value.option == option
