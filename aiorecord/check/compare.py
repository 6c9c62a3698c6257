"""Compares stored statistics with recomputed ones, with a tolerance for each kind. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..encoding.stats import QUANTILES, STAT_NAMES, FeatureStats
from .findings import Finding

LOSSY_MEAN, LOSSY_STD = 0.03, 0.10
"""How far statistics of decoded video may be from those of the original pixels, which are in [0, 1].

A lossy codec keeps the mean. It removes noise, and so changes standard deviation and extremes, which say
little; these bounds detect the statistics of other pictures.
"""
LOSSLESS = 5e-3
"""The same for losslessly stored pictures: lerobot adds them up in 32-bit floats."""
MANY_PIXELS = 1 << 22
"""From this many pixels on, such sums are less exact than any bound: measured errors of mean and standard
deviation were 2e-3 with 1.9 million pixels, 0.09 with 8 million, 0.4 with 38 million. Extremes and quantiles
are not sums."""
BOOKKEEPING = frozenset({"index", "episode_index", "frame_index", "timestamp", "task_index"})
"""Columns whose values follow from the position of an episode."""


class Difference(NamedTuple):
    """A difference in the statistics of a feature.

    Attributes:
        what: a description for people.
        is_gross: they may be statistics of other data; if not, only of another way to compute them.
    """

    what: str
    is_gross: bool

    @property
    def code(self) -> str:
        """The code of the finding."""
        return "stats-mismatch" if self.is_gross else "stats-stale"

    def finding(self, place: str, key: str, episode: int, camera: str | None = None) -> Finding:
        """The finding about it."""
        message = f"Statistics of {key} in meta/episodes: {self.what}."
        return Finding(self.code, place, message, episode, camera)


NONE_STORED = Difference("it has none", False)


def numeric_difference(stored: Mapping[str, Any], actual: FeatureStats, key: str = "") -> Difference | None:
    """The difference in the statistics of a numeric column, None if there is none.

    Minimum, maximum and count are exact. Mean and standard deviation are sums in 32-bit floats, which
    differ with the order of adding; quantiles are estimates from a histogram of 5000 bins, which other
    versions of lerobot estimate and merge otherwise. The values of `BOOKKEEPING` columns are
    checked elsewhere; lerobot's dataset tools renumber them and keep the statistics of the old numbers.
    """
    values = _side_by_side(stored, actual)
    if values is not None and (values[0] == values[1]).all():
        return None
    low, high = (actual[name].astype(np.float64) for name in ("min", "max"))
    scale = np.maximum(np.abs(low), np.abs(high))
    span = high - low
    # The first bound allows another order of summation, the second only equal values.
    bounds = dict.fromkeys(STAT_NAMES, (span * 0.01 + scale * 1e-5, np.full(1, np.inf)))
    bounds |= {"min": (scale * 1e-6,) * 2, "max": (scale * 1e-6,) * 2, "count": (np.zeros(1),) * 2}
    bounds |= {"mean": (scale * 1e-4, scale * 0.01), "std": (scale * 2e-3, scale * 0.02)}
    rooms = {name: 1e-9 * (name != "count") for name in STAT_NAMES}
    if values is not None:
        room = np.concatenate([bounds[name][0] + rooms[name] for name in STAT_NAMES])
        if (np.abs(values[1] - values[0]) <= room).all():
            return None
    slight: Difference | None = None
    if len({np.size(stored[name]) for name in STAT_NAMES if name in stored and name != "count"}) > 1:
        slight = Difference("they are not of one shape", False)
    for name in STAT_NAMES:
        fine, same = bounds[name]
        if name not in stored:
            if not name.startswith("q"):  # datasets converted from older formats have no quantiles
                slight = slight or Difference(f"{name} is missing", False)
            continue
        found = _judged(name, stored[name], actual[name], fine + rooms[name], same + rooms[name])
        if found is not None and (key in BOOKKEEPING or name.startswith("q")):
            found = found._replace(is_gross=False)
        if found is not None and found.is_gross:
            return found
        slight = slight or found
    return slight


def _side_by_side(
    stored: Mapping[str, Any], actual: FeatureStats
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """All statistics of either in a row, for one comparison of all: a fast test for the usual case.

    None if some are missing, are no numbers or have another shape.
    """
    try:
        theirs = [np.asarray(stored[name], np.float64) for name in STAT_NAMES]
        ours = [np.asarray(actual[name], np.float64) for name in STAT_NAMES]
    except (KeyError, ValueError, TypeError):
        return None
    shapes = [array.shape for array in ours]
    if any(len(shape) != 1 for shape in shapes) or shapes != [array.shape for array in theirs]:
        return None
    return np.concatenate(theirs), np.concatenate(ours)


def image_difference(
    stored: Mapping[str, Any], actual: FeatureStats, *, lossy: bool, pixels: int = 0
) -> Difference | None:
    """The difference in the statistics of a colour camera, None if there is none.

    Args:
        stored: as in `meta/episodes`.
        actual: of the decoded pictures, in [0, 1].
        lossy: the pictures went through a lossy codec.
        pixels: number of pixels in `actual`.
    """
    slight: Difference | None = None
    for name, bound in {"mean": LOSSY_MEAN, "std": LOSSY_STD}.items():
        if name not in stored:
            slight = slight or Difference(f"{name} is missing", False)
            continue
        fine = np.array(bound if lossy else LOSSLESS)
        found = _judged(name, stored[name], actual[name], fine, np.array(bound))
        if found is not None and found.is_gross:
            if pixels <= MANY_PIXELS or not _same_spread(stored, actual, lossy=lossy):
                return found
            found = found._replace(is_gross=False)
        slight = slight or found
    return slight


def _same_spread(stored: Mapping[str, Any], actual: FeatureStats, *, lossy: bool) -> bool:
    """Whether extremes and quantiles, which are not sums, match these pictures."""
    if not set(STAT_NAMES) <= set(stored):
        return False
    if not lossy and any(
        _difference(name, stored[name], actual[name], np.array(LOSSLESS)) for name in ("min", "max")
    ):
        return False
    near = [_difference(name, stored[name], actual[name], np.array(LOSSY_MEAN)) is None for name in QUANTILES]
    return 2 * sum(near) > len(near)  # a quantile jumps if few pixels are between dark and bright


def depth_difference(
    stored: Mapping[str, Any], actual: FeatureStats, *, lossy: bool, limit: float
) -> Difference | None:
    """The difference in the statistics of a depth camera, None if there is none or it cannot be determined.

    Args:
        stored: as in `meta/episodes`.
        actual: of the decoded depth, in the same unit.
        lossy: the depth went through the 12-bit quantiser and a codec.
        limit: the largest depth that the quantiser keeps; beyond it, the mean of the decoded depth has no
            relation to that of the original.
    """
    if "mean" not in stored or "max" not in stored:
        return Difference("mean or max is missing", False)
    if lossy and not np.nanmax(stored["max"]) <= limit:
        return None
    largest = limit if lossy else max(1.0, float(np.abs(actual["max"]).max()))
    fine, same = np.array(largest * (0.02 if lossy else LOSSLESS)), np.array(largest * 0.02)
    return _judged("mean", stored["mean"], actual["mean"], fine, same)


def total_differences(
    stored: Mapping[str, FeatureStats], merged: Mapping[str, FeatureStats]
) -> dict[str, str]:
    """Differences between stats.json and the merged statistics of all episodes, by feature.

    Quantiles are not compared: they cannot be merged, so versions of lerobot estimate them differently.
    """
    found = {key: _total_difference(stored.get(key), actual) for key, actual in merged.items()}
    return {key: what for key, what in found.items() if what is not None}


def _total_difference(stored: FeatureStats | None, actual: FeatureStats) -> str | None:
    if stored is None:
        return "it has none"
    for name in ("count", "min", "max", "mean", "std"):
        if name not in actual:
            continue
        if name not in stored:
            return f"{name} is missing"
        # stats.json has 0 if no value is finite.
        wanted = np.nan_to_num(actual[name].astype(np.float64), nan=0.0)
        scale = np.abs(wanted).max(initial=0.0)
        scale = max(scale, *(float(np.abs(np.nan_to_num(actual[n])).max()) for n in ("min", "max")))
        tolerance = np.array(0.0 if name == "count" else 1e-3 * scale + 1e-9)
        found = _difference(name, stored[name], wanted, tolerance)
        if found is not None:
            return found
    return None


def _judged(
    name: str, stored: Any, actual: NDArray[Any], fine: NDArray[Any], same: NDArray[Any]
) -> Difference | None:
    """A difference beyond the tolerance `fine`; it is gross if it is also beyond `same`."""
    what = _difference(name, stored, actual, fine)
    return None if what is None else Difference(what, _difference(name, stored, actual, same) is not None)


def _difference(name: str, stored: Any, actual: NDArray[Any], tolerance: NDArray[Any]) -> str | None:
    try:
        ours, theirs = np.asarray(actual, np.float64).ravel(), np.asarray(stored, np.float64).ravel()
    except (ValueError, TypeError):
        return f"{name} is not a number"
    if ours.size != theirs.size:
        if theirs.size == 0 or ours.size == 0 or theirs.size % ours.size:
            return f"{name} has {theirs.size} values instead of {ours.size}"
        # lerobot keeps all dimensions of an episode of one frame.
        theirs = (
            theirs.reshape(-1, ours.size)[0]
            if name in ("min", "max")
            else theirs.reshape(-1, ours.size).mean(0)
        )
        if name not in ("mean", "count"):
            return None
    unknown = np.isnan(ours)
    wrong = ~(np.abs(ours - theirs) <= np.broadcast_to(np.ravel(tolerance), ours.shape)) & ~unknown
    if not wrong.any():
        return None
    at = int(np.argmax(wrong))
    return f"{name} is {theirs[at]:g}, recomputed {ours[at]:g}"
