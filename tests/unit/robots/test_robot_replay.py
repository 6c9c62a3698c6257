"""Replay of datasets and video files, made here with PyAV and pyarrow."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiorecord.errors import ConfigError, SourceError, StateError
from aiorecord.features import Schema
from aiorecord.robots import (
    ReplayRobot,
    ReplayRobotConfig,
    ReplayTeleopConfig,
    ReplayTeleoperator,
    Robot,
    Teleoperator,
)
from aiorecord.robots.replay.prefetch import Prefetch
from aiorecord.robots.replay.video_source import DEPTH_CODES

FRONT, DEPTH, SNAP = (f"observation.images.{name}" for name in ("front", "depth", "snap"))
W, H = 64, 48
LENGTHS = (7, 5, 9)


def level(number: int) -> int:
    """The grey level that marks frame `number` of all."""
    return 20 + number * 9


def write_video(path: Path, levels: list[int], *, fps: int = 30, depth: bool = False) -> None:
    """Frames of one value each, losslessly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1" if depth else "libx264", rate=fps)
        stream.width, stream.height = W, H
        stream.pix_fmt = "gray12le" if depth else "yuv444p"
        stream.time_base = Fraction(1, fps)
        if not depth:
            stream.options = {"qp": "0", "g": "2", "preset": "ultrafast"}
        for number, value in enumerate(levels):
            if depth:
                frame = av.VideoFrame(W, H, "gray12le")
                plane = frame.planes[0]
                plane.update(np.full((H, plane.line_size // 2), value, np.uint16).tobytes())
            else:
                frame = av.VideoFrame.from_ndarray(np.full((H, W, 3), value, np.uint8), format="rgb24")
                frame = frame.reformat(format="yuv444p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def png(value: int) -> bytes:
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = W, H, "rgb24", Fraction(1, 30)
    frame = av.VideoFrame.from_ndarray(np.full((H, W, 3), value, np.uint8), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def make_dataset(root: Path) -> Path:
    """Three episodes; the first two share a video file, a depth file and a data file."""
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["pan", "lift"]},
        "observation.force": {"dtype": "float64", "shape": [1], "names": None},
        "observation.grid": {"dtype": "int64", "shape": [2, 2], "names": None},
        FRONT: {
            "dtype": "video",
            "shape": [H, W, 3],
            "names": ["height", "width", "channels"],
            "info": {"video.codec": "h264", "is_depth_map": False},
        },
        DEPTH: {
            "dtype": "video",
            "shape": [H, W, 1],
            "names": ["height", "width", "channels"],
            "info": {"is_depth_map": True, "depth_unit": "mm", "video.use_log": False,
                     "video.depth_min": 0.0, "video.depth_max": 4.095},
        },
        SNAP: {"dtype": "image", "shape": [H, W, 3], "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": [2], "names": ["pan", "lift"]},
        "note": {"dtype": "string", "shape": [1], "names": None},
        "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    }  # fmt: skip
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0",
        "fps": 30,
        "total_episodes": len(LENGTHS),
        "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    files = [0, 0, 1]
    starts = np.cumsum([0, *LENGTHS])
    episodes = []
    for index, length in enumerate(LENGTHS):
        from_s = float(sum(LENGTHS[i] for i in range(index) if files[i] == files[index]) / 30)
        row = {
            "episode_index": index,
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": files[index],
        }
        for key in (FRONT, DEPTH):
            row |= {
                f"videos/{key}/chunk_index": 0,
                f"videos/{key}/file_index": files[index],
                f"videos/{key}/from_timestamp": from_s,
            }
        episodes.append(row)
    # Part of a commit that info.json does not count yet.
    episodes.append({**episodes[-1], "episode_index": 3, "data/file_index": 9})
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    for file in (0, 1):
        numbers = [
            (index, number)
            for index in range(len(LENGTHS))
            if files[index] == file
            for number in range(starts[index], starts[index + 1])
        ]
        levels = [level(number) for _, number in numbers]
        write_video(root / f"videos/{FRONT}/chunk-000/file-{file:03d}.mp4", levels)
        codes = [100 + number for _, number in numbers]
        write_video(root / f"videos/{DEPTH}/chunk-000/file-{file:03d}.mkv", codes, depth=True)
        (root / f"videos/{DEPTH}/chunk-000/file-{file:03d}.mkv").rename(
            root / f"videos/{DEPTH}/chunk-000/file-{file:03d}.mp4"
        )
        states = [[float(n), float(-n)] for _, n in numbers]
        table = pa.table(
            {
                "observation.state": pa.array(states, pa.list_(pa.float32(), 2)),
                "observation.force": pa.array([n / 2 for _, n in numbers], pa.float64()),
                "observation.grid": pa.array([[[n, 1], [2, 3]] for _, n in numbers]),
                SNAP: pa.array([{"bytes": png(level(n)), "path": None} for _, n in numbers]),
                "action": pa.array([[n + 0.5, 0.0] for _, n in numbers], pa.list_(pa.float32())),
                "note": pa.array([f"frame {n}" for _, n in numbers]),
                "episode_index": pa.array([index for index, _ in numbers], pa.int64()),
            }
        )
        pq.write_table(table, root / f"data/chunk-000/file-{file:03d}.parquet")
    return root


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("replay") / "dataset")


@pytest.fixture
def own_dataset(tmp_path: Path) -> Path:
    """One that a test may damage."""
    return make_dataset(tmp_path / "dataset")


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("aiorecord-replay")] == []


async def observe(robot: ReplayRobot, count: int) -> list[dict[str, Any]]:
    await robot.connect()
    try:
        return [await robot.get_observation() for _ in range(count)]
    finally:
        await robot.disconnect()


async def run(config: ReplayRobotConfig, count: int) -> list[dict[str, Any]]:
    return await observe(ReplayRobot(config), count)


async def test_dataset_is_replayed_in_order_and_looped(dataset: Path) -> None:
    robot = ReplayRobot(ReplayRobotConfig(root=str(dataset)))
    teleop = ReplayTeleoperator(ReplayTeleopConfig(root=str(dataset)))
    assert isinstance(robot, Robot)
    assert isinstance(teleop, Teleoperator)
    assert robot.action_features == teleop.action_features
    schema = Schema({**robot.observation_features, **teleop.action_features})
    total = sum(LENGTHS)

    await robot.connect()
    await robot.connect()
    await teleop.connect()
    for step in range(2 * total + 3):
        number = step % total
        observation, action = await robot.get_observation(), await teleop.get_action()
        assert await robot.send_action(action) is action
        checked = schema.check({**observation, **action})
        assert checked.values["observation.state"].tolist() == [number, -number]
        assert checked.values["observation.force"].tolist() == [number / 2]
        assert checked.values["observation.grid"].tolist() == [[number, 1], [2, 3]]
        assert checked.values["action"].tolist() == [number + 0.5, 0.0]
        for key in (FRONT, SNAP):
            image = checked.images[key]
            assert image.dtype == np.uint8
            assert np.abs(image.astype(int) - level(number)).max() <= 2
        assert checked.images[DEPTH].dtype == np.uint16
        assert (checked.images[DEPTH] == 100 + number).all()  # linear codes of 1 mm
    await robot.disconnect()
    await robot.disconnect()
    await teleop.disconnect()
    await teleop.disconnect()


async def test_chosen_episodes_in_their_order(dataset: Path) -> None:
    config = ReplayRobotConfig(root=str(dataset), episodes=[2, 1], cameras=["front"])
    robot = ReplayRobot(config)
    assert [key for key in robot.observation_features if "images" in key] == [FRONT]
    numbers = [*range(12, 21), *range(7, 12), *range(12, 21)]
    for number, observation in zip(numbers, await observe(robot, len(numbers)), strict=True):
        assert observation["observation.state"][0] == number
        assert abs(int(observation[FRONT][0, 0, 0]) - level(number)) <= 2


async def test_dataset_can_be_scaled(dataset: Path) -> None:
    config = ReplayRobotConfig(root=str(dataset), cameras=["front"], width=32, height=24)
    robot = ReplayRobot(config)
    assert robot.observation_features[FRONT]["shape"] == (24, 32, 3)
    assert (await observe(robot, 1))[0][FRONT].shape == (24, 32, 3)


async def test_depth_in_metres_and_on_a_log_scale(own_dataset: Path) -> None:
    file = own_dataset / "meta/info.json"
    info = json.loads(file.read_text())
    info["features"][DEPTH]["info"] = {"is_depth_map": True, "depth_unit": "m"}
    file.write_text(json.dumps(info))
    observation = (await run(ReplayRobotConfig(root=str(own_dataset), cameras=["depth"]), 1))[0]
    low, high, shift = 0.01, 10.0, 3.5  # lerobot's defaults
    share = 100 / (DEPTH_CODES - 1)
    expected = (low + shift) * ((high + shift) / (low + shift)) ** share - shift
    assert observation[DEPTH].dtype == np.float32
    assert np.allclose(observation[DEPTH], expected, atol=1e-6)


async def test_videos_are_looped_with_made_up_joints(tmp_path: Path) -> None:
    for name, count in (("a", 5), ("b", 3)):
        write_video(tmp_path / f"{name}.mp4", [level(n) for n in range(count)])
    videos = {"front": str(tmp_path / "a.mp4"), "side": str(tmp_path / "b.mp4")}
    robot = ReplayRobot(ReplayRobotConfig(videos=videos, width=48))
    teleop = ReplayTeleoperator()
    schema = Schema({**robot.observation_features, **teleop.action_features})
    assert schema["observation.images.front"].shape == (H, 48, 3)

    async def actions(count: int) -> list[Any]:
        await teleop.connect()
        out = [(await teleop.get_action())["action"] for _ in range(count)]
        await teleop.disconnect()
        return out

    frames = await observe(robot, 16)
    acted = await actions(16)
    states = np.array([frame["observation.state"] for frame in frames])
    for step, frame in enumerate(frames):
        schema.check({**frame, "action": acted[step]})
        for name, count in (("front", 5), ("side", 3)):
            assert abs(int(frame[f"observation.images.{name}"][0, 0, 0]) - level(step % count)) <= 2
    assert np.allclose(states[3:], np.array(acted)[:-3], atol=1e-4)  # the robot follows by 0.1 s
    assert np.abs(np.diff(states, axis=0)).max() < 10
    again = await observe(robot, 16)
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(frames, again, strict=True) for key in a)


async def test_videos_with_the_states_of_a_dataset(dataset: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [200])
    config = ReplayRobotConfig(root=str(dataset), videos={"door": str(tmp_path / "a.mp4")})
    observation = (await run(config, 2))[1]
    assert [key for key in observation if "images" in key] == ["observation.images.door"]
    assert observation["observation.state"].tolist() == [1, -1]


async def test_a_slow_reader_loses_nothing_and_memory_is_bounded(tmp_path: Path) -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    prefetch = Prefetch(items(), "aiorecord-replay-test", 4)  # type: ignore[arg-type]
    prefetch.start()
    for number in range(200):
        assert await prefetch.get() == number
        assert prefetch.ready <= 4
        assert len(made) <= number + 6
    await prefetch.aclose()
    await prefetch.aclose()
    with pytest.raises((StateError, AssertionError)):
        while True:
            assert await prefetch.get() <= 206


async def test_waiting_for_a_frame_can_be_cancelled() -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        for number in range(3):
            assert gate.wait(10)
            yield number

    prefetch = Prefetch(items(), "aiorecord-replay-test", 4)  # type: ignore[arg-type]
    prefetch.start()
    waiting = asyncio.create_task(prefetch.get())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert [await prefetch.get() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SourceError, match="nothing left"):
        await prefetch.get()
    assert prefetch.waits >= 1
    await prefetch.aclose()


async def test_calls_when_not_connected(dataset: Path) -> None:
    robot = ReplayRobot(ReplayRobotConfig(root=str(dataset)))
    teleop = ReplayTeleoperator()
    for call in (robot.get_observation(), robot.send_action({}), teleop.get_action()):
        with pytest.raises(StateError, match="connect"):
            await call
    await robot.disconnect()
    await teleop.disconnect()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "something to replay"),
        ({"width": 31}, "width must be an even"),
        ({"prefetch": 0}, "prefetch"),
        ({"fps": 0}, "fps"),
        ({"root": "/nonexistent"}, "no meta/info.json"),
        ({"videos": {"front": "/nonexistent.mp4"}}, "no video file"),
        ({"videos": {"front": "x.mp4"}, "cameras": ["front"]}, "name the videos"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReplayRobot(ReplayRobotConfig(**settings))


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    text, sound = tmp_path / "a.mp4", tmp_path / "b.wav"
    text.write_text("not a video")
    with av.open(str(sound), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(ConfigError, match="cannot be read as a video") as caught:
        ReplayRobot(ReplayRobotConfig(videos={"front": str(text)}))
    assert caught.value.option == "videos.front"
    with pytest.raises(ConfigError, match="no video stream"):
        ReplayRobot(ReplayRobotConfig(videos={"front": str(sound)}))


def test_unknown_cameras_and_episodes(dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"no camera 'left'; it has: front, depth, snap"):
        ReplayRobot(ReplayRobotConfig(root=str(dataset), cameras=["left"]))
    with pytest.raises(ConfigError, match="no episode 3"):  # not committed
        ReplayRobot(ReplayRobotConfig(root=str(dataset), episodes=[0, 3]))
    with pytest.raises(ConfigError, match="nothing to replay"):
        ReplayTeleoperator(ReplayTeleopConfig(root=str(dataset), episodes=[]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebase_version": "v2.1"}, "version v2.1.*convert_dataset_v21_to_v30"),
        ({"features": {}}, "cannot be read"),
        ({"data_path": "{nonsense}"}, "cannot be read"),
        ({"total_episodes": 0}, "no episodes yet"),
        ({"total_episodes": "many"}, "cannot be read"),
    ],
)
def test_metadata_that_cannot_be(own_dataset: Path, change: dict[str, Any], message: str) -> None:
    file = own_dataset / "meta/info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        ReplayRobot(ReplayRobotConfig(root=str(own_dataset)))


def test_metadata_that_is_damaged(own_dataset: Path) -> None:
    (own_dataset / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ConfigError, match="cannot be read"):
        ReplayRobot(ReplayRobotConfig(root=str(own_dataset)))
    (own_dataset / "meta/info.json").write_bytes(b"{")
    with pytest.raises(ConfigError, match="cannot be read"):
        ReplayTeleoperator(ReplayTeleopConfig(root=str(own_dataset)))


def damage_missing_video(root: Path) -> None:
    (root / f"videos/{FRONT}/chunk-000/file-000.mp4").unlink()


def damage_torn_video(root: Path) -> None:
    file = root / f"videos/{FRONT}/chunk-000/file-000.mp4"
    file.write_bytes(file.read_bytes()[:400])


def damage_short_video(root: Path) -> None:
    write_video(root / f"videos/{FRONT}/chunk-000/file-000.mp4", [level(n) for n in range(10)])


def damage_missing_rows(root: Path) -> None:
    file = root / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 9), file)


def damage_missing_data(root: Path) -> None:
    (root / "data/chunk-000/file-000.parquet").unlink()


def damage_picture(root: Path) -> None:
    file = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    broken = pa.array([{"bytes": b"no png", "path": None}] * len(table))
    pq.write_table(table.set_column(table.column_names.index(SNAP), SNAP, broken), file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing_video, "Episode 0 of .*front.*cannot be decoded"),
        (damage_torn_video, "cannot be decoded"),
        (damage_short_video, "Episode 1 of .*does not hold all 5 frames, but 3"),
        (damage_missing_rows, "Episode 1 has 2 rows.*should have 5"),
        (damage_missing_data, "cannot be read"),
        (damage_picture, "cannot be decoded"),
    ],
)
async def test_files_that_are_gone_or_damaged(own_dataset: Path, damage: Any, message: str) -> None:
    damage(own_dataset)
    robot = ReplayRobot(ReplayRobotConfig(root=str(own_dataset)))
    with pytest.raises(SourceError, match=message) as caught:
        await observe(robot, 20)
    assert caught.value.source == "replay"


def test_teleoperator_of_a_dataset_without_actions(own_dataset: Path) -> None:
    file = own_dataset / "meta/info.json"
    info = json.loads(file.read_text())
    del info["features"]["action"]
    file.write_text(json.dumps(info))
    with pytest.raises(ConfigError, match="no actions"):
        ReplayTeleoperator(ReplayTeleopConfig(root=str(own_dataset)))
