"""Checks one data file, row group by row group: numbering, timestamps, statistics and stored images."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...dataset.format.reader_limits import TOLERANCE_S
from ...dataset.format.table_size import MAX_TABLE_ROWS, check_shapes
from ...dataset.format.tables import column_array, data_schema, evidence_of, open_table, stored_type
from ...encoding.stats import FeatureStats, column_stats
from ...errors import AiorecordError
from ...features import Feature
from ...workers.progress import Progress
from ..compare import NONE_STORED, Difference, numeric_difference
from ..findings import FOOTERLESS, Finding
from ..jobs import content_error
from .episode_pictures import camera_feature
from .folder_tree import name_in
from .footer import is_footerless
from .metadata import EpisodeRow, stored_stats
from .model import RowsPart, Run
from .stored_images import add_images, pictures_of_run

_BATCH_ROWS = 2048
_IMAGE_ROWS = 16


def timestamp_tolerance(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """lerobot's tolerance plus the rounding of 32-bit timestamps in long episodes."""
    return TOLERANCE_S + np.spacing(times.astype(np.float32)).astype(np.float64)


@dataclass(frozen=True)
class RowsFile:
    """A data file to check. Picklable.

    Attributes:
        root: the dataset.
        path: the file, or a recovered copy in the pack folder.
        features: LeRobot's feature dict.
        fps: frames per second.
        episodes: the rows of `meta/episodes` for its episodes; their statistics are compared.
        fast: do not decode images.
    """

    root: Path
    path: Path
    features: dict[str, dict[str, Any]]
    fps: int
    episodes: list[EpisodeRow]
    fast: bool


def rows_job(file: RowsFile, progress: Progress) -> RowsPart:
    """Check a data file. A job."""
    return _Reader(file, progress).read()


class _Reader:
    def __init__(self, file: RowsFile, progress: Progress) -> None:
        self._file, self._path, self._fps, self._progress = file, file.path, file.fps, progress
        self._place = name_in(file.root, file.path)
        features = file.features
        self._schema = data_schema(features)
        self._numeric = {
            key: Feature(key, spec["dtype"], tuple(spec["shape"]))
            for key, spec in features.items()
            if spec["dtype"] not in ("string", "image", "video")
        }
        self._images = [
            camera_feature(key, spec) for key, spec in features.items() if spec["dtype"] == "image"
        ]
        self._part = RowsPart()

    def read(self) -> RowsPart:
        part = self._part
        try:
            if is_footerless(self._path):
                self._add("lerobot-killed-footerless-parquet", FOOTERLESS)
                return part
            with open_table(self._path) as file:
                if not self._has_columns(file.schema_arrow):
                    return part
                check_shapes(file, self._path, {k: math.prod(f.shape) for k, f in self._numeric.items()})
                part.rows = file.metadata.num_rows
                part.evidence = evidence_of(file.schema_arrow)
                stored = stored_stats(self._file.root, self._file.episodes)
                for columns in self._runs(file):
                    self._check_run(columns, stored)
                if self._images and not self._file.fast:
                    self._check_images(file, stored)
        except (AiorecordError, OSError, ValueError, TypeError, KeyError) as error:
            self._add("data-unreadable", f"It cannot be read: {content_error(error)}")
            return part
        part.readable = True
        return part

    def _add(self, code: str, message: str, **details: Any) -> None:
        self._part.findings.append(Finding(code, self._place, message, **details))

    def _has_columns(self, schema: pa.Schema) -> bool:
        wanted = {field.name: field.type for field in self._schema}
        missing = sorted(set(wanted) - set(schema.names))
        wrong = [
            f"{name} is {schema.field(name).type}, not {type_}"
            for name, type_ in wanted.items()
            if name in schema.names and not _same(stored_type(schema.field(name).type), type_)
        ]
        if missing or wrong:
            parts = [f"it lacks {', '.join(missing)}"] if missing else []
            parts += wrong
            self._add("data-columns", f"Its columns are not the features: {'; '.join(parts)}.")
        return not missing and not wrong

    def _runs(self, file: pq.ParquetFile) -> Iterator[dict[str, NDArray[Any]]]:
        """The numeric columns of one episode after the other."""
        names = list(self._numeric)
        pending: list[dict[str, NDArray[Any]]] = []
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
            table = pa.Table.from_batches([batch]).select(names)
            nulls = [name for name in names if table[name].null_count]
            if nulls:
                raise ValueError(f"nulls in {', '.join(nulls)}")
            columns = {key: column_array(table[key], self._numeric[key]) for key in names}
            episode = columns["episode_index"]
            cuts = [0, *(np.flatnonzero(np.diff(episode)) + 1).tolist(), len(episode)]
            for start, end in pairwise(cuts):
                piece = {key: values[start:end] for key, values in columns.items()}
                if pending and pending[0]["episode_index"][0] != episode[start]:
                    yield _joined(pending)
                    pending = []
                pending.append(piece)
                if sum(len(piece["episode_index"]) for piece in pending) > MAX_TABLE_ROWS:
                    raise ValueError(f"an episode of more than {MAX_TABLE_ROWS} rows")
            self._progress.update(min(self._part.rows, sum(run.length for run in self._part.runs)))
        if pending:
            yield _joined(pending)

    def _check_run(
        self, columns: dict[str, NDArray[Any]], stored: dict[int, dict[str, FeatureStats]]
    ) -> None:
        part = self._part
        length = len(columns["episode_index"])
        episode = int(columns["episode_index"][0])
        grid = np.arange(length)
        frames, index = columns["frame_index"], columns["index"]
        times = grid / self._fps
        off = ~(np.abs(columns["timestamp"].astype(np.float64) - times) <= timestamp_tolerance(times))
        counted = bool((frames == grid).all() and (index - index[0] == grid).all())
        tasks = dict.fromkeys(columns["task_index"].tolist())
        run = Run(
            episode,
            part.runs[-1].row + part.runs[-1].length if part.runs else 0,
            length,
            int(index[0]),
            counted,
            not off.any(),
            tuple(tasks),
        )
        part.runs.append(run)
        if not counted:
            wrong = int(np.argmax((frames != grid) | (index - index[0] != grid)))
            has = f"row {wrong} has frame_index {frames[wrong]} and index {index[wrong]}"
            message = f"frame_index or index does not rise by one: {has}."
            self._add("rows-index", message, episode=episode, first_frame=wrong)
        if off.any():
            wrong = int(np.argmax(off))
            message = (
                f"{int(off.sum())} timestamps are off the grid of {self._fps} frames per second; the "
                f"first is {columns['timestamp'][wrong]:.6f} s instead of {times[wrong]:.6f} s."
            )
            self._add("rows-timestamp", message, episode=episode, first_frame=wrong)
        self._check_values(run, columns, stored.get(episode))

    def _check_values(
        self, run: Run, columns: dict[str, NDArray[Any]], stored: dict[str, FeatureStats] | None
    ) -> None:
        recomputed: dict[str, FeatureStats] = {}
        for key, values in columns.items():
            finite = np.isfinite(values).all() if values.dtype.kind == "f" else True
            if not finite:
                bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
                message = f"{key} is NaN or infinite in {int(bad.sum())} frames."
                first = int(np.argmax(bad))
                self._add("values-not-finite", message, episode=run.episode, first_frame=first)
            actual = column_stats(values)
            if stored is None or key not in stored:
                difference: Difference | None = NONE_STORED
            else:
                difference = numeric_difference(stored[key], actual, key) if finite else None
            if difference is not None:
                recomputed[key] = actual
                if stored is not None:
                    self._part.findings.append(difference.finding(self._place, key, run.episode))
        if recomputed:
            self._part.stats[len(self._part.runs) - 1] = recomputed

    def _check_images(self, file: pq.ParquetFile, stored: dict[int, dict[str, FeatureStats]]) -> None:
        part = self._part
        for feature in self._images:
            images = self._images_in(file, feature.key)
            for number, run in enumerate(part.runs):
                pictures = pictures_of_run(self._place, feature, self._fps, run)
                of_run = islice(images, run.length)
                bad = add_images(pictures, feature, of_run)
                if bad is not None:
                    at = pictures.seen
                    self._add(*bad, episode=run.episode, camera=feature.key, first_frame=at)
                    part.bad_images.add(number)
                    deque(of_run, 0)  # go on with the next episode
                    continue
                found, stats = pictures.judge(stored.get(run.episode), lossy=False)
                part.findings += found
                if stats is not None:
                    part.stats.setdefault(number, {})[feature.key] = stats

    def _images_in(self, file: pq.ParquetFile, key: str) -> Iterator[Any]:
        for batch in file.iter_batches(batch_size=_IMAGE_ROWS, columns=[key], use_threads=False):
            yield from batch.column(0).to_pylist()
            self._progress.update(self._part.rows)


def _joined(pieces: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    if len(pieces) == 1:
        return pieces[0]
    return {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether two types are equivalent; lists of fixed and of variable length are both used."""
    if isinstance(found, pa.ListType | pa.FixedSizeListType | pa.LargeListType):
        if not isinstance(wanted, pa.ListType | pa.FixedSizeListType):
            return False
        return _same(found.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        return pa.types.is_struct(found) and {f.name for f in found} >= {"bytes", "path"}
    if pa.types.is_string(wanted):
        return pa.types.is_string(found) or pa.types.is_large_string(found)
    return found == wanted
