from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from aiorecord.capture.camera_plan import plan_camera
from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.encoding import camera_encoding, camera_frames
from aiorecord.encoding.camera_encoding import EncodeJob, direct_encode, encode_camera
from aiorecord.encoding.camera_frames import known_stats
from aiorecord.encoding.encoded import EncodedEpisode
from aiorecord.encoding.episode_encoding import EpisodeEncoding
from aiorecord.encoding.stats import FeatureStats, depth_stats, histogram_stats, sample_indices
from aiorecord.errors import (
    CodecUnavailableError,
    DamageError,
    DatasetError,
    EncodeError,
    StateError,
)
from aiorecord.media.encoder import default_threads
from aiorecord.media.pixels import new_rgb_frame
from aiorecord.media.video_file import verify_video
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.histograms import HistogramWriter, sampling_stride
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.manifest import Manifest
from aiorecord.staging.raw import RawWriter
from aiorecord.workers.pool import WorkerPool
from aiorecord.workers.progress import progress_path, read_progress

Array = NDArray[Any]
FAST = RGBEncoderConfig(vcodec="h264", preset="ultrafast", crf=18)
AV1 = RGBEncoderConfig()
KEY = "observation.images.front"


def scene(k: int, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(k).integers(0, 6, (height, width, 3))
    shades = np.stack([x + 3 * k, y + 2 * k, x + y], axis=-1) % 240
    return (shades + noise).astype(np.uint8)


def depth(k: int, dtype: str = "uint16", height: int = 48, width: int = 64) -> Array:
    y, x = np.mgrid[:height, :width]
    millimetres = 700 + 20 * x + 9 * y + 30 * k
    return (millimetres if dtype == "uint16" else millimetres / 1000).astype(dtype)


def feature(kind: str, shape: tuple[int, ...]) -> dict[str, Any]:
    spec: dict[str, Any] = {"dtype": kind, "shape": shape, "names": ["height", "width", "channels"]}
    return spec | ({"info": {"is_depth_map": True}} if shape[2] == 1 else {})


def stage(
    root: Path,
    frames: Sequence[Array],
    *,
    kind: str = "video",
    encoder: RGBEncoderConfig = FAST,
    spilled: int = 0,
    histograms: int | None = None,
    length: int | None = None,
    **settings: Any,
) -> EpisodeFolder:
    """A complete episode with one camera, captured by the capture room's own writers.

    Args:
        spilled: how many of the last frames went to the spill.
        histograms: how many frames have one; all by default.
        length: rows, if not as many as frames.
    """
    height, width = frames[0].shape[:2]
    spec = feature(kind, (height, width, 3 if frames[0].ndim == 3 else 1))
    manifest = Manifest(
        fps=30,
        features={KEY: spec},
        cameras={},
        rgb_encoder=encoder,
        depth_encoder=DepthEncoderConfig(),
        state="complete",
        length=len(frames) if length is None else length,
        **settings,
    )
    camera = plan_camera(manifest.schema()[KEY], encoder)
    camera.frames, camera.spilled = len(frames) - spilled, spilled
    manifest.cameras[KEY] = camera
    folder = Staging(root).create(manifest)
    live, late = frames[: len(frames) - spilled], frames[len(frames) - spilled :]
    if camera.capture == "raw":
        with closing(RawWriter(folder.path / camera.file)) as raw:
            for frame in live:
                raw.write(frame)
    else:
        lossless = LosslessWriter(folder.path / camera.file, camera, 30)
        for frame in live:
            video_frame, pixels = new_rgb_frame(height, width)
            pixels[:] = frame
            lossless.write(video_frame)
        lossless.close()
        assert camera.histograms is not None
        writer = HistogramWriter(folder.path / camera.histograms)
        for frame in frames[:histograms]:
            writer.write(frame)
        writer.close()
    if late:
        with closing(RawWriter(folder.path / camera.spill)) as raw:
            for index, frame in enumerate(late, len(live)):
                raw.write(frame, index)
    folder.save()
    return folder


def exact_stats(frames: Sequence[NDArray[np.uint8]]) -> FeatureStats:
    stride = sampling_stride(*frames[0].shape[:2])
    small = [frames[i][::stride, ::stride] for i in sample_indices(len(frames))]
    counts = [[np.bincount(image[..., c].ravel(), minlength=256) for c in range(3)] for image in small]
    return histogram_stats(np.array(counts))


def same(a: FeatureStats, b: FeatureStats) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n], equal_nan=True) for n in a)


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def psnr(a: Sequence[NDArray[np.uint8]], b: Sequence[NDArray[np.uint8]]) -> float:
    error = np.mean([(x.astype(float) - y) ** 2 for x, y in zip(a, b, strict=True)])
    return float(10 * np.log10(255**2 / error))


def temporaries(folder: EpisodeFolder) -> list[str]:
    return [path.name for path in folder.path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("spilled", [0, 4, 12])
@pytest.mark.parametrize(
    "encoder",
    [
        AV1,
        RGBEncoderConfig(vcodec="h264"),
        RGBEncoderConfig(vcodec="hevc", g=None),
        RGBEncoderConfig(vcodec="h264", pix_fmt="yuv444p"),
        RGBEncoderConfig(vcodec="libsvtav1", pix_fmt="yuv420p10le"),
    ],
    ids=lambda e: f"{e.vcodec}-{e.pix_fmt}",
)
def test_a_deferred_encode_equals_a_direct_one_bit_by_bit(
    tmp_path: Path, encoder: RGBEncoderConfig, spilled: int
) -> None:
    frames = [scene(k) for k in range(12)]
    folder = stage(tmp_path, frames, encoder=encoder, spilled=spilled)
    result = encode_camera(EncodeJob(folder.path, KEY))
    direct_encode(frames, tmp_path / "direct.mp4", encoder, 30)
    deferred = folder.path / result.file
    assert packets(deferred) == packets(tmp_path / "direct.mp4")
    assert psnr(decoded(deferred), frames) > 25


def test_the_result_of_a_colour_video(tmp_path: Path) -> None:
    frames = [scene(k, 304, 400) for k in range(7)]
    folder = stage(tmp_path, frames)
    result = encode_camera(EncodeJob(folder.path, KEY))
    path = folder.path / result.file
    assert result.file == f"{KEY}.mp4"
    assert (result.key, result.frames, result.bytes) == (KEY, 7, path.stat().st_size)
    assert result.seconds > 0
    assert result.info["video.codec"] == "h264"
    assert result.info["video.crf"] == 18
    assert result.info["is_depth_map"] is False
    assert same(result.stats, exact_stats(frames))
    assert result.stats["mean"].shape == (3, 1, 1)
    verify_video(path, 7, 30)
    assert read_progress(progress_path(folder, KEY)) == (7, 7)
    assert temporaries(folder) == []
    again = pickle.loads(pickle.dumps(result))
    assert same(again.stats, result.stats)


@pytest.mark.parametrize("known", [0, 3, 6])
def test_histograms_lost_in_a_crash_are_taken_from_the_frames(tmp_path: Path, known: int) -> None:
    frames = [scene(k) for k in range(7)]
    folder = stage(
        tmp_path, frames, histograms=known, encoder=RGBEncoderConfig(vcodec="h264", pix_fmt="yuv444p")
    )
    stats = encode_camera(EncodeJob(folder.path, KEY)).stats
    exact = exact_stats(frames)
    assert stats["count"] == exact["count"]
    for name in ("mean", "std", "q10", "q50", "q90"):
        assert np.abs(stats[name] - exact[name]).max() < 0.02, name
    still = stage(tmp_path / "images", frames, histograms=known, kind="image")
    assert same(encode_camera(EncodeJob(still.path, KEY)).stats, exact), "RGB captures are exact"


def test_frames_beyond_the_rows_are_left_out(tmp_path: Path) -> None:
    frames = [scene(k) for k in range(9)]
    folder = stage(tmp_path, frames, length=7, spilled=3)
    result = encode_camera(EncodeJob(folder.path, KEY))
    assert result.frames == len(decoded(folder.path / result.file)) == 7
    assert same(result.stats, exact_stats(frames[:7]))


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("shades", [scene, depth], ids=["colour", "depth"])
def test_missing_frames_are_an_error_and_nothing_is_published(
    tmp_path: Path, kind: str, shades: Callable[[int], Array]
) -> None:
    folder = stage(tmp_path, [shades(k) for k in range(5)], kind=kind, length=6)
    with pytest.raises(DamageError, match=f"{KEY}.*5 frames, the rows 6"):
        encode_camera(EncodeJob(folder.path, KEY))
    assert not list(folder.path.glob("*.mp4"))
    assert not list(folder.path.glob("*.arrow"))
    assert temporaries(folder) == []
    assert read_progress(progress_path(folder, KEY)) == (5, 6)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_depth_video(tmp_path: Path, dtype: str) -> None:
    frames = [depth(k, dtype) for k in range(6)]
    if dtype == "float32":
        frames[2][0, :3] = np.nan, np.inf, -np.inf
    folder = stage(tmp_path, frames, spilled=2)
    result = encode_camera(EncodeJob(folder.path, KEY))
    assert result.info["is_depth_map"] is True
    assert result.info["video.pix_fmt"] == "gray12le"
    assert result.info["video.depth_max"] == 10.0
    assert same(result.stats, depth_stats(np.stack(frames)))
    quantizer = camera_encoding.DepthQuantizer(DepthEncoderConfig())
    with av.open(str(folder.path / result.file)) as container:
        codes = [frame.to_ndarray(format="gray12le") for frame in container.decode(video=0)]
    assert all((a == quantizer.codes(b)).all() for a, b in zip(codes, frames, strict=True))


def test_depth_statistics_skip_pixels_as_lerobot_does(tmp_path: Path) -> None:
    frames = [depth(k, "uint16", 304, 400) for k in range(3)]
    folder = stage(tmp_path, frames, kind="image")
    result = encode_camera(EncodeJob(folder.path, KEY))
    assert same(result.stats, depth_stats(np.stack(frames)[:, ::2, ::2]))


@pytest.mark.parametrize(
    ("frames", "suffix"),
    [
        ([scene(k) for k in range(5)], "png"),
        ([depth(k) for k in range(5)], "tiff"),
        ([depth(k, "float32") for k in range(5)], "tiff"),
    ],
    ids=["colour", "millimetres", "metres"],
)
def test_image_features(
    tmp_path: Path, frames: list[Array], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_encoding, "_IMAGE_BATCH_BYTES", 20_000)
    folder = stage(tmp_path, frames, kind="image", spilled=2)
    result = encode_camera(EncodeJob(folder.path, KEY))
    assert (result.file, result.frames, result.info) == (f"{KEY}.png.arrow", 5, {})
    with pa.OSFile(str(folder.path / result.file)) as file:
        reader = pa.ipc.open_file(file)
        assert suffix == "tiff" or reader.num_record_batches > 1, "memory is bounded"
        table = reader.read_all()
    assert table.schema.names == [KEY]
    rows = table.column(KEY).to_pylist()
    assert [row["path"] for row in rows] == [f"frame-{k:06d}.{suffix}" for k in range(5)]
    for row, frame in zip(rows, frames, strict=True):
        if suffix == "png":
            (tmp_path / "x.png").write_bytes(row["bytes"])
            assert (decoded(tmp_path / "x.png")[0] == frame).all()
        else:
            assert row["bytes"].endswith(frame.tobytes())


def test_an_encode_can_be_repeated_over_the_leftovers_of_a_killed_one(tmp_path: Path) -> None:
    folder = stage(tmp_path, [scene(k) for k in range(4)])
    leftover = folder.path / f".{KEY}.mp4.12345.aiorecord-tmp"
    leftover.write_bytes(b"half a video")
    other = folder.path / ".other.mp4.12345.aiorecord-tmp"
    other.write_bytes(b"of another camera, being written")
    first = encode_camera(EncodeJob(folder.path, KEY))
    data = (folder.path / first.file).read_bytes()
    assert temporaries(folder) == [other.name]
    second = encode_camera(EncodeJob(folder.path, KEY))
    assert (folder.path / second.file).read_bytes() == data


def test_auto_is_resolved(tmp_path: Path) -> None:
    folder = stage(tmp_path, [scene(k) for k in range(3)], encoder=RGBEncoderConfig(vcodec="auto"))
    assert encode_camera(EncodeJob(folder.path, KEY)).info["video.codec"] in ("av1", "h264", "hevc")


def test_jobs_that_cannot_work(tmp_path: Path) -> None:
    folder = stage(tmp_path, [scene(k) for k in range(3)])
    with pytest.raises(EncodeError, match="no camera 'wrist'"):
        encode_camera(EncodeJob(folder.path, "wrist"))
    with pytest.raises(DatasetError):
        encode_camera(EncodeJob(tmp_path / "nowhere", KEY))
    folder.manifest.state = "recording"
    folder.save()
    with pytest.raises(StateError, match="not complete"):
        encode_camera(EncodeJob(folder.path, KEY))
    bad = stage(tmp_path / "bad", [scene(k) for k in range(3)], encoder=RGBEncoderConfig(vcodec="h264_nvenc"))
    with pytest.raises(CodecUnavailableError) as caught:
        encode_camera(EncodeJob(bad.path, KEY))
    assert (caught.value.camera, caught.value.codec) == (KEY, "h264_nvenc")
    assert temporaries(bad) == []


def test_a_lost_capture_file(tmp_path: Path) -> None:
    folder = stage(tmp_path, [scene(k) for k in range(3)])
    (folder.path / folder.manifest.cameras[KEY].file).unlink()
    with pytest.raises(DamageError):
        encode_camera(EncodeJob(folder.path, KEY))


def test_an_episode_through_workers(tmp_path: Path) -> None:
    frames = [scene(k) for k in range(10)]
    folders = [stage(tmp_path / str(n), frames, encoder=AV1) for n in range(3)]
    with WorkerPool(2) as pool:
        futures = [pool.submit(encode_camera, EncodeJob(folder.path, KEY)) for folder in folders]
        results = [future.result() for future in futures]
        with pytest.raises(EncodeError) as caught:
            pool.submit(encode_camera, EncodeJob(folders[0].path, "wrist")).result()
        assert caught.value.camera == "wrist"
    # The same but for the id that each says of itself.
    files = [(f.path / r.file).read_bytes() for f, r in zip(folders, results, strict=True)]
    assert len({f.replace(o.id.encode(), b"") for f, o in zip(files, folders, strict=True)}) == 1
    assert all(same(result.stats, exact_stats(frames)) for result in results)


def test_a_worker_encodes_colour_without_loading_numpy(tmp_path: Path) -> None:
    frames = [scene(k) for k in range(6)]
    has_numpy = "'numpy.linalg' in __import__('sys').modules"
    with WorkerPool(1) as pool:
        encoded = EpisodeEncoding(stage(tmp_path / "colour", frames, encoder=AV1), pool).run()
        assert same(encoded.cameras[KEY].stats, exact_stats(frames))
        assert not pool.submit(eval, has_numpy).result()
        deep = [depth(k) for k in range(3)]
        encoded = EpisodeEncoding(stage(tmp_path / "depth", deep), pool).run()
        assert same(encoded.cameras[KEY].stats, depth_stats(np.stack(deep)))
        assert pool.submit(eval, has_numpy).result(), "what the test looks at must tell"


def test_statistics_are_known_where_every_frame_was_counted(tmp_path: Path) -> None:
    frames = [scene(k) for k in range(9)]
    for kind in ("video", "image"):
        known = known_stats(stage(tmp_path / kind, frames, kind=kind), KEY)
        assert known is not None
        assert same(known, exact_stats(frames))
    more = known_stats(stage(tmp_path / "more", frames, length=7), KEY)
    assert more is not None
    assert same(more, exact_stats(frames[:7]))
    assert known_stats(stage(tmp_path / "fewer", frames, histograms=8), KEY) is None
    assert known_stats(stage(tmp_path / "spilled", frames, spilled=3), KEY) is None
    assert known_stats(stage(tmp_path / "depth", [depth(k) for k in range(3)]), KEY) is None


@pytest.mark.parametrize("missing", [{"histograms": 3}, {"spilled": 3}], ids=["histograms", "spilled"])
def test_an_episode_whose_frames_were_not_all_counted(tmp_path: Path, missing: dict[str, int]) -> None:
    frames = [scene(k) for k in range(7)]
    folder = stage(tmp_path, frames, encoder=AV1, **missing)
    with WorkerPool(1) as pool:
        stats = EpisodeEncoding(folder, pool).run().cameras[KEY].stats
    assert stats["count"] == 7
    for name, exact in exact_stats(frames).items():
        assert np.abs(stats[name] - exact).max() < 0.03, name


def test_an_aborted_encode_leaves_an_episode_that_can_be_encoded(tmp_path: Path) -> None:
    folder = stage(tmp_path, [scene(k) for k in range(400)], encoder=AV1)
    with WorkerPool(1) as pool:
        future = pool.submit(encode_camera, EncodeJob(folder.path, KEY))
        while not read_progress(progress_path(folder, KEY))[0]:
            assert not future.done()
        os.kill(pool.pids()[0], signal.SIGSTOP)  # in the middle of it, however fast the machine is
        assert pool.abort(future)
        with pytest.raises(EncodeError, match="stopped"):
            future.result()
        assert pool.submit(encode_camera, EncodeJob(folder.path, KEY)).result().frames == 400
    assert temporaries(folder) == []


def test_progress_counts_up_and_tells_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stage(tmp_path, [scene(k) for k in range(5)])
    assert read_progress(progress_path(folder, KEY)) == (0, 0)
    seen: list[tuple[int, int]] = []
    update = camera_encoding.Progress.update

    def spy(progress: camera_encoding.Progress, done: int) -> None:
        update(progress, done)
        seen.append(read_progress(progress_path(folder, KEY)))

    monkeypatch.setattr(camera_encoding.Progress, "update", spy)
    encode_camera(EncodeJob(folder.path, KEY))
    assert seen == [(done, 5) for done in range(6)]
    progress_path(folder, KEY).write_bytes(b"torn")
    assert read_progress(progress_path(folder, KEY)) == (0, 0)


def test_encoded_json_holds_everything_exactly(tmp_path: Path) -> None:
    folder = stage(tmp_path, [depth(k, "float32") for k in range(3)])
    assert EncodedEpisode.load(folder) is None
    camera = encode_camera(EncodeJob(folder.path, KEY))
    odd = camera.stats | {"mean": np.array([[[np.nan]]]), "max": np.full((1, 1, 1), np.inf, np.float32)}
    episode = EncodedEpisode({KEY: dataclasses.replace(camera, stats=odd)})
    episode.save(folder)
    json.loads((folder.path / "encoded.json").read_bytes(), parse_constant=pytest.fail)
    back = EncodedEpisode.load(folder)
    assert back is not None
    assert same(back.cameras[KEY].stats, odd)
    for name, value in back.cameras[KEY].stats.items():
        assert value.dtype == odd[name].dtype
    assert dataclasses.replace(back.cameras[KEY], stats={}) == dataclasses.replace(camera, stats={})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cameras": {}}', '{"cameras": {"x": {}}}', "\x00"])
def test_an_encoded_json_that_is_none_means_encode_again(tmp_path: Path, text: str) -> None:
    folder = stage(tmp_path, [depth(0)])
    (folder.path / "encoded.json").write_text(text)
    assert EncodedEpisode.load(folder) is None


def test_default_threads() -> None:
    assert default_threads(RGBEncoderConfig(vcodec="h264"), 1) is None
    assert default_threads(AV1, 10_000) == 1
    assert default_threads(AV1, 0) == 2


def test_direct_encode_needs_a_frame(tmp_path: Path) -> None:
    with pytest.raises(EncodeError):
        direct_encode([], tmp_path / "a.mp4", FAST, 30)


def test_memory_does_not_grow_with_the_episode(tmp_path: Path) -> None:
    """Frames pass one by one: only as many are alive at a time as the codecs hold."""
    folder = stage(tmp_path, [depth(k, height=16, width=16) for k in range(300)], kind="image")
    alive: list[int] = []
    living: set[int] = set()
    lock = threading.Lock()

    class Watched(np.ndarray):
        def __del__(self) -> None:
            with lock:
                living.discard(id(self))

    original = camera_frames.read_frames

    def watched(folder: EpisodeFolder, key: str, replaced: list[int]) -> Any:
        for frame in original(folder, key, replaced):
            assert isinstance(frame, np.ndarray)
            view = frame.view(Watched)
            living.add(id(view))
            alive.append(len(living))
            yield view

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(camera_frames, "read_frames", watched)
        encode_camera(EncodeJob(folder.path, KEY))
    assert len(alive) == 300
    assert max(alive) < 5
