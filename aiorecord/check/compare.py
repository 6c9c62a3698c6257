"""Stored statistics against recomputed ones, with the tolerance that each kind deserves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dataset.stats import STAT_NAMES, FeatureStats

LOSSY_MEAN, LOSSY_STD = 0.03, 0.10
"""How far statistics of decoded video may be from those of the original pixels, which are in [0, 1].

A lossy codec keeps the mean. It takes noise away, and with it standard deviation and extremes, so those say
little; what these bounds find is statistics of other pictures.
"""


def numeric_difference(stored: Mapping[str, Any], actual: FeatureStats) -> str | None:
    """What differs in the statistics of a numeric column, None if nothing does.

    Minimum, maximum and count are exact. Mean and standard deviation are sums in 32-bit floats, which
    differ with the order of adding; quantiles are estimates from a histogram of 5000 bins.
    """
    low, high = (actual[name].astype(np.float64) for name in ("min", "max"))
    scale = np.maximum(np.abs(low), np.abs(high))
    span = high - low
    tolerances = {"min": scale * 1e-6, "max": scale * 1e-6, "count": np.zeros(1)}
    tolerances |= {"mean": scale * 1e-4, "std": scale * 2e-3}
    for name in STAT_NAMES:
        tolerance = tolerances[name] if name in tolerances else span * 0.01 + scale * 1e-5
        if name not in stored:
            if name.startswith("q"):
                continue  # datasets converted from older formats have none
            return f"{name} is missing"
        found = _difference(name, stored[name], actual[name], tolerance + 1e-9 * (name != "count"))
        if found is not None:
            return found
    return None


def image_difference(stored: Mapping[str, Any], actual: FeatureStats, *, lossy: bool) -> str | None:
    """What differs in the statistics of a colour camera, None if nothing does.

    Args:
        stored: as in `meta/episodes`.
        actual: of the decoded pictures, in [0, 1].
        lossy: the pictures went through a lossy codec.
    """
    for name, tolerance in {
        "mean": LOSSY_MEAN if lossy else 1e-3,
        "std": LOSSY_STD if lossy else 1e-3,
    }.items():
        if name not in stored:
            return f"{name} is missing"
        found = _difference(name, stored[name], actual[name], np.array(tolerance))
        if found is not None:
            return found
    return None


def depth_difference(
    stored: Mapping[str, Any], actual: FeatureStats, *, lossy: bool, limit: float
) -> str | None:
    """What differs in the statistics of a depth camera, None if nothing does or nothing can be told.

    Args:
        stored: as in `meta/episodes`.
        actual: of the decoded depth, in the same unit.
        lossy: the depth went through the 12-bit quantiser and a codec.
        limit: the largest depth that the quantiser keeps; beyond it, the mean of the decoded depth says
            nothing of that of the original.
    """
    if "mean" not in stored or "max" not in stored:
        return "mean or max is missing"
    if lossy and not np.nanmax(stored["max"]) <= limit:
        return None
    tolerance = np.array(limit * 0.02 if lossy else 1e-3 * max(1.0, float(np.abs(actual["max"]).max())))
    return _difference("mean", stored["mean"], actual["mean"], tolerance)


def total_difference(stored: Mapping[str, FeatureStats], merged: Mapping[str, FeatureStats]) -> str | None:
    """What differs between stats.json and the merged statistics of all episodes, None if nothing does."""
    for key, actual in merged.items():
        if key not in stored:
            return f"{key} has none"
        for name in ("count", "min", "max", "mean", "std"):
            if name not in actual:
                continue
            if name not in stored[key]:
                return f"{key}: {name} is missing"
            # stats.json has 0 where there is nothing finite.
            wanted = np.nan_to_num(actual[name].astype(np.float64), nan=0.0)
            scale = np.abs(wanted).max(initial=0.0)
            scale = max(scale, *(float(np.abs(np.nan_to_num(actual[n])).max()) for n in ("min", "max")))
            tolerance = np.array(0.0 if name == "count" else 1e-3 * scale + 1e-9)
            found = _difference(name, stored[key][name], wanted, tolerance)
            if found is not None:
                return f"{key}: {found}"
    return None


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
