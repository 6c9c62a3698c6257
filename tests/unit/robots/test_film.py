"""Footage is replayed as it was filmed: its colours, upright, and at its own speed."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from aiorecord.errors import ConfigError
from aiorecord.robots import ReplayRobot, ReplayRobotConfig
from aiorecord.robots.replay.film import probe
from aiorecord.robots.replay.video_source import resampled

KEY = "observation.images.front"
W, H = 48, 32
COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (255, 255, 255), (0, 0, 0), (200, 180, 20)]

WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
WEIGHTS[9] = (0.2627, 0.0593)
"""Of red and blue in each matrix of ITU-T H.273, table 4."""


def yuv(rgb: tuple[int, int, int], matrix: int, full: bool) -> list[int]:
    """A colour in Y'CbCr, by the formulas of ITU-T H.273 (8.3)."""
    red, blue = WEIGHTS[matrix]
    r, g, b = (value / 255 for value in rgb)
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = [(b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))]
    if full:
        return [round(255 * y), *(round(128 + 255 * value) for value in chroma)]
    return [round(16 + 219 * y), *(round(128 + 224 * value) for value in chroma)]


def write_film(
    path: Path,
    images: list[np.ndarray],
    times: list[int],
    base: Fraction = Fraction(1, 30),
    *,
    matrix: int = 2,
    full: bool | None = None,
    transfer: int = 2,
) -> Path:
    """A lossless film of planar Y'CbCr pictures (3, H, W), each shown from its time on."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            "libx264", rate=1 / base, options={"qp": "0", "preset": "ultrafast"}
        )
        stream.height, stream.width = images[0].shape[1:]
        stream.pix_fmt = "yuv444p"
        stream.codec_context.time_base = base
        context = stream.codec_context
        context.colorspace, context.color_trc = matrix, transfer
        context.color_range = 0 if full is None else 2 if full else 1
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="yuv444p")
            frame.pts, frame.time_base = time, base
            frame.colorspace, frame.color_range = matrix, 0 if full is None else 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def plain(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None].repeat(H, 1).repeat(W, 2)


def grey(level: int) -> np.ndarray:
    return plain([level, 128, 128])


async def replayed(path: Path, count: int, **options: Any) -> list[np.ndarray]:
    robot = ReplayRobot(ReplayRobotConfig(videos={"front": str(path)}, **options))
    await robot.connect()
    try:
        return [(await robot.get_observation())[KEY] for _ in range(count)]
    finally:
        await robot.disconnect()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
async def test_colours_are_those_of_the_tags(tmp_path, matrix, full):
    images = [plain(yuv(rgb, matrix, full)) for rgb in COLOURS]
    film = write_film(tmp_path / "a.mp4", images, list(range(len(images))), matrix=matrix, full=full)
    for image, rgb in zip(await replayed(film, len(images)), COLOURS, strict=True):
        assert np.abs(image.astype(int) - rgb).max() <= 2


async def test_a_film_without_tags_is_bt601_as_lerobot_reads_it(tmp_path):
    film = write_film(tmp_path / "a.mp4", [plain(yuv(rgb, 5, False)) for rgb in COLOURS], list(range(6)))
    for image, rgb in zip(await replayed(film, 6), COLOURS, strict=True):
        assert np.abs(image.astype(int) - rgb).max() <= 2


async def test_hdr_is_said(tmp_path, caplog):
    film = write_film(tmp_path / "a.mp4", [grey(100)] * 3, [0, 1, 2], matrix=9, transfer=16)
    with caplog.at_level(logging.WARNING):
        await replayed(film, 1)
    assert "HDR (PQ) and is not tone-mapped" in caplog.text
    plain_film = write_film(tmp_path / "b.mp4", [grey(100)] * 3, [0, 1, 2], matrix=1, transfer=1)
    assert probe(plain_film, "videos.front").remarks == ()


QUARTER = 1 << 16


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a telephone held upright: clockwise
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
    ],
)
async def test_a_film_is_turned_by_its_display_matrix(tmp_path, matrix, expected):
    levels = np.full((H, W), 40, np.uint8)
    levels[: H // 2, : W // 2], levels[: H // 2, W // 2 :] = 200, 120
    image = np.stack([levels, *[np.full((H, W), 128, np.uint8)] * 2])
    film = write_film(tmp_path / "a.mp4", [image] * 2, [0, 1])
    plain_image = (await replayed(film, 1))[0]
    turn(film, matrix)
    image = (await replayed(film, 1))[0]
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected(plain_image))
    found = probe(film, "videos.front")
    assert (found.height, found.width) == image.shape[:2]
    assert (await replayed(film, 1, width=24, height=24))[0].shape == (24, 24, 3)


def turn(film: Path, matrix: tuple[int, int, int, int], unit: int = QUARTER) -> None:
    """Write a display matrix into the header of a film's only track."""
    a, b, c, d = (value * unit for value in matrix)
    numbers = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    content = film.read_bytes()
    begin = content.index(b"tkhd") + 44
    film.write_bytes(
        content[:begin]
        + b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
        + content[begin + 36 :]
    )


async def test_an_angle_that_cannot_be_turned_is_said(tmp_path):
    film = write_film(tmp_path / "a.mp4", [grey(100)] * 2, [0, 1])
    turn(film, (1, 1, -1, 1), 46341)  # 45 degrees
    found = probe(film, "videos.front")
    assert (found.width, found.height) == (W, H)
    assert "not a multiple of 90 degrees" in found.remarks[0]
    assert (await replayed(film, 1))[0].shape == (H, W, 3)


def levels(images: list[np.ndarray]) -> list[int]:
    """Which frames they are, of a film whose frame k is grey at 20 + 4 k."""
    return [round(((int(image[0, 0, 0]) * 219 / 255 + 16) - 20) / 4) for image in images]


@pytest.mark.parametrize(
    ("rate", "suffix", "fps", "expected"),
    [
        (60, "mp4", 30, [0, 2, 4, 6, 8, 10, 0, 2, 4]),
        (15, "mp4", 30, [0, 0, 1, 1, 2, 2, 3, 3, 4]),
        (30, "mp4", 30, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (60, "mkv", 30, [0, 2, 4, 6, 8, 10, 0, 2, 4]),  # times in milliseconds, rounded
        (30, "mkv", 30, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (24, "mp4", 30, [0, 0, 1, 2, 3, 4, 4, 5, 6]),
        (60, "mp4", None, [0, 2, 4, 6, 8, 10, 0, 2, 4]),  # without a rate: 30
    ],
)
async def test_a_film_is_shown_at_its_own_speed(tmp_path, rate, suffix, fps, expected):
    images = [grey(20 + 4 * number) for number in range(12)]
    film = write_film(tmp_path / f"a.{suffix}", images, list(range(12)), Fraction(1, rate))
    assert levels(await replayed(film, 9, fps=fps)) == expected
    assert levels(await replayed(film, 9, fps=fps, pace="frames")) == list(range(9))


async def test_a_film_of_changing_rate_is_shown_by_its_clock(tmp_path):
    times = [0, 1, 2, 10, 11, 20]
    images = [grey(20 + 4 * number) for number in range(6)]
    film = write_film(tmp_path / "a.mp4", images, times, Fraction(1, 30))
    shown = levels(await replayed(film, 20, fps=30))
    assert shown == [0, 1, *[2] * 8, 3, *[4] * 9]


async def test_a_film_that_begins_later_begins_at_once(tmp_path):
    images = [grey(20 + 4 * number) for number in range(4)]
    film = write_film(tmp_path / "a.mkv", images, [300, 301, 302, 303], Fraction(1, 30))
    assert levels(await replayed(film, 4, fps=30)) == [0, 1, 2, 3]


async def test_an_attached_picture_is_no_film(tmp_path):
    """A picture of a sound file is the first video stream of it."""
    png = tmp_path / "cover.png"
    with av.open(str(png), "w", format="image2") as container:
        stream: Any = container.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
    film = write_film(tmp_path / "film.mp4", [grey(20 + 4 * k) for k in range(4)], [0, 1, 2, 3])
    with_cover, only_cover = tmp_path / "both.mp4", tmp_path / "only.mp4"
    join(with_cover, [(png, True), (film, False)])
    join(only_cover, [(png, True)])
    assert (await replayed(with_cover, 1))[0].shape == (H, W, 3)
    with pytest.raises(ConfigError, match="holds no video stream"):
        probe(only_cover, "videos.front")


def join(path: Path, sources: list[tuple[Path, bool]]) -> None:
    with av.open(str(path), "w") as output:
        opened = [(av.open(str(source)), attached) for source, attached in sources]
        streams = []
        for source, attached in opened:
            stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
            if attached:
                stream.disposition = av.stream.Disposition.attached_pic.value
            streams.append(stream)
        for (source, _), stream in zip(opened, streams, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
            source.close()


@pytest.mark.parametrize(("items_fps", "fps"), [(30, 30), (10, 30), (30, 10), (25, 30), (29.97, 30), (7, 3)])
def test_resampling_never_drifts(items_fps, fps):
    taken = resampled(iter(range(10**9)), items_fps, fps)
    shown = [next(taken) for _ in range(1000)]
    exact = [int(step * Fraction(items_fps) / Fraction(fps)) for step in range(1000)]
    assert shown == exact


@pytest.mark.parametrize("option", [{"pace": "slow"}, {"fps": float("nan")}, {"fps": -1}])
def test_settings_that_cannot_be(tmp_path, option):
    film = write_film(tmp_path / "a.mp4", [grey(100)] * 2, [0, 1])
    with pytest.raises(ConfigError) as raised:
        ReplayRobot(ReplayRobotConfig(videos={"front": str(film)}, **option))
    assert raised.value.option == next(iter(option))
