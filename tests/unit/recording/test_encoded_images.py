"""Camera images that come compressed are recorded as they are; the dataset is the one of their pixels."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from helpers import FEATURES, H264, STATES, episodes_of, rows_of
from jpegs import damaged, decoded, jpeg

from aiorecord import EncodedImage, FrameError, Recorder, SaveError
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.reader import count_frames, read_frames

FRONT = "observation.images.front"
STATS = "meta/stats.json"
FRAMES = 12
IMAGES = [jpeg(k) for k in range(FRAMES)]
OPTIONS = {"fps": 30, "features": FEATURES, "rgb_encoder": H264}


def frame_with(image, k=0):
    return {key: np.full(3, k, np.float32) for key in STATES} | {FRONT: image}


async def record(root, images, episodes=2, features=FEATURES, **options):
    """Record the same images in each episode; returns how the last one was captured, and its save."""
    options = OPTIONS | {"features": features, "encode": "deferred"} | options
    async with Recorder("me/x", root=root, **options) as recorder:
        for _ in range(episodes):
            async with recorder.episode("x") as episode:
                for k, image in enumerate(images):
                    episode.add_frame(frame_with(image, k))
            await episode.save.durable()
            folder = EpisodeFolder.load(episode.save.job.folder.path)
            await episode.save
    return folder.manifest.cameras[FRONT].capture, episode.save


def packets_of(root):
    """The coded frames of a dataset's videos."""
    coded = []
    for path in sorted(root.rglob("videos/**/*.mp4")):
        with av.open(str(path)) as container:
            coded += [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return coded


def quality_of(root):
    lines = (root / "meta/aiorecord/episodes.jsonl").read_text().splitlines()
    return [json.loads(line)["cameras"][FRONT] for line in lines]


def encoded(images=IMAGES):
    return [EncodedImage(image) for image in images]


# what is stored


@pytest.mark.parametrize("plan", ["deferred", "live"])
@pytest.mark.parametrize("arrays", [(), (3, 4, 9), (0,)], ids=["none", "some", "the first"])
async def test_the_videos_and_statistics_are_those_of_the_pixels(tmp_path, plan, arrays):
    """A camera may send arrays in between, from the first frame on or later."""
    await record(tmp_path / "pixels", [decoded(image) for image in IMAGES], encode=plan)
    mixed = [decoded(image) if k in arrays else EncodedImage(image) for k, image in enumerate(IMAGES)]
    await record(tmp_path / "jpeg", mixed, encode=plan)
    assert packets_of(tmp_path / "jpeg") == packets_of(tmp_path / "pixels")
    assert len(packets_of(tmp_path / "jpeg")) == 2 * FRAMES
    assert (tmp_path / "jpeg" / STATS).read_bytes() == (tmp_path / "pixels" / STATS).read_bytes()


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("chroma", ["yuvj420p", "yuvj422p", "yuvj444p"])
async def test_so_they_are_in_every_chroma_format(tmp_path, chroma, pix_fmt):
    images = [jpeg(k, chroma=chroma) for k in range(4)]
    encoder = {"rgb_encoder": H264.__class__(**{**vars(H264), "pix_fmt": pix_fmt})}
    await record(tmp_path / "pixels", [decoded(image) for image in images], 1, **encoder)
    await record(tmp_path / "jpeg", encoded(images), 1, **encoder)
    assert packets_of(tmp_path / "jpeg") == packets_of(tmp_path / "pixels")
    assert (tmp_path / "jpeg" / STATS).read_bytes() == (tmp_path / "pixels" / STATS).read_bytes()


async def test_the_bytes_that_came_are_what_is_staged(tmp_path):
    async with Recorder("me/x", root=tmp_path / "set", encode="deferred", **OPTIONS) as recorder:
        for _ in range(2):
            async with recorder.episode("x", hold=True) as episode:
                for k, image in enumerate(encoded()):
                    episode.add_frame(frame_with(image, k))
            await episode.save.durable()
            folder = episode.save.job.folder
            assert folder.manifest.cameras[FRONT].capture == "packets"
            staged = (folder.path / folder.manifest.cameras[FRONT].file).read_bytes()
            assert all(image in staged for image in IMAGES)
            assert len(staged) < 1.2 * sum(map(len, IMAGES))
            episode.save.release()
            await episode.save


async def test_images_in_tables_are_those_of_the_pixels(tmp_path):
    features = {**FEATURES, FRONT: {**FEATURES[FRONT], "dtype": "image"}}
    await record(tmp_path / "pixels", [decoded(image) for image in IMAGES], features=features)
    await record(tmp_path / "jpeg", encoded(), features=features)
    stored, wanted = ([row[FRONT]["bytes"] for row in rows_of(tmp_path / d)] for d in ("jpeg", "pixels"))
    assert stored == wanted
    assert len(stored) == 2 * FRAMES
    assert (tmp_path / "jpeg" / STATS).read_bytes() == (tmp_path / "pixels" / STATS).read_bytes()


async def test_full_range_colours_are_right(tmp_path):
    """Bars of pure colours: a decoder that takes JPEG's range for that of video is off by 16 and more."""
    bars = np.zeros((48, 64, 3), np.uint8)
    for n in range(8):
        bars[:, n * 8 : n * 8 + 8] = [255 * (n & 1), 255 * (n >> 1 & 1), 255 * (n >> 2)]
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = 64, 48, "yuvj444p", 30
    encoder.options = {"qmin": "1", "qmax": "1"}
    made = av.VideoFrame.from_ndarray(bars, format="rgb24").reformat(
        format="yuvj444p", dst_color_range="JPEG"
    )
    (image,) = encoder.encode(made)
    features = {**FEATURES, FRONT: {**FEATURES[FRONT], "dtype": "image"}}
    await record(tmp_path / "set", [EncodedImage(bytes(image))], 1, features=features)
    with av.open(pa.BufferReader(rows_of(tmp_path / "set")[0][FRONT]["bytes"])) as container:
        (stored,) = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.abs(stored.astype(int) - bars).max() <= 6


# what is refused


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"", "no JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no JPEG"),
        (IMAGES[0][: len(IMAGES[0]) // 2], "no JPEG"),
        (IMAGES[0][:30], "no JPEG"),
        (jpeg(0, height=32), "64x32, expected 64x48"),
        (jpeg(0, width=128), "128x48, expected 64x48"),
    ],
    ids=["empty", "png", "half", "header", "height", "width"],
)
async def test_what_cannot_be_recorded_is_refused_and_nothing_of_it_is_recorded(tmp_path, image, why):
    async with Recorder("me/x", root=tmp_path / "set", **OPTIONS) as recorder:
        async with recorder.episode("x") as episode:
            episode.add_frame(frame_with(EncodedImage(IMAGES[0])))
            with pytest.raises(FrameError, match=why) as caught:
                episode.add_frame(frame_with(EncodedImage(image)))
            assert caught.value.key == FRONT
            assert episode.frames == 1
            episode.add_frame(frame_with(EncodedImage(IMAGES[1]), 1))
        assert (await episode.save).length == 2
    assert [row["observation.state"][0] for row in rows_of(tmp_path / "set")] == [0, 1]


async def test_depth_is_no_jpeg(tmp_path):
    features = {**FEATURES, FRONT: {**FEATURES[FRONT], "shape": (48, 64, 1)}}
    async with Recorder("me/x", root=tmp_path / "set", fps=30, features=features) as recorder:
        async with recorder.episode("x") as episode:
            with pytest.raises(FrameError, match="depth is an array"):
                episode.add_frame(frame_with(EncodedImage(IMAGES[0])))
            episode.add_frame(frame_with(np.ones((48, 64), np.uint16)))
        assert (await episode.save).length == 1


# what turns out to be damaged


def with_stand_ins(bad, first):
    """The pixels of the images, where the frame before stands in for bad ones, and `first` at the start."""
    last = first
    for k, image in enumerate(IMAGES):
        last = last if k in bad else decoded(image)
        yield last


@pytest.mark.parametrize("bad", [(5,), (0,), (0, 1, 2, 11)], ids=str)
@pytest.mark.parametrize("plan", ["deferred", "live"])
async def test_the_frame_before_stands_in_for_an_image_that_cannot_be_decoded(tmp_path, plan, bad):
    """At the start the first one that can be decoded; a live capture cannot know it, and has black there."""
    images = [damaged(image) if k in bad else image for k, image in enumerate(IMAGES)]
    good = next(decoded(image) for k, image in enumerate(IMAGES) if k not in bad)
    first = good if plan == "deferred" else np.zeros_like(good)
    await record(tmp_path / "wanted", list(with_stand_ins(bad, first)), 1, encode=plan)
    _, save = await record(tmp_path / "set", encoded(images), 1, encode=plan)
    assert save.result().success
    assert packets_of(tmp_path / "set") == packets_of(tmp_path / "wanted")
    assert (tmp_path / "set" / STATS).read_bytes() == (tmp_path / "wanted" / STATS).read_bytes()
    assert [quality["corrupt"] for quality in quality_of(tmp_path / "set")] == [len(bad)]
    counted = "1 image" if len(bad) == 1 else f"{len(bad)} images"
    assert save.problems == [f"{FRONT}: {counted} could not be decoded; the frame before stands in."]


async def test_an_episode_of_which_no_image_can_be_decoded_stays_in_staging(tmp_path):
    with pytest.raises(SaveError, match=r"None of the 12 images in .* can be decoded"):
        await record(tmp_path / "set", [EncodedImage(damaged(image)) for image in IMAGES], 1)
    (path,) = Staging(tmp_path / "set").episode_paths()
    folder = EpisodeFolder.load(path)
    assert (folder.manifest.state, count_frames(folder, FRONT)) == ("complete", FRAMES)


# repeats, times, and what waits


async def test_repeated_images_are_recognised(tmp_path):
    images = [EncodedImage(IMAGES[k // 3]) for k in range(FRAMES)]
    await record(tmp_path / "set", images)
    assert [quality["repeated"] for quality in quality_of(tmp_path / "set")] == [FRAMES - FRAMES // 3] * 2


async def test_images_that_are_not_newer_are_stale(tmp_path):
    images = [EncodedImage(image, captured_ns=k // 2) for k, image in enumerate(IMAGES)]
    await record(tmp_path / "set", images)
    assert [quality["stale"] for quality in quality_of(tmp_path / "set")] == [FRAMES // 2] * 2


async def test_images_that_wait_count_with_their_bytes(tmp_path):
    """A budget that holds no more than one image's pixels holds many compressed ones."""
    images = [jpeg(k, height=480, width=640) for k in range(FRAMES)]
    features = {**FEATURES, FRONT: {**FEATURES[FRONT], "shape": (480, 640, 3)}}
    assert sum(map(len, images)) < 640 * 480 * 3
    await record(tmp_path / "set", encoded(images), features=features, buffer_mb=1)
    assert [quality["spilled"] for quality in quality_of(tmp_path / "set")][1:] == [0]


# a killed process, and a torn or altered file

CHILD = """
import asyncio, sys
from pathlib import Path
from test_encoded_images import IMAGES, OPTIONS, EncodedImage, Recorder, frame_with
from aiorecord.capture import journal

journal.FLUSH_PERIOD_S = 0.02

async def main(root):
    async with Recorder("me/x", root=root, encode="deferred", **OPTIONS) as recorder:
        async with recorder.episode("x") as episode:  # the next one is prepared for encoded images
            episode.add_frame(frame_with(EncodedImage(IMAGES[0])))
        await episode.save
        async with recorder.episode("x") as episode:
            for k, image in enumerate(IMAGES):
                episode.add_frame(frame_with(EncodedImage(image), k))
            while episode._capture._rows._pending or any(c.queued_frames for c in episode.cameras.values()):
                await asyncio.sleep(0.001)
            print("recorded", flush=True)
            await asyncio.Event().wait()  # until it is killed

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A dataset with an episode of one frame, whose recorder was killed in the next, which is all on disk."""
    root = tmp_path_factory.mktemp("killed") / "set"
    here = Path(__file__).parent
    modules = os.pathsep.join(map(str, (here, here.parents[1])))
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root)],
        env={**os.environ, "PYTHONPATH": modules},
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline().strip() == b"recorded"
        child.kill()
    return root


def running(root):
    """The episode that was being recorded."""
    folders = [EpisodeFolder.load(path) for path in Staging(root).episode_paths()]
    (folder,) = [folder for folder in folders if folder.manifest.quality]
    return folder


async def test_a_kill_loses_none_of_the_images_on_disk(tmp_path, killed):
    root = shutil.copytree(killed, tmp_path / "set")
    async with Recorder("me/x", root=root, resume=True, **OPTIONS):
        pass
    assert [episode["length"] for episode in episodes_of(root)] == [1, FRAMES]
    await record(tmp_path / "pixels", [decoded(image) for image in IMAGES], 1)
    assert packets_of(root)[1:] == packets_of(tmp_path / "pixels")


def test_a_file_that_is_cut_holds_the_images_before_the_cut(tmp_path, killed):
    root = shutil.copytree(killed, tmp_path / "set")
    folder = running(root)
    path = folder.path / folder.manifest.cameras[FRONT].file
    data = path.read_bytes()
    ends = [data.index(image) + len(image) for image in IMAGES]
    cuts = {0, 1, len(data), *(end + d for end in ends for d in (-1, 0, 1, 8)), *range(0, len(data), 997)}
    for cut in sorted(cut for cut in cuts if cut <= len(data)):
        path.write_bytes(data[:cut])
        whole = count_frames(folder, FRONT)
        assert whole <= sum(end <= cut for end in ends), cut
        assert whole >= sum(end + 16 <= cut for end in ends), cut  # a record's checksum may follow its image
        pixels = [frame.to_ndarray(format="rgb24") for frame in read_frames(folder, FRONT)]
        assert len(pixels) == whole
        assert all((a == decoded(image)).all() for a, image in zip(pixels, IMAGES, strict=False)), cut


def test_an_altered_byte_ends_the_images_before_it(tmp_path, killed):
    root = shutil.copytree(killed, tmp_path / "set")
    folder = running(root)
    path = folder.path / folder.manifest.cameras[FRONT].file
    data = path.read_bytes()
    for number, image in enumerate(IMAGES):
        at = data.index(image)
        for offset in (0, 21, len(image) // 2, len(image) - 1):
            altered = bytearray(data)
            altered[at + offset] ^= 0x10
            path.write_bytes(altered)
            assert count_frames(folder, FRONT) == number
            assert len(list(read_frames(folder, FRONT))) == number
