"""Checks one video file: its packets against the frame grid and its episodes, then every decoded frame."""

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

from ...dataset.packing.episode_places import file_size
from ...encoding.stats import FeatureStats
from ...errors import AiorecordError
from ...media.evidence import Evidence
from ...media.video_file import evidence_of
from ...workers.progress import Progress
from ..findings import Finding
from ..jobs import Job, content_error
from .data_file import timestamp_tolerance
from .decoded_frames import FrameSampler, visible
from .episode_pictures import MAX_PIXELS, EpisodePictures, camera_feature
from .folder_tree import file_index, name_in
from .metadata import EpisodeRow, Place, frames_claimed, stored_stats
from .spans import Span, locate
from .video_info import info_findings

_MAX_FRAMES = 100_000_000
_BYTES_PER_UNIT = 1 << 12
"""Progress of a video is in frames, whose number is unknown before; it is estimated from the file size."""


@dataclass
class VideoPart:
    """The content of a video file.

    Attributes:
        readable: it is a video of the camera's size, and its packets could be read.
        frames: coded frames.
        on_grid: frame k is shown at k/fps, for all of them.
        whole: episodes of which every frame exists, and could be decoded (unless `fast`).
        stats: recomputed statistics by episode, if none are stored or they differ.
        findings: what is wrong.
        evidence: the description stored in the file, whether it fits the frames or not.
    """

    readable: bool = False
    frames: int = 0
    on_grid: bool = False
    whole: set[int] = field(default_factory=set)
    stats: dict[int, FeatureStats] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    evidence: Evidence | None = None


@dataclass(frozen=True)
class VideoFile:
    """A video file to check. Picklable.

    Attributes:
        root: the dataset.
        path: the file.
        key: the camera.
        spec: its feature.
        fps: frames per second.
        episodes: rows of `meta/episodes` of the episodes in it.
        inferred: further episodes without a row: index, length, start in seconds.
        fast: read the packets only.
        threads: decoding threads.
    """

    root: Path
    path: Path
    key: str
    spec: dict[str, Any]
    fps: int
    episodes: list[EpisodeRow]
    inferred: list[tuple[int, int, float]]
    fast: bool
    threads: int

    def job(self) -> Job:
        """The job that checks it."""
        frames = frames_claimed(self.episodes) + sum(length for _, length, _ in self.inferred)
        total = max(1, frames or file_size(self.path) // _BYTES_PER_UNIT)
        return Job(self.path, video_job, (self,), total)


def video_job(file: VideoFile, progress: Progress) -> VideoPart:
    """Check a video file. A job."""
    return _Reader(file, progress).read()


class _Reader:
    def __init__(self, file: VideoFile, progress: Progress) -> None:
        self._file, self._progress = file, progress
        self._key, self._fps = file.key, file.fps
        self._place = name_in(file.root, file.path)
        self._feature = camera_feature(file.key, file.spec)
        self._part = VideoPart()

    def read(self) -> VideoPart:
        part = self._part
        try:
            times = self._read_packets()
            if times is None:
                return part
            spans = locate(self._places(), times, self._fps, self._add)
            part.whole = {span.episode for span in spans if span.first >= 0}
            if not self._file.fast:
                self._decode(times, spans)
        except (AiorecordError, av.FFmpegError, OSError, ValueError, TypeError) as error:
            self._add("video-unreadable", f"It cannot be read: {content_error(error)}")
            part.readable = False
            part.whole = set()
        return part

    def _add(self, code: str, message: str, **details: Any) -> None:
        self._part.findings.append(Finding(code, self._place, message, camera=self._key, **details))

    def _read_packets(self) -> NDArray[np.float64] | None:
        """When each frame is shown, in seconds, increasing; None if the file cannot be used."""
        part = self._part
        stamps: list[int] = []
        with open_mp4(self._file.path) as container:
            if not container.streams.video:
                self._add("video-unreadable", "It holds no video.")
                return None
            part.evidence = evidence_of(container)
            stream = container.streams.video[0]
            if not self._has_size(stream):
                return None
            for code, message in info_findings(self._feature, stream, self._fps):
                self._add(code, message)
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
        if stream.width * stream.height > MAX_PIXELS:
            raise ValueError(f"frames of {stream.width}x{stream.height}")
        if (stream.width, stream.height) == (width, height):
            return True
        found = f"{stream.width}x{stream.height}"
        self._add("video-size", f"Its frames are {found}, meta/info.json says {width}x{height}.")
        return False

    def _places(self) -> list[tuple[int, int, Place]]:
        """Index, length and position of the episodes in the file."""
        index = file_index(self._file.path)
        assert index is not None
        places = [(row.episode, row.length, row.videos[self._key]) for row in self._file.episodes]
        for episode, length, start in self._file.inferred:
            places.append((episode, length, Place(index, start, start + length / self._fps)))
        return places

    def _decode(self, times: NDArray[np.float64], spans: Sequence[Span]) -> None:
        if not any(span.first >= 0 for span in spans):
            return
        stored = stored_stats(self._file.root, self._file.episodes)
        sampler = FrameSampler(self._feature)
        whole = sorted((span for span in spans if span.first >= 0), key=lambda span: span.first)
        frames = self._frames()
        position = 0
        failure: str | None = None
        for span in whole:
            pictures = EpisodePictures(
                self._place, self._feature, self._fps, span.episode, span.length, sampler.sample
            )
            while position < span.first + span.length:
                try:
                    frame = next(frames, None)
                except (av.FFmpegError, ValueError) as error:
                    frame, failure = None, content_error(error)
                if frame is None:
                    break
                if frame.is_corrupt and failure is None:
                    failure = f"frame {position} is damaged"
                if position >= span.first and not frame.is_corrupt:
                    pictures.add(visible(frame), frame)
                position += 1
                if position % 32 == 0:
                    self._progress.update(self._part.frames // 4 + position * 3 // 4)
            if pictures.seen < span.length:
                self._part.whole.discard(span.episode)
                message = f"Only {pictures.seen} of its {span.length} frames can be decoded"
                message += f": {failure}." if failure else "."
                self._add("video-undecodable", message, episode=span.episode, first_frame=pictures.seen)
                continue
            found, stats = pictures.judge(
                stored.get(span.episode), lossy=True, depth_limit=sampler.depth_limit
            )
            self._part.findings += found
            if stats is not None:
                self._part.stats[span.episode] = stats

    def _frames(self) -> Iterator[av.VideoFrame]:
        with open_mp4(self._file.path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = self._file.threads
            stream.codec_context.options = {"err_detect": "crccheck"}
            for packet in container.demux(stream):
                yield from cast(list[av.VideoFrame], packet.decode())


def open_mp4(path: Path) -> InputContainer:
    """Open a video that anybody may have written.

    The format is given: otherwise a file that is a playlist would make libav open other files.
    """
    return av.open(str(path), "r", format="mp4", options={"protocol_whitelist": "file"})


def default_threads(workers: int) -> int:
    """Decoding threads of each of several workers."""
    return max(1, (os.cpu_count() or 1) // workers)
