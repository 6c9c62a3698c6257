"""Yields the frames of one camera of a captured episode, and computes their statistics.

Statistics come from the histograms that were written while the frames were captured; only frames that have
none are read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from ..errors import DamageError
from ..features import Feature
from ..media.libav_errors import libav_errors
from ..staging.folder import EpisodeFolder
from ..staging.histograms import histogram, sampling_stride
from ..staging.reader import count_frames, read_frames, read_histograms, read_spill
from ..staging.staged_file import Extent
from ..system.storage import is_there
from ..workers.progress import Progress
from .stats import FeatureStats, depth_stats, histogram_stats, sample_indices

if TYPE_CHECKING:
    from numpy.typing import NDArray

type CapturedFrame = av.VideoFrame | NDArray[Any]


def known_stats(folder: EpisodeFolder, key: str) -> FeatureStats | None:
    """The statistics of a camera whose pixels were all counted while they were captured.

    Takes milliseconds: only the histograms are read.

    Returns:
        None if the frames must be read, which `encode_camera` does: for depth, if frames were spilled raw,
        and if histograms are missing, which a crash may cause.

    Raises:
        StateError: the episode has no such camera.
        StorageError: the disk refused.
    """
    length = folder.manifest.length or 0
    spill = folder.manifest.cameras[key].spill
    if not length or folder.manifest.schema()[key].is_depth or is_there(folder.path / spill):
        return None
    indices = sample_indices(length)
    known, found = _sampled_histograms(folder, key, indices)
    return histogram_stats(np.stack([found[index] for index in indices])) if known >= length else None


def _sampled_histograms(
    folder: EpisodeFolder, key: str, indices: list[int]
) -> tuple[int, dict[int, NDArray[np.uint32]]]:
    """The number of an episode's histograms, and those of sampled frames; others are not kept in memory.

    Raises:
        DamageError: histograms of a complete episode are not what was written.
        StorageError: they cannot be read.
    """
    manifest, wanted = folder.manifest, set(indices)
    camera = manifest.cameras[key]
    known, found = 0, {}
    extents: dict[str, Extent] = {}
    for array in islice(read_histograms(folder, key, extents), manifest.length):
        if known in wanted:
            found[known] = array
        known += 1
    extent = extents.get(camera.histograms or "", Extent())
    path = folder.path / (camera.histograms or "")
    # Where they are only too few, or of an episode that was cut, whose end may be torn, the frames are
    # counted anew.
    due = min(camera.frames or 0, manifest.length or 0)
    if extent.altered and not manifest.interrupted and known < due:
        raise DamageError(f"{path} is damaged: {extent.fault}.", path=path)
    return known, found


class CameraFrames:
    """Yields the frames of one camera in order, counts them, and samples them for the statistics."""

    def __init__(
        self, folder: EpisodeFolder, feature: Feature, length: int, progress: Progress, *, sampled: bool
    ) -> None:
        self._folder = folder
        self._key = feature.key
        self._length = length
        self._progress = progress
        self._indices = sample_indices(length) if sampled else []
        self._histograms: dict[int, NDArray[np.uint32]] = {}
        known = 0
        if sampled and not feature.is_depth:
            known, self._histograms = _sampled_histograms(folder, feature.key, self._indices)
        # For depth all frames; for colour those whose histograms were not written because of a crash.
        self._wanted = {index for index in self._indices if index >= known}
        self._samples: dict[int, NDArray[Any]] = {}
        self._is_depth = feature.is_depth
        self._replaced: list[int] = []

    def __iter__(self) -> Iterator[CapturedFrame]:
        count = 0
        # After a crash the capture may hold some frames whose rows were lost.
        for frame in islice(read_frames(self._folder, self._key, self._replaced), self._length):
            if count in self._wanted:
                self._samples[count] = self._sample(frame)
            yield frame
            count += 1
            self._progress.update(count)
        if count < self._length:
            raise self._lacking(count)

    def after(self, count: int) -> Iterator[CapturedFrame]:
        """The frames after the first `count`, which are in the final video already.

        Those first ones are decoded only if the statistics need them.
        """
        camera = self._folder.manifest.cameras[self._key]
        if self._wanted or count not in (self._length, camera.frames):
            yield from islice(self, count, None)
            return
        for frame in islice(read_spill(self._folder, camera, count), self._length - count):
            if frame is None:
                break
            yield frame
            count += 1
            self._progress.update(count)
        self._progress.update(count)
        if count < self._length:
            raise self._lacking(count)

    def _lacking(self, count: int) -> DamageError:
        """The error for a capture that holds fewer frames than its manifest states."""
        path = self._folder.path / self._folder.manifest.cameras[self._key].file
        known: dict[str, Extent] = {}
        count_frames(self._folder, self._key, known)
        faults = "".join(f"; {name}: {extent.fault}" for name, extent in known.items() if extent.fault)
        return DamageError(
            f"The capture of {self._key!r} holds {count} frames, the rows {self._length}{faults}.", path=path
        )

    @property
    def corrupt(self) -> int:
        """Encoded images that could not be decoded, after all frames were yielded."""
        return sum(index < self._length for index in self._replaced)

    def stats(self) -> FeatureStats:
        """The statistics, after all frames were yielded."""
        if self._is_depth:
            return depth_stats(np.stack([self._samples[index] for index in self._indices]))
        rows = [
            self._samples[index] if index in self._samples else self._histograms[index]
            for index in self._indices
        ]
        return histogram_stats(np.stack(rows))

    def _sample(self, frame: CapturedFrame) -> NDArray[Any]:
        if not self._is_depth:
            return histogram(rgb_pixels(frame))
        assert isinstance(frame, np.ndarray)
        stride = sampling_stride(*frame.shape)
        return frame[::stride, ::stride].copy()


def rgb_pixels(frame: CapturedFrame) -> NDArray[np.uint8]:
    """A captured colour frame as (H, W, 3) uint8."""
    if isinstance(frame, av.VideoFrame):
        with libav_errors("convert a captured frame to RGB"):
            return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return frame


def rgb_frame(frame: CapturedFrame) -> av.VideoFrame:
    """A captured colour frame for an encoder; (H, W, 3) uint8 pixels are copied."""
    if isinstance(frame, av.VideoFrame):
        return frame
    return av.VideoFrame.from_ndarray(frame, format="rgb24")
