"""`meta/info.json`: the description of a dataset, and how many of its episodes and frames count.

Keys, their order and their defaults follow lerobot 0.6.1 (`DatasetInfo` in `lerobot/datasets/utils.py`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DatasetError, FeatureError, StorageError
from ...features import DEFAULT_FEATURES, Schema
from ...media.camera_info import undescribed
from ...system import storage
from ...values import is_number, is_whole
from . import layout

CODEBASE_VERSION = "v3.0"

_COUNTS = ("total_episodes", "total_frames", "total_tasks")
_SIZES = ("chunks_size", "data_files_size_in_mb", "video_files_size_in_mb")


@dataclass
class DatasetInfo:
    """The content of info.json.

    Attributes:
        fps: frames per second.
        features: LeRobot's feature dict with the default columns, as in the file.
        total_episodes: committed episodes.
        total_frames: their frames.
        total_tasks: their tasks.
        chunks_size: files per folder.
        data_files_size_in_mb: size at which packing ends a data file.
        video_files_size_in_mb: size at which packing ends a video file.
        data_path: template of data files.
        video_path: template of video files, None for a dataset without video.
        robot_type: the robot's name, or None.
        splits: lerobot's splits; committing writes the whole dataset as ``train``.
        codebase_version: of the format.
        extra: further keys of the file (such as ``tools``), kept unchanged.
    """

    fps: int
    features: dict[str, dict[str, Any]]
    total_episodes: int = 0
    total_frames: int = 0
    total_tasks: int = 0
    chunks_size: int = layout.CHUNKS_SIZE
    data_files_size_in_mb: int | float = layout.DATA_FILES_SIZE_IN_MB
    video_files_size_in_mb: int | float = layout.VIDEO_FILES_SIZE_IN_MB
    data_path: str = layout.DATA_TEMPLATE
    video_path: str | None = layout.VIDEO_TEMPLATE
    robot_type: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    codebase_version: str = CODEBASE_VERSION
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, in lerobot's order of keys."""
        order = ("codebase_version", "fps", "features", *_COUNTS, *_SIZES)
        names = (*order, "data_path", "video_path", "robot_type", "splits")
        return {name: copy.deepcopy(getattr(self, name)) for name in names} | copy.deepcopy(self.extra)

    @property
    def video_keys(self) -> list[str]:
        """The features that are stored as videos."""
        return [key for key, feature in self.features.items() if feature["dtype"] == "video"]

    def schema(self) -> Schema:
        """The features without the default columns, checked.

        Raises:
            FeatureError: a feature that aiorecord cannot record.
        """
        return Schema(self.features)

    def with_episode(self, length: int, total_tasks: int) -> DatasetInfo:
        """The info after one more episode of `length` frames. The features are copied."""
        changed = copy.deepcopy(self)
        changed.total_episodes += 1
        changed.total_frames += length
        changed.total_tasks = total_tasks
        changed.splits = {"train": f"0:{changed.total_episodes}"}
        return changed


def new_info(
    schema: Schema,
    *,
    fps: int,
    robot_type: str | None = None,
    chunks_size: int = layout.CHUNKS_SIZE,
    data_files_size_in_mb: int | float = layout.DATA_FILES_SIZE_IN_MB,
    video_files_size_in_mb: int | float = layout.VIDEO_FILES_SIZE_IN_MB,
) -> DatasetInfo:
    """The info of a dataset without episodes, without the camera data that come from video files.

    Raises:
        ConfigError: `fps` is not a positive integer, `chunks_size` not 1 to 1000, or a size not positive.
    """
    if not is_whole(fps, 1):
        raise ConfigError(f"fps must be a positive integer, not {fps!r}.", option="fps")
    if not is_whole(chunks_size, 1, layout.MAX_NUMBERS):
        raise ConfigError(
            f"chunks_size must be 1 to {layout.MAX_NUMBERS}, not {chunks_size!r}: lerobot reads files in the "
            "order of their names, and their numbers have three digits.",
            option="chunks_size",
        )
    sizes = {
        "data_files_size_in_mb": data_files_size_in_mb,
        "video_files_size_in_mb": video_files_size_in_mb,
    }
    for option, size in sizes.items():
        if not is_number(size) or size <= 0:
            raise ConfigError(f"{option} must be positive, not {size!r}.", option=option)
    if robot_type is not None and not isinstance(robot_type, str):
        raise ConfigError(f"robot_type must be a string, not {robot_type!r}.", option="robot_type")
    return DatasetInfo(
        fps=fps,
        features={key: undescribed(feature) for key, feature in schema.as_dict().items()},
        chunks_size=chunks_size,
        data_files_size_in_mb=data_files_size_in_mb,
        video_files_size_in_mb=video_files_size_in_mb,
        video_path=layout.VIDEO_TEMPLATE if schema.videos else None,
        robot_type=robot_type,
    )


def read_info(root: Path) -> DatasetInfo:
    """Read and check info.json.

    Raises:
        DatasetError: it is missing or not valid, of another format version, or names files otherwise.
    """
    path = root / layout.INFO_PATH
    try:
        data = storage.read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"{root} is not a dataset: it has no {layout.INFO_PATH}.", path=root) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}", path=path, reading=True) from error
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read: {error}", path=path) from error
    return _checked(data, path)


def parse_info(text: bytes, path: Path) -> DatasetInfo:
    """Check the content of an info.json that was read already.

    Args:
        text: what it holds.
        path: where it was read, for messages.

    Raises:
        DatasetError: as `read_info`.
    """
    try:
        if len(text) > storage.MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {storage.MAX_JSON_BYTES >> 20} MiB")
        data = storage.parse_json(text)
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read: {error}", path=path) from error
    return _checked(data, path)


def described_info(said: Mapping[str, Any]) -> DatasetInfo:
    """The info of a dataset from a description without counts, see `evidence.describing`.

    Raises:
        DatasetError: it is not valid.
    """
    return _checked(dict.fromkeys(_COUNTS, 0) | {**said, "splits": {}}, None)


def _checked(data: Any, path: Path | None) -> DatasetInfo:
    try:
        json.dumps(data, allow_nan=False)  # it is written again
        return _parse(copy.deepcopy(data))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DatasetError(f"{path or 'It'} is not a dataset's info: {detail}", path=path) from error


def write_info(root: Path, info: DatasetInfo) -> None:
    """Replace info.json durably."""
    storage.write_json(root / layout.INFO_PATH, info.as_dict())


def check_continues(
    root: Path,
    info: DatasetInfo,
    *,
    schema: Schema | None = None,
    fps: int | None = None,
    robot_type: str | None = None,
) -> None:
    """Check that the features, rate and robot to record fit the dataset; None skips a check.

    Raises:
        DatasetError: it does not; the message lists every difference.
    """
    found = []
    if fps is not None and fps != info.fps:
        found.append(f"fps: the dataset has {info.fps}, you asked for {fps}")
    if robot_type is not None and info.robot_type is not None and robot_type != info.robot_type:
        found.append(f"robot_type: the dataset has {info.robot_type!r}, you asked for {robot_type!r}")
    if schema is not None:
        found += feature_differences(info.schema(), schema)
    if found:
        lines = "".join(f"\n  - {line}" for line in found)
        raise DatasetError(
            f"The dataset in {root} cannot be continued with these settings:{lines}", path=root
        )


def feature_differences(dataset: Schema, wanted: Schema) -> list[str]:
    """The differences that keep two schemas from sharing a dataset; of `info` only the depth flag counts."""
    found = [f"{key}: only the dataset has it" for key in dataset if key not in wanted]
    found += [f"{key}: the dataset does not have it" for key in wanted if key not in dataset]
    for key in (key for key in dataset if key in wanted):
        ours, theirs = dataset[key], wanted[key]
        pairs = {
            "dtype": (ours.dtype, theirs.dtype),
            "shape": (list(ours.shape), list(theirs.shape)),
            "names": (_plain(ours.names), _plain(theirs.names)),
            "is_depth_map": (ours.is_depth, theirs.is_depth),
        }
        found += [
            f"{key}: {name} {was!r} in the dataset, {new!r} asked for"
            for name, (was, new) in pairs.items()
            if was != new
        ]
    return found


def _parse(data: Any) -> DatasetInfo:
    if not isinstance(data, dict):
        raise TypeError(f"expected an object, found {type(data).__name__}")
    version = data["codebase_version"]
    if not isinstance(version, str) or not version.removeprefix("v").startswith("3."):
        raise ValueError(
            f"the format is {version!r}, only v3.x can be continued "
            "(lerobot converts older datasets: `lerobot.scripts.convert_dataset_v21_to_v30`)"
        )
    known = {k: v for k, v in data.items() if k in DatasetInfo.__dataclass_fields__ and k != "extra"}
    info = DatasetInfo(**known, extra={k: v for k, v in data.items() if k not in known})
    if isinstance(info.fps, float) and info.fps.is_integer():
        info.fps = int(info.fps)
    if not is_whole(info.fps, 1):
        raise ValueError(f"fps {info.fps!r} is not a positive integer")
    for name in _COUNTS:
        if not is_whole(getattr(info, name), 0):
            raise ValueError(f"{name} {getattr(info, name)!r} is not a count")
    for name in _SIZES:
        if not is_number(getattr(info, name)) or getattr(info, name) <= 0:
            raise ValueError(f"{name} {getattr(info, name)!r} is not positive")
    _check_features(info.features)
    if info.data_path != layout.DATA_TEMPLATE or info.video_path not in (None, layout.VIDEO_TEMPLATE):
        raise ValueError(
            f"files are named {info.data_path!r} and {info.video_path!r}, not as lerobot names them"
        )
    return info


def _check_features(features: Any) -> None:
    if not isinstance(features, dict):
        raise TypeError("features is not an object")
    if missing := [key for key in DEFAULT_FEATURES if key not in features]:
        raise ValueError(f"features lack {', '.join(missing)}")
    try:
        schema = Schema(features)
    except FeatureError as error:
        raise ValueError(str(error)) from error
    for key in schema:
        features[key]["shape"] = list(schema[key].shape)


def _plain(names: Any) -> Any:
    """Names as read back from JSON, so that a tuple equals a list."""
    if isinstance(names, Mapping):
        return {str(key): _plain(value) for key, value in names.items()}
    return [_plain(name) for name in names] if isinstance(names, list | tuple) else names
