"""Decodes frames from video files in an endless loop. Blocking; runs in a prefetch thread."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from ...system.storage import check_file
from .film import LOCAL_FILES, film_stream, shown_at, source_error, upright_rgb

type Converter = Callable[[av.VideoFrame], NDArray[Any]]

DEPTH_CODES = 4096
"""Depth videos hold 12-bit codes (lerobot 0.6.1, `lerobot/datasets/depth_utils.py`)."""

_SKIP_AHEAD_S = 1.0  # up to this distance, decoding further is cheaper than seeking


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of a video file.

    Attributes:
        path: the file.
        start_s: time of its first frame.
        frames: how many frames; None: to the end of the file.
        label: its name in messages.
    """

    path: Path
    start_s: float = 0.0
    frames: int | None = None
    label: str = ""


def rgb_converter(width: int, height: int) -> Converter:
    """Frames as (height, width, 3) uint8: see `film.upright_rgb`."""
    return functools.partial(upright_rgb, width=width, height=height)


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
            raise source_error(f"A depth video holds 12-bit codes, not {frame.format.name}.")
        codes = np.frombuffer(plane, dtype="<u2").reshape(plane.height, plane.line_size // 2)
        depth: NDArray[Any] = table[np.minimum(codes[:, : plane.width], DEPTH_CODES - 1)]
        return depth[..., None]

    return convert


def endless_frames(
    clips: Sequence[Clip], convert: Converter, fps: float | None = None, clips_fps: float | None = None
) -> Generator[NDArray[Any]]:
    """The frames of all clips in order, in an endless loop.

    Args:
        clips: one or more; those that follow each other in one file are decoded without seeking.
        convert: makes an array of each frame.
        fps: yield the frames shown at 0, 1/fps, 2/fps, ... seconds, so that some come twice or are left out;
            None yields every frame once.
        clips_fps: frames per second of the clips; None uses the time of each frame.

    Raises:
        SourceError: a file is gone or damaged, or a clip has fewer frames than it should.
    """
    reader = _Reader()
    with contextlib.closing(reader):
        if fps is None:
            frames = _every_frame(reader, clips)
        elif clips_fps is None:
            frames = _frames_by_time(reader, clips, fps)
        else:
            frames = resampled(_every_frame(reader, clips), clips_fps, fps)
        for frame in frames:
            yield convert(frame)


def resampled[T](items: Iterator[T], items_fps: float, fps: float) -> Iterator[T]:
    """The items at 0, 1/fps, 2/fps, ... seconds of a sequence with another rate.

    An object is repeated where `fps` is the higher rate.
    """
    ratio = Fraction(items_fps) / Fraction(fps)
    taken = -1
    item: T | None = None
    for step in itertools.count():
        while taken < int(step * ratio):
            try:
                item = next(items)
            except StopIteration:
                return
            taken += 1
        yield cast(T, item)


def _every_frame(reader: _Reader, clips: Sequence[Clip]) -> Iterator[av.VideoFrame]:
    while True:
        for clip in clips:
            count = 0
            for frame in reader.frames(clip):
                yield frame
                count += 1
            _check_count(clip, count)


def _frames_by_time(reader: _Reader, clips: Sequence[Clip], fps: float) -> Iterator[av.VideoFrame]:
    step, begin_s = 0, 0.0
    while True:
        for clip in clips:
            count, end_s = 0, 0.0
            for end_s, frame in shown_at(reader.frames(clip), lambda: reader.rate):
                count += 1
                while step / fps - begin_s < end_s - reader.tolerance_s(fps):
                    yield frame
                    step += 1
            _check_count(clip, count)
            begin_s += end_s


def _check_count(clip: Clip, count: int) -> None:
    if count < (1 if clip.frames is None else clip.frames):
        wanted = "any" if clip.frames is None else f"all {clip.frames}"
        raise source_error(f"{clip.label or clip.path} does not hold {wanted} frames, but {count}.")


class _Reader:
    """One open file and the position in it."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._container: Any = None
        self._stream: Any = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._last_s = -math.inf
        self._pending: av.VideoFrame | None = None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def rate(self) -> Fraction | None:
        """Frames per second of the open file, on average; None if unknown."""
        return self._stream.average_rate if self._stream is not None else None

    def tolerance_s(self, fps: float) -> float:
        """How far a frame's time may be from the requested time: times are rounded to the file's clock."""
        base = self._stream.time_base
        return min(float(base) if base else 0.0, 0.25 / fps)

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
            raise source_error(f"{clip.label or clip.path} cannot be decoded: {error}") from error

    def _go_to(self, clip: Clip) -> None:
        ahead_s = clip.start_s - self._last_s
        whole = clip.frames is None
        if clip.path != self._path or self._container is None or whole or not 0 < ahead_s < _SKIP_AHEAD_S:
            self._open(clip.path)
            if clip.start_s > 0:
                start = round(clip.start_s / self._stream.time_base)
                self._container.seek(start, stream=self._stream, backward=True)
        if whole:
            return
        # Half a frame of tolerance: times in the metadata are rounded.
        earliest_s = clip.start_s - (0.5 / float(self.rate) if self.rate else 1e-3)
        while (frame := self._next()) is not None:
            if frame.time is None or frame.time >= earliest_s:
                self._pending = frame
                return

    def _open(self, path: Path) -> None:
        self.close()
        try:
            check_file(path)
        except ValueError as error:
            raise source_error(f"{path} cannot be read: {error}.") from error
        self._container = av.open(str(path), options=LOCAL_FILES)
        self._stream = film_stream(self._container)
        if self._stream is None:
            raise source_error(f"{path} holds no video stream.")
        self._path, self._last_s, self._pending = path, -math.inf, None
        self._frames = self._container.decode(self._stream)

    def _next(self) -> av.VideoFrame | None:
        frame, self._pending = self._pending, None
        if frame is None:
            frame = next(self._frames, None)
        if frame is not None and frame.time is not None:
            self._last_s = frame.time
        return frame
