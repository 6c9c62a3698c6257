"""Frames out of video files, over and over. Blocking; runs in a prefetch thread."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SourceError

type Converter = Callable[[av.VideoFrame], NDArray[Any]]

DEPTH_CODES = 4096
"""Depth videos hold 12-bit codes (lerobot 0.6.1, `lerobot/datasets/depth_utils.py`)."""

_SKIP_AHEAD_S = 1.0  # up to here, decoding on is cheaper than seeking


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of a video file.

    Attributes:
        path: the file.
        start_s: time of its first frame.
        frames: how many frames; None: to the end of the file.
        label: what it is, for messages.
    """

    path: Path
    start_s: float = 0.0
    frames: int | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class VideoSize:
    """What a video file says of itself, in pixels."""

    width: int
    height: int


def probe(path: Path, option: str) -> VideoSize:
    """Open a video file and read its size.

    Args:
        path: the file.
        option: the setting that named it, for the error.

    Raises:
        ConfigError: there is no such file, or no video in it.
    """
    if not path.is_file():
        raise ConfigError(f"There is no video file {path}.", option=option)
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise ConfigError(f"{path} cannot be read as a video: {error}", option=option) from error
    try:
        if not container.streams.video:
            raise ConfigError(f"{path} holds no video stream.", option=option)
        stream = container.streams.video[0]
        return VideoSize(stream.width, stream.height)
    finally:
        container.close()


def rgb_converter(width: int, height: int) -> Converter:
    """Frames as (height, width, 3) uint8, scaled if they have another size."""

    def convert(frame: av.VideoFrame) -> NDArray[Any]:
        return frame.reformat(width=width, height=height, format="rgb24").to_ndarray()

    return convert


def depth_converter(info: Mapping[str, Any]) -> Converter:
    """Frames of 12-bit depth codes as (height, width, 1) uint16 millimetres or float32 metres.

    Args:
        info: the feature's ``info`` in info.json, which holds the quantiser's parameters
            (``video.depth_min`` and so on, lerobot's defaults where missing) and ``depth_unit``.
    """
    low, high = float(info.get("video.depth_min", 0.01)), float(info.get("video.depth_max", 10.0))
    shift = float(info.get("video.shift", 3.5))
    share = np.arange(DEPTH_CODES) / (DEPTH_CODES - 1)
    if info.get("video.use_log", True):
        first, last = math.log(low + shift), math.log(high + shift)
        metres = np.exp(first + share * (last - first)) - shift
    else:
        metres = low + share * (high - low)
    metres = np.clip(metres, low, high)
    table: NDArray[Any] = metres.astype(np.float32)
    if info.get("depth_unit", "mm") != "m":
        table = np.clip(np.rint(metres * 1000), 0, 65535).astype(np.uint16)

    def convert(frame: av.VideoFrame) -> NDArray[Any]:
        plane = frame.planes[0]
        if frame.format.components[0].bits != 12:
            raise _error(f"A depth video holds 12-bit codes, not {frame.format.name}.")
        codes = np.frombuffer(plane, dtype="<u2").reshape(plane.height, plane.line_size // 2)
        depth: NDArray[Any] = table[np.minimum(codes[:, : plane.width], DEPTH_CODES - 1)]
        return depth[..., None]

    return convert


def endless_frames(clips: Sequence[Clip], convert: Converter) -> Generator[NDArray[Any]]:
    """The frames of all clips in order, and again from the first clip, without end.

    Args:
        clips: one or more; those that follow each other in one file are decoded without seeking.
        convert: makes an array of each frame.

    Raises:
        SourceError: a file is gone or damaged, or a clip has fewer frames than it should.
    """
    reader = _Reader()
    with contextlib.closing(reader):
        while True:
            for clip in clips:
                count = 0
                for frame in reader.frames(clip):
                    yield convert(frame)
                    count += 1
                if count < (1 if clip.frames is None else clip.frames):
                    wanted = "any" if clip.frames is None else f"all {clip.frames}"
                    raise _error(f"{clip.label or clip.path} does not hold {wanted} frames, but {count}.")


class _Reader:
    """One open file and the position in it."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._container: Any = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._last_s = -math.inf
        self._pending: av.VideoFrame | None = None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def frames(self, clip: Clip) -> Iterator[av.VideoFrame]:
        try:
            self._go_to(clip)
            left = math.inf if clip.frames is None else clip.frames
            while left > 0:
                frame = self._next()
                if frame is None:
                    return
                yield frame
                left -= 1
        except (av.error.FFmpegError, OSError) as error:
            raise _error(f"{clip.label or clip.path} cannot be decoded: {error}") from error

    def _go_to(self, clip: Clip) -> None:
        ahead_s = clip.start_s - self._last_s
        whole = clip.frames is None
        if clip.path != self._path or self._container is None or whole or not 0 < ahead_s < _SKIP_AHEAD_S:
            self._open(clip.path)
            if clip.start_s > 0:
                stream = self._container.streams.video[0]
                self._container.seek(round(clip.start_s / stream.time_base), stream=stream, backward=True)
        if whole:
            return
        # Half a frame of tolerance: times in the metadata are rounded.
        rate = self._container.streams.video[0].average_rate
        earliest_s = clip.start_s - (0.5 / float(rate) if rate else 1e-3)
        while (frame := self._next()) is not None:
            if frame.time is None or frame.time >= earliest_s:
                self._pending = frame
                return

    def _open(self, path: Path) -> None:
        self.close()
        self._container = av.open(str(path))
        if not self._container.streams.video:
            raise _error(f"{path} holds no video stream.")
        self._path, self._last_s, self._pending = path, -math.inf, None
        self._frames = self._container.decode(video=0)

    def _next(self) -> av.VideoFrame | None:
        frame, self._pending = self._pending, None
        if frame is None:
            frame = next(self._frames, None)
        if frame is not None and frame.time is not None:
            self._last_s = frame.time
        return frame


def _error(message: str) -> SourceError:
    return SourceError(message, source="replay", call="get_observation")
