"""Finds the episodes of staging that are already in the dataset. Reads only."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ...encoding.encoded import EncodedCamera, EncodedEpisode, file_crc
from ...errors import DamageError, DatasetError, EncodeError, StorageError
from ...media.video_file import count_packets
from ...staging.folder import EpisodeFolder
from ...staging.sealed_json import read_sealed
from ...system import storage
from ...values import is_whole
from ..format import layout
from ..format.episodes import location_columns, location_prefixes, locations, read_ids
from ..format.links import damage_errors
from ..format.numbered_files import numbered_files
from ..format.tables import episode_column, read_table


def committed_index(root: Path, total_episodes: int, folder: EpisodeFolder) -> int | None:
    """The episode's index if it is in the dataset already, else None.

    The intent in the episode's folder only shows that a commit has begun; `meta/episodes` shows which episode
    got each index.

    Args:
        total_episodes: number of counted episodes; `meta/episodes` may hold more.
        folder: the episode.
    """
    if not storage.is_there(folder.path / EpisodeFolder.COMMIT):
        return None
    for path in numbered_files(root / layout.EPISODES_FOLDER).values():
        for index, id_ in read_ids(path).items():
            if id_ == folder.id and 0 <= index < total_episodes:
                return index
    return None


def intended_index(folder: EpisodeFolder) -> int | None:
    """The index that a commit was about to assign to the episode; None without a valid intent."""
    path = folder.path / EpisodeFolder.COMMIT
    if not storage.is_there(path):
        return None
    try:
        index = read_sealed(path)["episode_index"]
    except (ValueError, TypeError, KeyError):
        return None
    return index if is_whole(index, 0) else None


def check_committed(root: Path, index: int, folder: EpisodeFolder) -> None:
    """Check that an episode is in the dataset, before its folder in staging is deleted.

    Its rows must exist, and its videos must have all its frames. A video with the size recorded at encoding
    holds nothing else, and must also have the recorded checksum.

    Args:
        index: the result of `committed_index`.
        folder: the episode.

    Raises:
        DamageError: it is not; staging still has it.
    """
    keys = list(folder.manifest.schema().videos)
    try:
        with damage_errors(root):
            _check_files(root, index, keys, folder)
    except StorageError:
        raise
    except (DatasetError, EncodeError) as error:
        raise DamageError(
            f"the dataset counts it as episode {index}, but it is incomplete ({error})",
            path=folder.path,
        ) from error


def _check_files(root: Path, index: int, keys: list[str], folder: EpisodeFolder) -> None:
    ends = [f"videos/{key}/to_timestamp" for key in keys]
    row = _row(root, index, ["length", *location_columns(*location_prefixes(keys)), *ends])
    [data] = locations(row, "data")
    _check_rows(root / layout.data_path(data), index, int(row["length"][0].as_py()))
    encoded = EncodedEpisode.load(folder)
    for key, end in zip(keys, ends, strict=True):
        [video] = locations(row, f"videos/{key}")
        frames = round(row[end][0].as_py() * folder.manifest.fps)
        camera = None if encoded is None else encoded.cameras[key]
        _check_video(root / layout.video_path(key, video), frames, key, camera)


def _check_rows(path: Path, index: int, length: int) -> None:
    if not storage.is_there(path):
        raise DatasetError(f"{path} is missing", path=path)
    held = episode_column(path).to_numpy()
    if int((held == index).sum()) != length:
        raise DatasetError(f"{path} does not have its {length} rows", path=path)


def _check_video(path: Path, frames: int, key: str, camera: EncodedCamera | None) -> None:
    """Check that a video has the episode's frames, and is the encoded file if the sizes are equal."""
    if not storage.is_there(path):
        raise EncodeError(f"{path} is missing", camera=key)
    if count_packets(path) < frames:
        raise EncodeError(f"{path} does not have its frames", camera=key)
    with storage.storage_errors(path, "read"):
        size = path.stat().st_size
    if camera is not None and size == camera.bytes:
        camera.check(path, file_crc(path))


def span_of(root: Path, index: int) -> tuple[int, int]:
    """Dataset-wide indices of a committed episode's first frame, and of the one after its last.

    Raises:
        DatasetError: `meta/episodes` cannot be read, or lacks the episode.
    """
    row = _row(root, index, ["dataset_from_index", "dataset_to_index"])
    return int(row["dataset_from_index"][0].as_py()), int(row["dataset_to_index"][0].as_py())


def _row(root: Path, index: int, columns: list[str]) -> pa.Table:
    """Some columns of an episode's row of `meta/episodes`."""
    for path in numbered_files(root / layout.EPISODES_FOLDER).values():
        place = pc.index(episode_column(path), index).as_py()
        if place >= 0:
            return read_table(path, columns).slice(place, 1)
    raise DatasetError(f"{root}: meta/episodes does not hold episode {index}.", path=root)
