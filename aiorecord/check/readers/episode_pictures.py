"""Judges the pictures of one episode of one camera, coded or stored: frozen ones, and their statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...encoding.stats import FeatureStats, depth_stats, histogram_stats, sample_indices
from ...features import Feature
from ..compare import NONE_STORED, Difference, depth_difference, image_difference
from ..findings import Finding
from ..frozen import FreezeFinder

MAX_PIXELS = 1 << 27
"""Larger pictures are not decoded."""


def camera_feature(key: str, spec: dict[str, Any]) -> Feature:
    """A camera of info.json, as it is described there."""
    return Feature(key, spec["dtype"], tuple(spec["shape"]), spec.get("names"), spec.get("info") or {})


class EpisodePictures:
    """The pictures of one episode of one camera.

    Args:
        place: the file, for findings.
        feature: the camera's.
        fps: frames per second.
        episode: its index.
        length: its frames.
        sample: makes what a picture adds to the statistics: a histogram, or the sampled depth.

    Attributes:
        seen: pictures so far.
    """

    def __init__(
        self,
        place: str,
        feature: Feature,
        fps: int,
        episode: int,
        length: int,
        sample: Callable[[Any], NDArray[Any]],
    ) -> None:
        self.seen = 0
        self._sample = sample
        self._place, self._feature, self._fps, self._episode = place, feature, fps, episode
        self._finder = FreezeFinder(fps)
        self._wanted = set(sample_indices(length))
        self._samples: list[NDArray[Any]] = []

    def add(self, shown: NDArray[Any], picture: Any) -> None:
        """The next picture; `shown` is compared with the pictures before, and not changed afterwards."""
        self._finder.add(shown)
        if self.seen in self._wanted:
            self._samples.append(self._sample(picture))
        self.seen += 1

    def judge(
        self, stored: dict[str, FeatureStats] | None, *, lossy: bool, depth_limit: float = np.inf
    ) -> tuple[list[Finding], FeatureStats | None]:
        """End the episode.

        Args:
            stored: its statistics in `meta/episodes`; None if it has no row there.
            lossy: the pictures went through a lossy codec.
            depth_limit: see `compare.depth_difference`.

        Returns:
            The findings, and the recomputed statistics if none are stored or they differ.
        """
        key = self._feature.key
        found = []
        for first, last in self._finder.finish():
            count = last - first + 1
            message = f"{count} frames ({count / self._fps:.1f} s) show the same picture."
            found.append(Finding("camera-frozen", self._place, message, self._episode, key, first, last))
        if not self._samples:
            return found, None
        samples = np.stack(self._samples)
        actual = depth_stats(samples) if self._feature.is_depth else histogram_stats(samples)
        if stored is None or key not in stored:
            difference: Difference | None = NONE_STORED
        elif self._feature.is_depth:
            difference = depth_difference(stored[key], actual, lossy=lossy, limit=depth_limit)
        else:
            pixels = int(samples[:, 0].sum(dtype=np.int64))
            difference = image_difference(stored[key], actual, lossy=lossy, pixels=pixels)
        if difference is None:
            return found, None
        if stored is not None:
            found.append(difference.finding(self._place, key, self._episode, camera=key))
        return found, actual
