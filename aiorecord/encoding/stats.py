"""Computes feature statistics as lerobot computes and stores them. Pure numpy.

Kinds, shapes, sampling, the 5000-bin quantile estimate and the aggregation follow lerobot 0.6.1
(`lerobot/datasets/compute_stats.py`). Two things differ on purpose:

- Statistics are taken over finite values. An element that is never finite in an episode gets NaN, which
  aggregation skips; in JSON, which has no NaN, it is 0.
- Colour statistics come from histograms, so mean and standard deviation are exact; lerobot adds up
  millions of 32-bit floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

type FeatureStats = dict[str, NDArray[Any]]
"""``min max mean std count q01 q10 q50 q90 q99``; ``count`` has shape (1,), the others the feature's."""

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
STAT_NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)

_BINS = 5000
_PADDING = 1e-10
_SORTED = 1 << 16
"""Up to this many values, quantiles are computed by sorting; for more values counting is faster."""
_SQUARES_FIT = 1e150
"""Squares of magnitudes up to this, and their sums, are far below the limit of 64-bit floats."""


def sample_indices(n: int) -> list[int]:
    """The frames, of `n`, that colour and depth statistics sample: at least 100 (or all), spread evenly."""
    if n < 1:
        return []
    samples = max(min(n, 100), min(int(n**0.75), 10_000))
    return [int(index) for index in np.round(np.linspace(0, n - 1, samples))]


def column_stats(array: NDArray[Any]) -> FeatureStats:
    """Statistics of a numeric column.

    Args:
        array: (N,) for a feature of shape (1,), else (N, *shape); numeric or bool, N at least 1.

    Returns:
        Shape (1,) for (N,), else the last dimension of `array`: further dimensions count as samples.

    Raises:
        ValueError: there is no row.
    """
    if array.ndim == 0 or not array.shape[0]:
        raise ValueError("statistics need at least one row")
    batch = array.reshape(-1, 1) if array.ndim == 1 else array.reshape(-1, array.shape[-1])
    return _batch_stats(batch, array.shape[0])


def depth_stats(frames: NDArray[Any]) -> FeatureStats:
    """Statistics of depth frames in their own unit.

    Args:
        frames: (n, h, w) uint16 or float32, already selected and downsampled; n at least 1.

    Returns:
        Shape (1, 1, 1); count is n.

    Raises:
        ValueError: there is no frame.
    """
    if not frames.size:
        raise ValueError("statistics need at least one frame")
    return _as_image(_batch_stats(frames.reshape(-1, 1), frames.shape[0]))


def histogram_stats(histograms: NDArray[Any]) -> FeatureStats:
    """Statistics of colour frames, values scaled to [0, 1].

    Args:
        histograms: (n, C, 256) counts of each 8-bit value, of already selected frames; n at least 1.

    Returns:
        Shape (C, 1, 1); count is n.

    Raises:
        ValueError: there is no frame, or a channel without pixels.
    """
    if histograms.ndim != 3 or histograms.shape[2] != 256 or not histograms.shape[0]:
        raise ValueError(f"expected (n, C, 256) histograms with n >= 1, got {histograms.shape}")
    totals = histograms.sum(axis=0, dtype=np.int64)
    pixels = totals.sum(axis=1)
    if not pixels.all():
        raise ValueError("a channel has no pixels")
    values = np.arange(256, dtype=np.float64)
    mean = totals @ values / pixels
    variance = totals @ values**2 / pixels - mean**2
    low = np.argmax(totals > 0, axis=1).astype(np.float32)
    high = (255 - np.argmax(totals[:, ::-1] > 0, axis=1)).astype(np.float32)
    stats: FeatureStats = {"min": low, "max": high, "mean": mean, "std": np.sqrt(np.maximum(0, variance))}
    if pixels.min() < 2:
        estimates = [dict.fromkeys(QUANTILES, float(m)) for m in mean]
    else:
        estimates = []
        for channel in range(totals.shape[0]):
            edges = _edges(low[channel], high[channel])
            # Bins are closed on the left; the last one on both sides, as in numpy.histogram.
            bins = np.searchsorted(edges, values.astype(np.float32), side="right") - 1
            counts = np.bincount(np.clip(bins, 0, _BINS - 1), weights=totals[channel], minlength=_BINS)
            estimates.append(_quantiles(counts, edges, int(pixels[channel])))
    stats |= {name: np.array([estimate[name] for estimate in estimates]) for name in QUANTILES}
    stats = {name: value / 255.0 for name, value in stats.items()}
    return _as_image(stats | {"count": np.array([histograms.shape[0]])})


def aggregate(parts: Sequence[Mapping[str, FeatureStats]]) -> dict[str, FeatureStats]:
    """Merge the statistics of several sets of episodes, weighted by their counts.

    Quantiles are averaged, as lerobot does; a quantile that some part lacks is left out.

    Args:
        parts: feature statistics by feature key; keys may differ.
    """
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: _aggregate_feature([part[key] for part in parts if key in part]) for key in keys}


def to_json(stats: Mapping[str, FeatureStats]) -> dict[str, dict[str, Any]]:
    """Nested lists for stats.json, without NaN."""
    return {
        key: {name: _finite(value).tolist() for name, value in feature.items()}
        for key, feature in stats.items()
    }


def from_json(data: Any) -> dict[str, FeatureStats]:
    """Read what `to_json` or lerobot wrote.

    Raises:
        ValueError: it does not hold statistics.
    """
    if not isinstance(data, dict) or not all(isinstance(feature, dict) for feature in data.values()):
        raise ValueError("expected an object of objects")
    out: dict[str, FeatureStats] = {}
    for key, feature in data.items():
        out[key] = {name: np.atleast_1d(np.array(value)) for name, value in feature.items()}
        if not {"min", "max", "mean", "std", "count"} <= out[key].keys():
            raise ValueError(f"{key!r} lacks min, max, mean, std or count")
        if any(value.dtype.kind not in "iuf" for value in out[key].values()):
            raise ValueError(f"{key!r} holds something that is not a number")
    return out


def _batch_stats(batch: NDArray[Any], count: int) -> FeatureStats:
    """Statistics of each column of (M, V)."""
    # Squares of integers and half floats would overflow.
    batch = batch.astype(np.result_type(batch.dtype, np.float32), copy=False)
    finite = np.isfinite(batch)
    if finite.all():
        stats = _finite_stats(batch)
    else:
        columns = [_finite_stats(batch[finite[:, i], i].reshape(-1, 1)) for i in range(batch.shape[1])]
        stats = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    return {name: stats[name] if name != "count" else np.array([count]) for name in STAT_NAMES}


def _finite_stats(batch: NDArray[Any]) -> FeatureStats:
    if not batch.shape[0]:
        return {name: np.full(batch.shape[1], np.nan) for name in STAT_NAMES if name != "count"}
    low, high = batch.min(axis=0), batch.max(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.mean(batch, axis=0)
        square = np.mean(batch**2, axis=0)
        fits = np.isfinite(square).all() and np.isfinite(mean**2).all() and np.isfinite(high - low).all()
    if not fits:
        # Magnitudes whose squares overflow: every statistic scales with the values.
        scale = np.ldexp(1.0, int(np.frexp(np.abs(batch.astype(np.float64)).max())[1]) - 1)
        largest = np.finfo(np.float64).max  # quantiles may lie a little beyond the values
        with np.errstate(over="ignore"):
            scaled = {name: value * scale for name, value in _finite_stats(batch / scale).items()}
        return {name: np.clip(value, -largest, largest) for name, value in scaled.items()}
    stats: FeatureStats = {"min": low, "max": high, "mean": mean}
    if batch.shape[0] < 2:
        return stats | {"std": np.zeros_like(mean)} | {name: mean.copy() for name in QUANTILES}
    stats["std"] = np.sqrt(np.maximum(0, square - mean**2))
    if batch.shape[0] > _SORTED:
        estimates = []
        for i in range(batch.shape[1]):
            edges = _edges(low[i], high[i])
            estimates.append(_quantiles(np.histogram(batch[:, i], bins=edges)[0], edges, batch.shape[0]))
        return stats | {name: np.array([estimate[name] for estimate in estimates]) for name in QUANTILES}
    columns = np.sort(batch.T, axis=1)
    found = np.stack([_quantiles_of(column, _edges(column[0], column[-1])) for column in columns], axis=1)
    return stats | dict(zip(QUANTILES, found, strict=True))


def _edges(low: np.floating[Any], high: np.floating[Any]) -> NDArray[Any]:
    return np.linspace(low - _PADDING, high + _PADDING, _BINS + 1)


def _quantiles(counts: NDArray[Any], edges: NDArray[Any], total: int) -> dict[str, float]:
    """Estimate quantiles from a histogram, linearly inside a bin."""
    cumulated = np.cumsum(counts)
    out: dict[str, float] = {}
    for name, quantile in QUANTILES.items():
        target = quantile * total
        bin_ = int(np.searchsorted(cumulated, target))
        if bin_ == 0:
            out[name] = float(edges[0])
            continue
        before = cumulated[bin_ - 1]
        inside = cumulated[bin_] - before
        share = (target - before) / inside
        out[name] = float(edges[bin_] + share * (edges[bin_ + 1] - edges[bin_]))
    return out


def _quantiles_of(ordered: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.float64]:
    """The estimate of `_quantiles` for some values, without counting all bins of their histogram.

    Args:
        ordered: the values (N,) in rising order; finite, N at least 1.
        edges: of the bins; the first is at most the least value, the last at least the largest.

    Returns:
        One for each of `QUANTILES`.
    """
    total = len(ordered)
    targets = np.array(list(QUANTILES.values())) * total
    # The bin of a quantile is the one that contains the value of that rank.
    last_needed = ordered[np.ceil(targets).astype(np.intp) - 1]
    bins = np.minimum(edges.searchsorted(last_needed, side="right") - 1, _BINS - 1)
    before = ordered.searchsorted(edges[bins], side="left")
    until = ordered.searchsorted(edges[bins + 1], side="left")
    until[bins == _BINS - 1] = total  # the last bin is closed on both sides
    start, end = edges[bins], edges[bins + 1]
    share = (targets - before) / (until - before)
    return np.where(bins == 0, edges[0], start + share * (end - start)).astype(np.float64)


def _as_image(stats: FeatureStats) -> FeatureStats:
    return {
        name: stats[name] if name == "count" else stats[name].reshape(-1, 1, 1)
        for name in STAT_NAMES
        if name in stats
    }


def _aggregate_feature(parts: list[FeatureStats]) -> FeatureStats:
    parts = _same_shapes(parts)
    every = np.concatenate([value.ravel() for part in parts for value in part.values()])
    largest = float(np.abs(every[np.isfinite(every)]).max(initial=0))
    if largest > _SQUARES_FIT:
        # Squares and sums of such magnitudes overflow: every statistic but the count scales with the values.
        scale = np.ldexp(1.0, int(np.frexp(largest)[1]) - 1)
        most = np.finfo(np.float64).max
        small = [
            {name: value if name == "count" else value / scale for name, value in part.items()}
            for part in parts
        ]
        with np.errstate(over="ignore"):
            return {
                name: value if name == "count" else np.clip(value * scale, -most, most)
                for name, value in _aggregate_feature(small).items()
            }
    means = np.stack([part["mean"] for part in parts]).astype(np.float64)
    deviations = np.stack([part["std"] for part in parts]).astype(np.float64)
    counts = np.stack([part["count"] for part in parts]).astype(np.int64)
    column = counts.reshape((-1,) + (1,) * (means.ndim - 1))
    weights = np.where(np.isnan(means), 0, column)
    total = weights.sum(axis=0)

    def weighted(values: NDArray[Any]) -> NDArray[Any]:
        # 0 / 0 if no part has a finite value: NaN is the intended result.
        with np.errstate(invalid="ignore", over="ignore"):
            out: NDArray[Any] = (np.where(weights > 0, values, 0.0) * weights).sum(axis=0) / total
        return out

    mean = weighted(means)
    with np.errstate(over="ignore"):
        variances = deviations**2 + (means - mean) ** 2
    out: FeatureStats = {
        "min": np.fmin.reduce(np.stack([part["min"] for part in parts]), axis=0),
        "max": np.fmax.reduce(np.stack([part["max"] for part in parts]), axis=0),
        "mean": mean,
        "std": np.sqrt(weighted(variances)),
        "count": counts.sum(axis=0),
    }
    for name in parts[0]:
        if name.startswith("q") and all(name in part for part in parts):
            out[name] = weighted(np.stack([part[name] for part in parts]).astype(np.float64))
    return out


def _same_shapes(parts: list[FeatureStats]) -> list[FeatureStats]:
    """lerobot keeps all dimensions in an episode of one frame; count the extra ones as samples there too."""
    smallest = min((part["mean"].shape for part in parts), key=len)
    return [part if part["mean"].shape == smallest else _flattened(part, smallest) for part in parts]


def _flattened(part: FeatureStats, shape: tuple[int, ...]) -> FeatureStats:
    if part["mean"].shape[part["mean"].ndim - len(shape) :] != shape:
        raise ValueError(f"statistics of shapes {part['mean'].shape} and {shape} cannot be merged")
    rows = {name: value.reshape(-1, *shape) for name, value in part.items() if name != "count"}
    mean = rows["mean"].mean(axis=0)
    out = {name: value.mean(axis=0) for name, value in rows.items()}
    out |= {"min": rows["min"].min(axis=0), "max": rows["max"].max(axis=0), "count": part["count"]}
    out["std"] = np.sqrt((rows["std"] ** 2 + (rows["mean"] - mean) ** 2).mean(axis=0))
    return out


def _finite(value: NDArray[Any]) -> NDArray[Any]:
    return value if value.dtype.kind in "iu" else np.nan_to_num(value.astype(np.float64), nan=0.0)
