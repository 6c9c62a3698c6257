"""Reconstructs a lost info.json from the descriptions in data files, from staging, and from columns and
videos.

Nothing is guessed. What no file states (the names of a vector's elements, the robot's type) is left empty and
reported. Where files contradict each other, or no file states the settings that depth was recorded with, no
info.json is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...dataset.format import layout
from ...dataset.format.info_json import DatasetInfo, described_info, new_info
from ...dataset.format.numbered_files import numbered_files
from ...dataset.format.tables import evidence_of, open_table
from ...errors import AiorecordError, DatasetError, StorageError
from ...features import DEFAULT_FEATURES, Schema
from ...media.evidence import read_dataset_id
from ...media.video_file import probe_video
from ...staging.folder import EpisodeFolder, Staging
from ...workers.progress import Progress
from ..jobs import Job, RunJobs, content_error, is_regular
from ..readers.data_file import timestamp_tolerance
from ..readers.folder_tree import parquet_files
from ..readers.metadata import load_json

_ROWS = 512
"""How many rows' timestamps are used to find the frames per second of a file."""


@dataclass
class FoundInfo:
    """The result of the search for a lost info.json.

    Attributes:
        info: the info without counts; None if it cannot be reconstructed.
        said: its sources, or why it failed, and what remains unknown. One sentence each.
    """

    info: DatasetInfo | None = None
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _DataFile:
    """A data file, as far as it describes its dataset.

    Attributes:
        info: info.json without counts, as the file has it; empty if it has none that is certain.
        dataset: ids of the datasets that its episodes were recorded into.
        features: its columns, as features; None if they are not those of a dataset.
        why: why the columns cannot be features.
        fps: by its timestamps, None if unknown.
    """

    info: Mapping[str, Any]
    dataset: frozenset[str]
    features: dict[str, dict[str, Any]] | None
    why: str
    fps: int | None


def find_info(root: Path, run: RunJobs) -> FoundInfo:
    """Reconstruct info.json. Only reads.

    Args:
        root: the dataset's root folder.
        run: runs jobs.

    Raises:
        StorageError: the disk refused.
    """
    if _is_of_another_format(root):
        return FoundInfo(None, ["meta/info.json is not replaced: it has another version of the format."])
    paths = [path for path in parquet_files(root / layout.DATA_FOLDER) if is_regular(path)]
    looked = run("rows", [Job(path, describe_job, (path,)) for path in paths])
    files = {path: part for path in paths if (part := looked.get(path)) is not None}
    dataset = read_dataset_id(root)
    speaking = {
        path: part
        for path, part in files.items()
        if part.info and (dataset is None or not part.dataset or dataset in part.dataset)
    }
    if speaking:
        return _by_evidence(root, speaking)
    found = _by_staging(root, list(files.values()))
    return found or _by_columns(root, files, run)


def _is_of_another_format(root: Path) -> bool:
    try:
        data = load_json(root / layout.INFO_PATH)
    except DatasetError:
        return False
    version = data.get("codebase_version") if isinstance(data, dict) else None
    return isinstance(version, str) and not version.removeprefix("v").startswith("3.")


def _by_evidence(root: Path, files: Mapping[Path, _DataFile]) -> FoundInfo:
    """The info that every data file agrees on; cameras are described by the newest."""
    infos: dict[str, DatasetInfo] = {}
    for path, part in files.items():
        try:
            infos[path.relative_to(root).as_posix()] = described_info(part.info)
        except DatasetError:
            continue  # written by an older aiorecord, or a text of another origin: ignored
    if not infos:
        return FoundInfo(None, ["meta/info.json: the copy of it in the data files is not valid."])
    newest = list(infos)[-1]
    others = [name for name, info in infos.items() if _core(info) != _core(infos[newest])]
    if others:
        return FoundInfo(
            None,
            [f"meta/info.json is not rebuilt: {newest} and {others[0]} belong to different "
             "datasets. Move the files that do not belong here aside."],
        )  # fmt: skip
    return FoundInfo(infos[newest], [f"Rebuild meta/info.json from the copy in {newest}."])


def _core(info: DatasetInfo) -> str:
    """The part of the info that never changes."""
    features = {
        key: {name: value for name, value in spec.items() if name != "info"}
        for key, spec in info.features.items()
    }
    return json.dumps([info.fps, info.robot_type, features], sort_keys=True)


def _by_staging(root: Path, files: Sequence[_DataFile]) -> FoundInfo | None:
    """The info that the manifests of staging agree on, if the data files have its columns."""
    found: dict[str, DatasetInfo] = {}
    for path in Staging(root).episode_paths():
        try:
            manifest = EpisodeFolder.load(path).manifest
            info = new_info(manifest.schema(), fps=manifest.fps, robot_type=manifest.robot_type)
        except StorageError:
            raise
        except AiorecordError:
            continue
        wanted = {key for key, spec in info.features.items() if spec["dtype"] != "video"}
        if all(part.features is None or set(part.features) == wanted for part in files):
            found[path.name] = info
    if not found or len({_core(info) for info in found.values()}) > 1:
        return None
    name, info = list(found.items())[-1]
    if any(feature.is_depth for feature in info.schema().videos.values()) and _videos(root):
        return None  # episodes in the dataset may have been made with other settings
    return FoundInfo(info, [f"Rebuild meta/info.json from the episode {name} in staging."])


def _by_columns(root: Path, files: Mapping[Path, _DataFile], run: RunJobs) -> FoundInfo:
    """The info derived from columns, timestamps and videos."""

    def no(why: str) -> FoundInfo:
        return FoundInfo(None, [f"meta/info.json cannot be put together: {why}."])

    if not files:
        return no("no data file with a copy of it can be read")
    if whys := [f"{path.name}: {part.why}" for path, part in files.items() if part.features is None]:
        return no(whys[0])
    columns = [part.features for part in files.values() if part.features is not None]
    if any(other != columns[0] for other in columns):
        return no("data files have different columns")
    rates = {part.fps for part in files.values()} - {None}
    features = dict(columns[0])
    videos = _videos(root)
    looked = run("videos", [Job(path, probe_job, (path,)) for path in videos.values()])
    for key, path in videos.items():
        seen = looked.get(path)
        if seen is None:
            return no(f"no video of {key} can be read")
        if seen["video.channels"] != 3:
            return no(f"the videos of {key} may be depth, and their settings are unknown")
        rates.add(seen["video.fps"])
        shape = [seen["video.height"], seen["video.width"], 3]
        names = ["height", "width", "channels"]
        features[key] = {"dtype": "video", "shape": shape, "names": names, "info": seen}
    if len(rates) != 1 or (fps := rates.pop()) is None:
        return no("timestamps and videos do not show the frames per second")
    try:
        info = new_info(Schema(features), fps=fps)
    except AiorecordError as error:
        return no(str(error).rstrip("."))
    for key, spec in features.items():
        info.features[key] |= {"info": spec["info"]} if "info" in spec else {}
    return FoundInfo(
        info,
        [
            "Rebuild meta/info.json from the columns of the data files, their timestamps and the videos.",
            "No file has the robot's type and the names of the features' elements: they are left empty.",
        ],
    )


def _videos(root: Path) -> dict[str, Path]:
    """A video of each camera."""
    found: dict[str, Path] = {}
    folder = root / layout.VIDEOS_FOLDER
    if not folder.is_dir():
        return found
    for camera in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
        if paths := [path for path in numbered_files(camera).values() if is_regular(path)]:
            found[camera.name] = paths[0]
    return found


def describe_job(path: Path, progress: Progress) -> _DataFile | None:
    """Read what a data file states about its dataset; None if it cannot be read. A job."""
    try:
        with open_table(path) as file:
            evidence = evidence_of(file.schema_arrow)
            if evidence is not None and not evidence.fits(file.metadata.num_rows):
                evidence = None  # another program has rewritten the file
            features, why = _features(file.schema_arrow)
            fps = None
            if features is not None:
                names = ["timestamp", "frame_index"]
                batch = next(file.iter_batches(batch_size=_ROWS, columns=names, use_threads=False), None)
                fps = None if batch is None else _rate(batch)
    except (AiorecordError, OSError, ValueError, TypeError, KeyError) as error:
        content_error(error)
        return None
    named = evidence.episodes if evidence is not None else ()
    ids = frozenset(episode.dataset for episode in named if episode.dataset is not None)
    return _DataFile(evidence.info if evidence is not None else {}, ids, features, why, fps)


def probe_job(path: Path, progress: Progress) -> dict[str, Any] | None:
    """Read what a video states about its camera; None if it cannot be read. A job."""
    try:
        return probe_video(path)
    except (AiorecordError, OSError, ValueError) as error:
        content_error(error)
        return None


def _rate(batch: pa.RecordBatch) -> int | None:
    """The integer rate whose grid has all timestamps."""
    times = batch.column("timestamp").to_numpy(zero_copy_only=False).astype("float64")
    frames = batch.column("frame_index").to_numpy(zero_copy_only=False).astype("float64")
    last = int(frames.argmax()) if len(frames) else 0
    if not len(frames) or frames[last] < 1 or not times[last] > 0:
        return None
    fps: int = round(float(frames[last] / times[last]))
    if fps < 1 or not (abs(times - frames / fps) <= timestamp_tolerance(times)).all():
        return None
    return fps


def _features(schema: pa.Schema) -> tuple[dict[str, dict[str, Any]] | None, str]:
    """Columns as features, or why they cannot be features."""
    found: dict[str, dict[str, Any]] = {}
    for column in schema:
        if column.name in DEFAULT_FEATURES:
            continue
        type_, shape = column.type, list[int]()
        said = (column.metadata or {}).get(b"ARROW:extension:metadata")
        if isinstance(type_, pa.BaseExtensionType):
            said, type_ = type_.__arrow_ext_serialize__(), type_.storage_type  # type: ignore[attr-defined]
        while pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
            shape.append(type_.list_size if pa.types.is_fixed_size_list(type_) else -1)
            type_ = type_.value_type
        if -1 in shape:
            shape = _shape(said, len(shape))
        if pa.types.is_string(type_) or pa.types.is_large_string(type_):
            dtype = "string"
        elif pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_):
            dtype = {"halffloat": "float16", "float": "float32", "double": "float64"}.get(
                str(type_), str(type_)
            )
        else:
            return None, f"the meaning of the column {column.name} is unknown"
        if -1 in shape:
            return None, f"the shape of {column.name} is unknown"
        found[column.name] = {"dtype": dtype, "shape": shape or [1], "names": None}
    if missing := [name for name in DEFAULT_FEATURES if name not in schema.names]:
        return None, f"it lacks the column {missing[0]}"
    return found, ""


def _shape(said: bytes | None, dimensions: int) -> list[int]:
    """The shape of an extension type of `datasets`, -1 for unknown sizes."""
    try:
        shape = json.loads(said or b"null")[0]
        if len(shape) == dimensions and all(type(n) is int and n > 0 for n in shape):
            return list(shape)
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    return [-1] * dimensions
