"""A video file looked through: its packets against the grid and its episodes, then every frame decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..capture.convert import PixelConverter
from ..capture.histograms import histogram
from ..dataset.depth import DEPTH_PIX_FMT
from ..dataset.progress import Progress
from ..dataset.stats import FeatureStats, depth_stats, downsample_stride, histogram_stats, sample_indices
from ..encoders import DEPTH_QUANTA, DepthEncoderConfig
from ..errors import AiorecordError
from ..features import Feature
from .compare import depth_difference, image_difference
from .findings import Finding
from .frozen import FreezeFinder
from .images import frozen
from .metadata import EpisodeRow, Place, stored_stats
from .rows import timestamp_tolerance

_MM_PER_METRE = 1000.0
_MAX_PIXELS = 1 << 27
_MAX_FRAMES = 100_000_000


@dataclass
class VideoPart:
    """What a video file holds.

    Attributes:
        readable: it is a video of the camera's size, and its packets could be read.
        frames: coded frames.
        on_grid: frame k is shown at k/fps, for all of them.
        whole: episodes of which every frame is there, and could be decoded (unless nothing was).
        stats: recomputed statistics by episode, where none are stored or they differ.
        findings: what is wrong.
    """

    readable: bool = False
    frames: int = 0
    on_grid: bool = False
    whole: set[int] = field(default_factory=set)
    stats: dict[int, FeatureStats] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def video_job(
    root: Path,
    path: Path,
    key: str,
    spec: dict[str, Any],
    fps: int,
    episodes: list[EpisodeRow],
    inferred: list[tuple[int, int, float]],
    fast: bool,
    threads: int,
    progress: Progress,
) -> VideoPart:
    """Look through a video file. A job.

    Args:
        root: the dataset.
        path: the file.
        key: the camera.
        spec: its feature.
        fps: frames per second.
        episodes: rows of `meta/episodes` of the episodes in it.
        inferred: further episodes, of which there is no row: index, length, begin in seconds.
        fast: read the packets only.
        threads: decoding threads.
    """
    return _Reader(root, path, key, spec, fps, episodes, inferred, fast, threads, progress).read()


@dataclass(frozen=True)
class _Span:
    """Where an episode's frames are in the file."""

    episode: int
    length: int
    start_s: float
    end_s: float
    first: int
    """Place of its first frame among the frames in the order they are shown; -1 if they are not all there."""


class _Reader:
    def __init__(
        self,
        root: Path,
        path: Path,
        key: str,
        spec: dict[str, Any],
        fps: int,
        episodes: list[EpisodeRow],
        inferred: list[tuple[int, int, float]],
        fast: bool,
        threads: int,
        progress: Progress,
    ) -> None:
        self._path, self._key, self._fps, self._fast = path, key, fps, fast
        self._root, self._episodes, self._inferred = root, episodes, inferred
        self._threads, self._progress = threads, progress
        self._place = path.relative_to(root).as_posix()
        self._feature = Feature(key, "video", tuple(spec["shape"]), spec.get("names"), spec.get("info") or {})
        self._part = VideoPart()

    def read(self) -> VideoPart:
        part = self._part
        try:
            times = self._read_packets()
            if times is None:
                return part
            spans = self._locate(times)
            part.whole = {span.episode for span in spans if span.first >= 0}
            if not self._fast:
                self._decode(times, spans)
        except (AiorecordError, av.FFmpegError, OSError, ValueError, TypeError) as error:
            self._add("video-unreadable", f"It cannot be read: {error}")
            part.readable = False
            part.whole = set()
        return part

    def _add(self, code: str, message: str, **details: Any) -> None:
        self._part.findings.append(Finding(code, self._place, message, camera=self._key, **details))

    def _open(self) -> InputContainer:
        # By name: a file that claims to be a playlist would otherwise make libav open what it names.
        return av.open(str(self._path), "r", format="mp4", options={"protocol_whitelist": "file"})

    def _read_packets(self) -> NDArray[np.float64] | None:
        """When each frame is shown, in seconds, rising; None if the file cannot be used."""
        part = self._part
        stamps: list[int] = []
        with self._open() as container:
            if not container.streams.video:
                self._add("video-unreadable", "It holds no video.")
                return None
            stream = container.streams.video[0]
            if not self._has_size(stream):
                return None
            base = stream.time_base or Fraction(1, self._fps)
            keyframe: bool | None = None
            lost = 0
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                keyframe = packet.is_keyframe if keyframe is None else keyframe
                if packet.pts is None:
                    lost += 1
                    continue
                stamps.append(packet.pts)
                if len(stamps) > _MAX_FRAMES:
                    raise ValueError(f"more than {_MAX_FRAMES} frames")
                if len(stamps) % 256 == 0:
                    self._progress.update(len(stamps) // 4)
        part.frames = len(stamps)
        part.readable = True
        times = np.sort(np.array(stamps, np.int64)).astype(np.float64) * float(base)
        if not len(times):
            self._add("video-unreadable", "It holds no frame.")
            part.readable = False
            return None
        grid = np.arange(len(times)) / self._fps
        off = ~(np.abs(times - grid) <= timestamp_tolerance(grid))
        part.on_grid = not off.any() and not lost and bool(keyframe)
        if lost:
            self._add("video-grid", f"{lost} frames have no timestamp.")
        elif not keyframe:
            self._add("video-grid", "It does not begin with a keyframe.")
        elif off.any():
            at = int(np.argmax(off))
            self._add(
                "video-grid",
                f"{int(off.sum())} of {len(times)} frames are off the grid of {self._fps} frames per second; "
                f"frame {at} is shown at {times[at]:.6f} s instead of {grid[at]:.6f} s.",
            )
        return times

    def _has_size(self, stream: VideoStream) -> bool:
        height, width, _ = self._feature.size_hwc
        if stream.width * stream.height > _MAX_PIXELS:
            raise ValueError(f"frames of {stream.width}x{stream.height}")
        if (stream.width, stream.height) == (width, height):
            return True
        self._add(
            "video-size",
            f"Its frames are {stream.width}x{stream.height}, meta/info.json says {width}x{height}.",
        )
        return False

    def _locate(self, times: NDArray[np.float64]) -> list[_Span]:
        """Where each episode's frames are, in the order of the file; reports what does not fit."""
        places = [(row.episode, row.length, row.videos[self._key]) for row in self._episodes]
        index = next((place.index for _, _, place in places), None)
        for episode, length, start in self._inferred:
            places.append((episode, length, Place(index, start, start + length / self._fps)))  # type: ignore[arg-type]
        places.sort(key=lambda item: (item[2].start_s, item[0]))
        spans: list[_Span] = []
        covered = np.zeros(len(times), bool)
        before = 0.0
        for episode, length, place in places:
            span = self._span(times, episode, length, place)
            if span.first >= 0:
                if covered[span.first : span.first + length].any():
                    self._add(
                        "video-overlap",
                        f"It begins at {place.start_s:.4f} s, the episode before it ends at {before:.4f} s.",
                        episode=episode,
                    )
                    span = _Span(episode, length, place.start_s, place.end_s, -1)
                else:
                    covered[span.first : span.first + length] = True
            before = max(before, place.end_s)
            spans.append(span)
        unused = int((~covered).sum())
        if unused and all(span.first >= 0 for span in spans):
            at = int(np.argmax(~covered))
            self._add(
                "video-unused-frames",
                f"{unused} of {len(times)} frames belong to no episode, from {times[at]:.3f} s on.",
            )
        return spans

    def _span(self, times: NDArray[np.float64], episode: int, length: int, place: Place) -> _Span:
        missing = _Span(episode, length, place.start_s, place.end_s, -1)
        if not (np.isfinite([place.start_s, place.end_s]).all() and 0 <= place.start_s <= place.end_s):
            self._add(
                "video-frames-missing",
                f"Its place is from {place.start_s} s to {place.end_s} s.",
                episode=episode,
            )
            return missing
        half = 0.5 / self._fps
        first = int(np.searchsorted(times, place.start_s - half))
        end = int(np.searchsorted(times, place.end_s - half))
        found = times[first : first + max(0, min(length, len(times)))]
        wanted = place.start_s + np.arange(len(found)) / self._fps
        reached = int(np.argmin(good)) if not (good := self._close(found, wanted)).all() else len(found)
        if reached >= length and end - first == length:
            return _Span(episode, length, place.start_s, place.end_s, first)
        has = end - first
        claims = round((place.end_s - place.start_s) * self._fps)
        if claims == has < length:
            self._add(
                "lerobot-frames-dropped",
                f"It has {has} frames for {length} rows: LeRobot's streaming encoder dropped {length - has} "
                "of them, and nothing says which.",
                episode=episode,
                first_frame=has,
                last_frame=length - 1,
            )
        elif has > length:
            self._add(
                "video-frames-missing",
                f"Its place in the file holds {has} frames for {length} rows.",
                episode=episode,
            )
        else:
            self._add(
                "video-frames-missing",
                f"Only {reached} of its {length} frames are where they should be.",
                episode=episode,
                first_frame=reached,
                last_frame=length - 1,
            )
        return missing

    def _close(self, found: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.bool_]:
        close: NDArray[np.bool_] = np.abs(found - wanted) <= timestamp_tolerance(wanted)
        return close

    def _decode(self, times: NDArray[np.float64], spans: Sequence[_Span]) -> None:
        stored = stored_stats(self._root, self._episodes) if self._episodes else {}
        whole = sorted((span for span in spans if span.first >= 0), key=lambda span: span.first)
        frames = self._frames()
        position = 0
        failure: str | None = None
        for span in whole:
            look = _Look(span, self._feature, self._fps)
            while position < span.first + span.length:
                try:
                    frame = next(frames, None)
                except (av.FFmpegError, ValueError) as error:
                    frame, failure = None, str(error)
                if frame is None:
                    break
                if frame.is_corrupt and failure is None:
                    failure = f"frame {position} is damaged"
                if position >= span.first and not frame.is_corrupt:
                    look.add(position - span.first, frame)
                position += 1
                if position % 32 == 0:
                    self._progress.update(self._part.frames // 4 + position * 3 // 4)
            if look.seen < span.length:
                self._part.whole.discard(span.episode)
                self._add(
                    "video-undecodable",
                    f"Only {look.seen} of its {span.length} frames can be decoded"
                    + (f": {failure}." if failure else "."),
                    episode=span.episode,
                    first_frame=look.seen,
                )
                continue
            for first, last in look.finder.finish():
                self._part.findings.append(
                    frozen(self._place, span.episode, self._key, first, last, self._fps)
                )
            self._compare(span, look, stored.get(span.episode))

    def _frames(self) -> Iterator[av.VideoFrame]:
        with self._open() as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = self._threads
            stream.codec_context.options = {"err_detect": "crccheck"}
            for packet in container.demux(stream):
                yield from cast(list[av.VideoFrame], packet.decode())

    def _compare(self, span: _Span, look: _Look, stored: dict[str, FeatureStats] | None) -> None:
        actual = look.stats()
        known = any(row.episode == span.episode for row in self._episodes)
        if stored is None or self._key not in stored:
            difference: str | None = "it has none"
        elif self._feature.is_depth:
            difference = depth_difference(stored[self._key], actual, lossy=True, limit=look.depth_limit)
        else:
            difference = image_difference(stored[self._key], actual, lossy=True)
        if difference is not None:
            self._part.stats[span.episode] = actual
            if known:
                message = f"Statistics of {self._key} in meta/episodes: {difference}."
                self._add("stats-mismatch", message, episode=span.episode)


class _Look:
    """One episode's decoded frames."""

    def __init__(self, span: _Span, feature: Feature, fps: int) -> None:
        self.seen = 0
        self.finder = FreezeFinder(fps)
        self._feature = feature
        self._wanted = set(sample_indices(span.length))
        self._samples: list[NDArray[Any]] = []
        self._converter = PixelConverter(DEPTH_PIX_FMT if feature.is_depth else "rgb24")
        self._depth = _depth_table(feature) if feature.is_depth else None

    @property
    def depth_limit(self) -> float:
        """The largest depth that the quantiser keeps, in the dataset's unit."""
        assert self._depth is not None
        return float(self._depth[-1])

    def add(self, number: int, frame: av.VideoFrame) -> None:
        """The next frame."""
        self.seen += 1
        self.finder.add(_visible(frame))
        if number not in self._wanted:
            return
        if self._depth is None:
            pixels = np.asarray(self._converter.convert(frame).to_ndarray(), np.uint8)
            self._samples.append(histogram(pixels))
        else:
            stride = downsample_stride(frame.height, frame.width)
            plane = self._converter.convert(frame).planes[0]
            lines = np.frombuffer(plane, np.uint16).reshape(frame.height, plane.line_size // 2)
            codes = np.minimum(lines[::stride, : frame.width : stride], DEPTH_QUANTA)
            self._samples.append(self._depth[codes])

    def stats(self) -> FeatureStats:
        """Statistics of the sampled frames, as lerobot samples them."""
        samples = np.stack(self._samples)
        return depth_stats(samples) if self._depth is not None else histogram_stats(samples)


def _visible(frame: av.VideoFrame) -> NDArray[Any]:
    """The first plane without the padding behind each line, which may hold anything. A copy."""
    plane = frame.planes[0]
    dtype: Any = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    pixels: NDArray[Any] = lines[: plane.height].view(dtype)[:, : plane.width].copy()
    return pixels


def _depth_table(feature: Feature) -> NDArray[np.float32]:
    """The depth of each 12-bit code, in the dataset's unit: lerobot's quantiser backwards."""
    encoder = DepthEncoderConfig()
    settings = {
        name: feature.info.get(f"video.{name}", getattr(encoder, name))
        for name in ("depth_min", "depth_max", "shift", "use_log")
    }
    low, high, shift = (float(settings[name]) for name in ("depth_min", "depth_max", "shift"))
    share = np.arange(DEPTH_QUANTA + 1) / DEPTH_QUANTA
    with np.errstate(all="ignore"):
        if settings["use_log"]:
            depth = np.exp(share * (np.log(high + shift) - np.log(low + shift)) + np.log(low + shift)) - shift
        else:
            depth = share * (high - low) + low
    factor = _MM_PER_METRE if feature.info.get("depth_unit") == "mm" else 1.0
    return np.asarray(depth * factor, np.float32)


def default_threads(workers: int) -> int:
    """Decoding threads of each of several workers."""
    return max(1, (os.cpu_count() or 1) // workers)
