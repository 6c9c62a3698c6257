"""Encoded episodes in staging with a known content, made without the capture and encode rooms."""

from __future__ import annotations

import functools
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.encoding.encoded import EncodedCamera, EncodedEpisode, file_crc
from aiorecord.encoding.stats import depth_stats, histogram_stats, sample_indices
from aiorecord.features import Schema
from aiorecord.media.video_file import probe_video
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.manifest import Camera, Manifest
from aiorecord.staging.rows import RowsJournal

FPS = 30
HEIGHT, WIDTH = 48, 64
ENCODER = RGBEncoderConfig(vcodec="h264", crf=18, preset="ultrafast")

_AXES = ["height", "width", "channels"]
VECTORS: dict[str, dict[str, Any]] = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
    "action": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
}
VIDEO: dict[str, dict[str, Any]] = {
    **VECTORS,
    "observation.images.front": {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": _AXES},
}
TWO_VIDEOS: dict[str, dict[str, Any]] = {
    **VIDEO,
    "observation.images.wrist": {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": _AXES},
}
EVERYTHING: dict[str, dict[str, Any]] = {
    **TWO_VIDEOS,
    "observation.images.still": {"dtype": "image", "shape": (HEIGHT, WIDTH, 3), "names": _AXES},
    "matrix": {"dtype": "float32", "shape": (2, 3), "names": None},
    "cube": {"dtype": "int64", "shape": (2, 2, 2), "names": None},
    "counter": {"dtype": "int32", "shape": (1,), "names": None},
    "flag": {"dtype": "bool", "shape": (1,), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
}


def values(features: dict[str, dict[str, Any]], episode: int, k: int) -> dict[str, Any]:
    """The recorded values of frame k."""
    out: dict[str, Any] = {}
    for key, spec in features.items():
        if spec["dtype"] in ("video", "image"):
            continue
        if spec["dtype"] == "string":
            out[key] = f"note {episode}.{k}"
        elif spec["dtype"] == "bool":
            out[key] = np.array([k % 2 == 0])
        else:
            base = np.arange(np.prod(spec["shape"])).reshape(spec["shape"])
            out[key] = (base + 10 * k + 1000 * episode).astype(spec["dtype"])
    return out


def grey(episode: int, k: int) -> int:
    """The brightness of frame k of an episode."""
    return 20 + (37 * episode + 9 * k) % 200


def stage(
    root: Path,
    episode: int = 0,
    length: int = 5,
    *,
    features: dict[str, dict[str, Any]] = VIDEO,
    task: str = "Pick",
    tasks: list[str] | None = None,
    fps: int = FPS,
    encoder: RGBEncoderConfig = ENCODER,
    depth_unit: str = "mm",
    rows: int | None = None,
) -> tuple[EpisodeFolder, EncodedEpisode]:
    """A complete and encoded episode in staging.

    Args:
        episode: decides the content; the dataset numbers episodes by itself.
        tasks: a task for each row instead of `task`.
        rows: rows in the journal, if not `length`.
    """
    schema = Schema(features)
    cameras = {
        key: Camera(
            capture="raw" if camera.is_depth else "lossless",
            file=f"{key}.frames",
            pix_fmt="" if camera.is_depth else "yuv420p",
            height=HEIGHT,
            width=WIDTH,
            spill=f"{key}.spill",
            histograms=None if camera.is_depth else f"{key}.hist",
            frames=length,
            depth_unit=depth_unit if camera.is_depth else None,
        )
        for key, camera in schema.cameras.items()
    }
    manifest = Manifest(
        fps=fps,
        features=schema.as_dict(defaults=False),
        cameras=cameras,
        rgb_encoder=encoder,
        depth_encoder=DepthEncoderConfig(),
        task=task,
        state="complete",
        length=length,
    )
    folder = Staging(root).create(manifest)
    write_rows(folder, schema, episode, tasks or [task] * (length if rows is None else rows))
    encoded = {}
    for key, camera in schema.cameras.items():
        if camera.is_depth:
            encoded[key] = depth_camera(folder, key, episode, length, fps)
        elif camera.is_video:
            encoded[key] = video_camera(folder, key, episode, length, fps, encoder)
        else:
            encoded[key] = image_camera(folder, key, episode, length)
    result = EncodedEpisode(encoded)
    result.save(folder)
    return folder, result


def write_rows(folder: EpisodeFolder, schema: Schema, episode: int, tasks: list[str]) -> None:
    journal = RowsJournal(folder.rows_path, schema)
    for k, task in enumerate(tasks):
        journal.append(values(dict(schema.as_dict(defaults=False)), episode, k), task, k * 33_000_000)
        if k % 3 == 0:
            journal.flush()
    journal.close()


def write_video(
    path: Path, levels: list[int], fps: int, encoder: RGBEncoderConfig, size: int = WIDTH
) -> None:
    """A video of grey frames, keyframe first, on the k/fps grid."""
    path.write_bytes(_video(tuple(levels), fps, tuple(encoder.codec_options().items()), encoder.vcodec, size))


@functools.cache
def _video(
    levels: tuple[int, ...], fps: int, options: tuple[tuple[str, str], ...], vcodec: str, size: int
) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream({"h264": "libx264"}.get(vcodec, vcodec), rate=fps)
        stream.width, stream.height, stream.pix_fmt = size, HEIGHT, "yuv420p"
        stream.options = {"tune": "zerolatency", **dict(options)}
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, size, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def video_camera(
    folder: EpisodeFolder, key: str, episode: int, length: int, fps: int, encoder: RGBEncoderConfig
) -> EncodedCamera:
    path = folder.path / f"{key}.mp4"
    write_video(path, [grey(episode, k) for k in range(length)], fps, encoder)
    stats = histogram_stats(histograms(episode, length))
    return EncodedCamera(
        key,
        path.name,
        length,
        path.stat().st_size,
        probe_video(path, encoder),
        stats,
        0.0,
        None,
        file_crc(path),
    )


def histograms(episode: int, length: int) -> np.ndarray:
    selected = sample_indices(length)
    out = np.zeros((len(selected), 3, 256), np.uint32)
    for row, k in enumerate(selected):
        out[row, :, grey(episode, k)] = HEIGHT * WIDTH
    return out


def image_camera(folder: EpisodeFolder, key: str, episode: int, length: int) -> EncodedCamera:
    path = folder.path / f"{key}.png.arrow"
    images = [{"bytes": png(grey(episode, k)), "path": f"frame-{k:06d}.png"} for k in range(length)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({key: pa.array(images, struct)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return EncodedCamera(
        key,
        path.name,
        length,
        path.stat().st_size,
        {},
        histogram_stats(histograms(episode, length)),
        0.0,
        None,
        file_crc(path),
    )


@functools.cache
def png(level: int) -> bytes:
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = WIDTH, HEIGHT, "rgb24", Fraction(1, 30)
    frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def depth_camera(folder: EpisodeFolder, key: str, episode: int, length: int, fps: int) -> EncodedCamera:
    """Depth in its own unit; the video is a stand-in."""
    path = folder.path / f"{key}.mp4"
    write_video(path, [grey(episode, k) for k in range(length)], fps, ENCODER)
    frames = np.stack([np.full((4, 4), grey(episode, k), np.uint16) for k in sample_indices(length)])
    info = probe_video(path, DepthEncoderConfig())
    return EncodedCamera(
        key, path.name, length, path.stat().st_size, info, depth_stats(frames), 0.0, None, file_crc(path)
    )


def commit(writer: Any, episode: int, length: int = 5, **options: Any) -> Any:
    """Stage an episode, commit it and delete its folder, as the saver does."""
    features = options.pop("features", None) or writer.schema.as_dict(defaults=False)
    folder, encoded = stage(writer.root, episode, length, features=features, fps=writer.info.fps, **options)
    committed = writer.commit(folder, encoded)
    folder.remove()
    return committed


def tree(root: Path) -> list[str]:
    """Every file of a dataset, without staging."""
    files = (path for path in root.rglob("*") if path.is_file())
    return sorted(
        path.relative_to(root).as_posix()
        for path in files
        if not path.relative_to(root).parts[0].startswith(".")
    )


def check_dataset(root: Path, contents: list[tuple[int, int]], *, extra_rows: bool = False) -> None:
    """Check that a dataset is what it should be, reading it as lerobot does.

    Args:
        contents: (content number, length) of each episode.
        extra_rows: rows beyond what info.json counts are fine, as they are for a reader between the steps
            of a commit.
    """
    info = json.loads((root / "meta/info.json").read_text())
    total = sum(length for _, length in contents)
    assert (info["total_episodes"], info["total_frames"]) == (len(contents), total)
    if not contents:
        return
    features = info["features"]
    stats = json.loads((root / "meta/stats.json").read_text())
    if not extra_rows:
        assert stats["index"]["count"] == [total]
        assert set(stats) == {key for key, spec in features.items() if spec["dtype"] != "string"}
    data = [row for path in sorted(root.glob("data/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    episodes = [
        row
        for path in sorted(root.glob("meta/episodes/*/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    if not extra_rows:
        assert (len(data), len(episodes)) == (total, len(contents))
    tasks = {row["task_index"]: row["task"] for row in pq.read_table(root / "meta/tasks.parquet").to_pylist()}
    assert len(tasks) >= info["total_tasks"] if extra_rows else len(tasks) == info["total_tasks"]
    videos = {key for key, spec in features.items() if spec["dtype"] == "video"}
    decoded: dict[Path, list[tuple[float, float]]] = {}
    start = 0
    recorded = {
        k: v for k, v in features.items() if k not in _DEFAULTS and v["dtype"] not in ("video", "image")
    }
    for number, (content, length) in enumerate(contents):
        episode = episodes[number]
        assert (episode["episode_index"], episode["length"]) == (number, length)
        assert (episode["dataset_from_index"], episode["dataset_to_index"]) == (start, start + length)
        for k in range(length):
            row = data[start + k]
            assert (row["index"], row["episode_index"], row["frame_index"]) == (start + k, number, k)
            assert row["timestamp"] == np.float32(k / info["fps"])
            assert tasks[row["task_index"]] in episode["tasks"]
            for key, value in values(recorded, content, k).items():
                np.testing.assert_array_equal(np.array(row[key]).reshape(-1), np.array(value).reshape(-1))
        for key in videos:
            path = root / info["video_path"].format(
                video_key=key,
                chunk_index=episode[f"videos/{key}/chunk_index"],
                file_index=episode[f"videos/{key}/file_index"],
            )
            if path not in decoded:
                decoded[path] = decode(path)
            first, end = episode[f"videos/{key}/from_timestamp"], episode[f"videos/{key}/to_timestamp"]
            assert abs(end - first - length / info["fps"]) < 1e-9
            for k in range(length):
                time, level = min(decoded[path], key=lambda f: abs(f[0] - (first + k / info["fps"])))
                assert abs(time - (first + k / info["fps"])) < 1e-4, (path, number, k)
                assert abs(level - grey(content, k)) < 4, (path, number, k, level, grey(content, k))
        start += length


_DEFAULTS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def decode(path: Path) -> list[tuple[float, float]]:
    """Time and brightness of every frame of a video."""
    return _decode(path.read_bytes())


@functools.cache
def _decode(content: bytes) -> list[tuple[float, float]]:
    with av.open(io.BytesIO(content)) as container:
        return [
            (float(frame.time or 0.0), float(frame.to_ndarray(format="rgb24").mean()))
            for frame in container.decode(video=0)
        ]
