"""Reads a LeRobotDataset v3.0 for replay: locates its files and reads its rows. Blocking.

File layout and column names follow lerobot 0.6.1 (`lerobot/datasets/utils.py`, `dataset_reader.py`).
"""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...dataset.format.episodes import location_columns, location_prefixes
from ...dataset.format.table_size import check_size
from ...dataset.format.tables import read_table
from ...errors import AiorecordError, ConfigError, SourceError
from ...features import Feature, Schema
from ...system.storage import check_file, read_json
from ...values import is_number
from .film import source_error
from .video_source import Clip

VERSION = "v3.0"
MAX_FPS = 1000
_PAUSE_S = 0.2
"""Seconds before the metadata is read again: a packing exchanges its files in less."""


@dataclass(frozen=True, slots=True)
class ReplayEpisode:
    """One recorded episode.

    Attributes:
        index: its number.
        length: frames.
        data: the Parquet file with its rows.
        clips: the location of its frames for each video feature.
    """

    index: int
    length: int
    data: Path
    clips: dict[str, Clip]


class ReplayDataset:
    """The parts of a dataset that replay needs. The metadata is read at construction.

    Args:
        root: the dataset's folder.
        episodes: the episodes to use, in this order; None means all.

    Raises:
        ConfigError: there is no dataset of version 3.0 at `root`, it is empty or damaged, or it has no such
            episode.
    """

    def __init__(self, root: str | Path, episodes: Sequence[int] | None = None) -> None:
        self.root = Path(root)
        try:
            found, is_whole = self._read()
        except ConfigError:
            is_whole = False
        if not is_whole:  # it is damaged, or a packing exchanged its files meanwhile
            time.sleep(_PAUSE_S)
            found, _ = self._read()
        if not found:
            raise ConfigError(f"The dataset {self.root} has no episodes yet.", option="root")
        wanted = sorted(found) if episodes is None else list(episodes)
        if not wanted or (missing := [index for index in wanted if index not in found]):
            what = f"no episode {missing[0]}" if wanted else "nothing to replay: 'episodes' is empty"
            raise ConfigError(
                f"The dataset {self.root} has {what}; it has episodes 0 to {max(found)}.", option="episodes"
            )
        self.episodes = [found[index] for index in wanted]

    def features(self, *keys: str) -> dict[str, dict[str, Any]]:
        """The features of these keys, without the data that describe the stored videos."""
        out = {}
        for key in keys:
            feature = self.schema[key]
            out[key] = {"dtype": feature.dtype, "shape": feature.shape, "names": feature.names}
            if feature.is_visual:
                out[key]["info"] = {"is_depth_map": feature.is_depth}
        return out

    def clips(self, key: str) -> list[Clip]:
        """The location of a video feature's frames, episode by episode."""
        return [episode.clips[key] for episode in self.episodes]

    def endless_rows(self, keys: Sequence[str]) -> Generator[dict[str, Any]]:
        """The rows of all episodes in order, and again from the first, without end.

        Yields:
            For each key an array of the feature's dtype and shape, a str, or a picture (`image` features).

        Raises:
            SourceError: a file is gone or damaged, or an episode has fewer rows than it should.
        """
        if not keys:
            while True:
                yield {}
        features = [self.schema[key] for key in keys]
        while True:
            for episode in self.episodes:
                try:
                    columns = _columns(episode, features)
                except SourceError:
                    moved = self._moved(episode)
                    if moved is None:
                        raise
                    columns = _columns(moved, features)
                for row in range(episode.length):
                    yield {feature.key: _value(feature, columns[feature.key][row]) for feature in features}

    def _read(self) -> tuple[dict[int, ReplayEpisode], bool]:
        """The episodes that count, and whether they are all there.

        Raises:
            ConfigError: the metadata cannot be read.
        """
        info = _read_info(self.root)
        self.fps = _fps(self.root, info.get("fps"))
        try:
            self.schema = Schema(info["features"])
            found = self._read_episodes(info)
            return found, len(found) >= int(info["total_episodes"])
        except (LookupError, TypeError, ValueError, OSError, pa.ArrowException) as error:
            raise _damaged(self.root, f"{type(error).__name__}: {error}") from error

    def _moved(self, episode: ReplayEpisode) -> ReplayEpisode | None:
        """Where an episode is now, if a packing has moved its rows."""
        try:
            found = self._read_episodes(_read_info(self.root))
        except (AiorecordError, LookupError, TypeError, ValueError, OSError, pa.ArrowException):
            return None
        now = found.get(episode.index)
        return now if now is not None and now.length == episode.length and now.data != episode.data else None

    def _read_episodes(self, info: dict[str, Any]) -> dict[int, ReplayEpisode]:
        videos = list(self.schema.videos)
        columns = ["episode_index", "length", *location_columns(*location_prefixes(videos))]
        columns += [f"videos/{key}/from_timestamp" for key in videos]
        out: dict[int, ReplayEpisode] = {}
        for file in _tables(self.root / "meta" / "episodes"):
            for row in read_table(file, columns).to_pylist():
                index, length = int(row["episode_index"]), int(row["length"])
                if index >= info["total_episodes"]:
                    continue  # a commit is under way: info.json says how many count
                clips = {}
                for key in videos:
                    place = f"videos/{key}"
                    path = info["video_path"].format(
                        video_key=key,
                        chunk_index=row[f"{place}/chunk_index"],
                        file_index=row[f"{place}/file_index"],
                    )
                    start_s = float(row[f"{place}/from_timestamp"])
                    clips[key] = Clip(self.root / path, start_s, length, f"Episode {index} of {key} ({path})")
                data = info["data_path"].format(
                    chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
                )
                out[index] = ReplayEpisode(index, length, self.root / data, clips)
        return out


def _columns(episode: ReplayEpisode, features: Sequence[Feature]) -> dict[str, Any]:
    """The values of an episode, by feature; see `_column`.

    Raises:
        SourceError: they cannot be read, or are not as many as they should.
    """
    try:
        _check_table(episode.data, ["episode_index", *(feature.key for feature in features)])
        table = pq.read_table(
            episode.data,
            columns=[feature.key for feature in features],
            filters=[("episode_index", "=", episode.index)],
            partitioning=None,
        )
        columns = {feature.key: _column(feature, table[feature.key]) for feature in features}
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise source_error(f"{episode.data} cannot be read: {error}") from error
    if table.num_rows != episode.length:
        raise source_error(
            f"Episode {episode.index} has {table.num_rows} rows in {episode.data}, "
            f"but should have {episode.length}."
        )
    return columns


def _read_info(root: Path) -> dict[str, Any]:
    file = root / "meta" / "info.json"
    if not file.is_file():
        raise ConfigError(f"{root} is not a LeRobot dataset: it has no meta/info.json.", option="root")
    try:
        info = read_json(file)
        version = info.get("codebase_version")
    except (OSError, ValueError, AttributeError) as error:
        raise _damaged(root, str(error)) from error
    if version != VERSION:
        raise ConfigError(
            f"{root} is a LeRobot dataset of version {version}; replay reads {VERSION}. lerobot converts it: "
            "python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=...",
            option="root",
        )
    return dict(info)


def _tables(folder: Path) -> list[Path]:
    """Every ``*/*.parquet`` in a folder; `Path.glob` would treat an unreadable folder as empty.

    Raises:
        OSError: a folder cannot be read.
    """
    chunks = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(path for chunk in chunks for path in chunk.iterdir() if path.suffix == ".parquet")


def _check_table(path: Path, columns: list[str]) -> None:
    """Check that a table is a plain file and some columns may be read as a whole.

    Raises:
        ValueError: it is not a plain file, or needs too much memory.
        OSError: it cannot be examined.
    """
    check_file(path)
    with pq.ParquetFile(path) as file:
        check_size(file, path, columns)


def _fps(root: Path, value: Any) -> float:
    if not is_number(value) or not 0 < value <= MAX_FPS:
        raise _damaged(root, f"fps is {value!r}")
    return value


def _column(feature: Feature, column: pa.ChunkedArray[Any]) -> Any:
    """One episode's values: (n, *shape) array, or a list for strings and pictures."""
    if feature.is_image or feature.dtype == "string":
        return column.to_pylist()
    array: Any = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # pyarrow returns an empty column unchanged
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type.value_type)
    if isinstance(array, pa.ExtensionArray):  # the datasets library's Array2D to Array5D
        array = array.storage
    while hasattr(array, "flatten") and pa.types.is_nested(array.type):
        array = array.flatten()
    values = array.to_numpy(zero_copy_only=False).astype(feature.dtype, copy=False)
    return values.reshape(-1, *feature.shape)


def _value(feature: Feature, value: Any) -> Any:
    if feature.is_image:
        return _picture(feature, value)
    return value.copy() if isinstance(value, np.ndarray) else value


def _picture(feature: Feature, value: Any) -> NDArray[Any]:
    """Decode a stored picture; (h, w, 3) uint8, or (h, w, 1) uint16 or float32 for depth."""
    try:
        with av.open(io.BytesIO(value["bytes"]), "r") as container:
            frame = next(container.decode(video=0))
        if not feature.is_depth:
            return frame.reformat(format="rgb24").to_ndarray()
        if frame.format.name.startswith("grayf32"):
            return frame.to_ndarray(format="grayf32le").reshape(frame.height, frame.width, 1)
        return frame.to_ndarray(format="gray16le").reshape(frame.height, frame.width, 1)
    except (av.error.FFmpegError, StopIteration, TypeError, ValueError) as error:
        raise source_error(f"A picture of {feature.key} cannot be decoded: {error!r}") from error


def _damaged(root: Path, why: str) -> ConfigError:
    return ConfigError(f"The metadata of the dataset {root} cannot be read ({why}).", option="root")
