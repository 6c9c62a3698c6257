"""Checks the decoded frames of one episode: their number, frozen pictures and statistics."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ...encoders import DEPTH_QUANTA
from ...encoding.stats import FeatureStats, depth_stats, histogram_stats, sample_indices
from ...features import Feature
from ...media.depth import DEPTH_PIX_FMT, depths_of_codes
from ...media.pixels import PixelConverter
from ...staging.histograms import histogram, sampling_stride
from ..frozen import FreezeFinder


class DecodedEpisode:
    """One episode's decoded frames: how many, where they freeze, and their statistics.

    Args:
        length: frames of the episode.
        feature: the camera's.
        fps: frames per second.

    Attributes:
        seen: frames so far.
        finder: finds frozen pictures.
    """

    def __init__(self, length: int, feature: Feature, fps: int) -> None:
        self.seen = 0
        self.finder = FreezeFinder(fps)
        self._feature = feature
        self._wanted = set(sample_indices(length))
        self._samples: list[NDArray[Any]] = []
        self._converter = PixelConverter(DEPTH_PIX_FMT if feature.is_depth else "rgb24")
        self._depth = depths_of_codes(feature.info) if feature.is_depth else None

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
            stride = sampling_stride(frame.height, frame.width)
            plane = self._converter.convert(frame).planes[0]
            lines = np.frombuffer(plane, np.uint16).reshape(frame.height, plane.line_size // 2)
            codes = np.minimum(lines[::stride, : frame.width : stride], DEPTH_QUANTA)
            self._samples.append(self._depth[codes])

    @property
    def pixels(self) -> int:
        """Number of pixels in a colour camera's statistics."""
        return sum(int(sample[0].sum(dtype=np.int64)) for sample in self._samples)

    def stats(self) -> FeatureStats:
        """Statistics of the sampled frames, as lerobot samples them."""
        samples = np.stack(self._samples)
        return depth_stats(samples) if self._depth is not None else histogram_stats(samples)


def _visible(frame: av.VideoFrame) -> NDArray[Any]:
    """The first plane without the padding after each line, which has arbitrary content. A copy."""
    plane = frame.planes[0]
    dtype: Any = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    pixels: NDArray[Any] = lines[: plane.height].view(dtype)[:, : plane.width].copy()
    return pixels
