"""Assembles what a commit writes for an episode, from staging: its table, statistics and info. Only reads."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...encoding.encoded import file_crc
from ...encoding.stats import FeatureStats, column_stats
from ...errors import DamageError, DatasetError, EncodeError, StateError
from ...features import Schema
from ...media.camera_info import DEPTH_SETTINGS, depth_differences, undescribed
from ...media.evidence import Evidence, Named, describing
from ...staging.folder import EpisodeFolder
from ...staging.rows import read_rows
from ...staging.staged_file import Extent, read_whole
from ...system import storage
from ..format.info_json import DatasetInfo, feature_differences
from ..format.tables import data_schema, data_table, default_columns, numeric_columns, table_errors

if TYPE_CHECKING:
    from ...encoding.encoded import EncodedEpisode

_MM_PER_METRE = 1000.0


@dataclass(frozen=True)
class Assembled:
    """The data that a commit writes for one episode, besides its videos.

    Attributes:
        length: frames.
        table: the rows of its data file.
        stats: statistics of every feature but strings, in the order of the features.
        tasks: all tasks of the dataset and their numbers, with the episode's.
        episode_tasks: the episode's tasks, in the order they appear.
        info: info.json with the episode counted.
        times_ns: monotonic time of every journaled row, also of rows beyond the episode's length.
    """

    length: int
    table: pa.Table
    stats: dict[str, FeatureStats]
    tasks: dict[str, int]
    episode_tasks: list[str]
    info: DatasetInfo
    times_ns: NDArray[np.int64]


def check_episode(root: Path, info: DatasetInfo, folder: EpisodeFolder, encoded: EncodedEpisode) -> None:
    """Check that an episode can go into a dataset.

    Raises:
        StateError: it is not complete.
        DatasetError: it has no frames, or its features or rate are not the dataset's.
        EncodeError: a camera or its file is missing, or it does not have a frame for every row.
    """
    manifest = folder.manifest
    length = manifest.length
    if manifest.state != "complete" or length is None:
        raise StateError(f"Episode {folder.id} is not complete, it cannot be committed.")
    if length < 1:
        raise DatasetError(f"Episode {folder.id} has no frames.", path=folder.path)
    schema = manifest.schema()
    found = feature_differences(info.schema(), schema)
    if manifest.fps != info.fps:
        found.insert(0, f"fps: {info.fps} in the dataset, {manifest.fps} in the episode")
    # The first episode defines the video info; info passed with the features comes from another dataset.
    begun = info.total_episodes > 0
    for key in schema.images if begun else ():
        ours = _depth_unit(info, key)
        theirs = manifest.cameras[key].depth_unit
        if None not in (ours, theirs) and ours != theirs:
            found.append(f"{key}: depth in {ours} in the dataset, in {theirs} in the episode")
    for key in (key for key, feature in schema.videos.items() if begun and feature.is_depth):
        found += depth_differences(key, info.features[key].get("info"), manifest.depth_encoder)
    if found:
        lines = "".join(f"\n  - {line}" for line in found)
        raise DatasetError(f"Episode {folder.id} does not fit {root}:{lines}", path=folder.path)
    for key in schema.cameras:
        if key not in encoded.cameras:
            raise EncodeError(f"Episode {folder.id}: {key} is not encoded.", camera=key)
        frames = encoded.cameras[key].frames
        if frames != length:
            raise EncodeError(
                f"Episode {folder.id}: {key} has {frames} frames for {length} rows.", camera=key
            )
        path = folder.path / encoded.cameras[key].file
        if not storage.is_there(path):
            raise EncodeError(f"{path} is missing.", camera=key)
        if schema[key].is_video:
            encoded.cameras[key].check(path, file_crc(path))


def assemble(
    info: DatasetInfo, tasks: Mapping[str, int], folder: EpisodeFolder, encoded: EncodedEpisode
) -> Assembled:
    """Assemble the data that the next commit writes for a checked episode.

    Args:
        info: the current info.json.
        tasks: the current tasks and their numbers.
        folder: the episode.
        encoded: its cameras.

    Raises:
        DatasetError: its rows cannot be read, or are fewer than the manifest says.
        EncodeError: an `image` feature does not have an image for every row.
    """
    schema = folder.manifest.schema()
    journaled = _read_rows(folder, schema)
    times_ns = journaled.column("time_ns").to_numpy()
    rows = journaled.slice(0, folder.manifest.length or 0)
    all_tasks, episode_tasks, task_indices = _number_tasks(rows, tasks)
    defaults = default_columns(
        rows.num_rows,
        fps=info.fps,
        episode_index=info.total_episodes,
        from_index=info.total_frames,
        task_indices=task_indices,
    )
    changed = info.with_episode(rows.num_rows, len(all_tasks))
    if changed.robot_type is None and not info.total_episodes:
        changed.robot_type = folder.manifest.robot_type
    _describe_cameras(changed, folder, encoded)
    stats = {key: column_stats(array) for key, array in (numeric_columns(rows, schema) | defaults).items()}
    stats |= _camera_stats(changed, folder, encoded)
    columns: dict[str, Any] = {key: rows.column(key) for key in schema.columns}
    columns |= {key: _images(folder, encoded, key, rows.num_rows) for key in schema.images}
    with table_errors(folder.rows_path):
        table = data_table(data_schema(info.features), columns, defaults)
    ordered = {key: stats[key] for key in info.features if key in stats}
    return Assembled(rows.num_rows, table, ordered, all_tasks, episode_tasks, changed, times_ns)


def evidence(folder: EpisodeFolder, parts: Assembled, dataset: str | None) -> Evidence:
    """The description stored in the data file, which pairs rows and videos if `meta` is lost.

    Args:
        dataset: the dataset's id, None if it could not be stored.
    """
    numbers = {number: task for task, number in parts.tasks.items()}
    used = [int(n) for n in parts.table["task_index"].to_numpy()]
    named = Named(folder.id, parts.length, dataset)
    return Evidence((named,), None, {n: numbers[n] for n in used}, describing(parts.info.as_dict()))


def _read_rows(folder: EpisodeFolder, schema: Schema) -> pa.Table:
    path, length = folder.rows_path, folder.manifest.length or 0
    extent = Extent()
    with table_errors(path):
        rows: pa.Table = read_rows(path, schema, extent=extent)
    if rows.num_rows < length:
        fault = f": {extent.fault}" if extent.fault else ""
        raise DamageError(f"{path} holds {rows.num_rows} rows instead of {length}{fault}.", path=path)
    return rows


def _number_tasks(
    rows: pa.Table, tasks: Mapping[str, int]
) -> tuple[dict[str, int], list[str], NDArray[np.int64]]:
    """All tasks including new ones, the episode's tasks, and the task number of each row."""
    per_row = [str(task or "") for task in rows.column("task").to_pylist()]
    names = list(dict.fromkeys(per_row))
    numbers = dict(tasks)
    for name in names:
        numbers.setdefault(name, len(numbers))
    return numbers, names, np.array([numbers[task] for task in per_row], dtype=np.int64)


def _describe_cameras(info: DatasetInfo, folder: EpisodeFolder, encoded: EncodedEpisode) -> None:
    """Describe cameras by the first episode, as lerobot does; `info` already counts the episode."""
    manifest = folder.manifest
    schema = manifest.schema()
    for key, camera in manifest.cameras.items():
        if info.total_episodes == 1:
            info.features[key] = undescribed(info.features[key])
        described = dict(info.features[key].get("info") or {})
        if camera.depth_unit is not None and described.get("depth_unit") is None:
            described["depth_unit"] = camera.depth_unit
        if not any(name.startswith("video.") and name != "video.is_depth_map" for name in described):
            described |= encoded.cameras[key].info
            if schema[key].is_depth and schema[key].is_video:
                settings = manifest.depth_encoder
                described |= {f"video.{name}": getattr(settings, name) for name in DEPTH_SETTINGS}
        if described:
            info.features[key]["info"] = described


def _camera_stats(
    info: DatasetInfo, folder: EpisodeFolder, encoded: EncodedEpisode
) -> dict[str, FeatureStats]:
    stats = {}
    for key, camera in encoded.cameras.items():
        stats[key] = camera.stats
        theirs, ours = folder.manifest.cameras[key].depth_unit, _depth_unit(info, key)
        if theirs is not None and theirs != ours:
            # The codes in a depth video are metric; only the statistics are in the sensor's unit.
            factor = _MM_PER_METRE if theirs == "m" else 1 / _MM_PER_METRE
            stats[key] = {n: value if n == "count" else value * factor for n, value in camera.stats.items()}
    return stats


def _images(folder: EpisodeFolder, encoded: EncodedEpisode, key: str, length: int) -> pa.ChunkedArray[Any]:
    path = folder.path / encoded.cameras[key].file
    data = read_whole(path, encoded.cameras[key].bytes)
    encoded.cameras[key].check(path, zlib.crc32(data))
    with table_errors(path):
        images: pa.ChunkedArray[Any] = pa.ipc.open_file(pa.BufferReader(data)).read_all().column(0)
    if len(images) != length:
        raise EncodeError(f"{path} holds {len(images)} images for {length} rows.", camera=key)
    return images


def _depth_unit(info: DatasetInfo, key: str) -> str | None:
    unit = (info.features[key].get("info") or {}).get("depth_unit")
    return None if unit is None else str(unit)
