"""What the encoders made of an episode, and its record on disk, ``encoded.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..capture.staging import EpisodeFolder
from ..storage import storage_errors, write_json
from .stats import FeatureStats


@dataclass(frozen=True)
class EncodedCamera:
    """What became of one camera.

    Attributes:
        key: the feature key.
        file: file name inside the episode folder.
        frames: frames in it, verified.
        bytes: its size.
        info: the ``video.*`` entries for the feature's ``info``; empty for `image` features.
        stats: statistics of the camera over the episode, as lerobot computes them.
        seconds: how long the encoding took.
    """

    key: str
    file: str
    frames: int
    bytes: int
    info: dict[str, Any]
    stats: FeatureStats
    seconds: float


@dataclass
class EncodedEpisode:
    """What became of every camera of an episode.

    Attributes:
        cameras: by feature key.
    """

    cameras: dict[str, EncodedCamera]

    def save(self, folder: EpisodeFolder) -> None:
        """Write ``encoded.json`` durably.

        Raises:
            StorageError: the disk refused.
        """
        cameras = {
            key: asdict(camera) | {"stats": {name: _pack(value) for name, value in camera.stats.items()}}
            for key, camera in self.cameras.items()
        }
        write_json(folder.path / EpisodeFolder.ENCODED, {"cameras": cameras})

    @classmethod
    def load(cls, folder: EpisodeFolder) -> EncodedEpisode | None:
        """Read ``encoded.json``.

        Returns:
            None if the episode is not encoded yet, or the file is not what `save` writes: the frames are
            still there, so encoding again is always right.

        Raises:
            StorageError: the file is there but cannot be read.
        """
        path = folder.path / EpisodeFolder.ENCODED
        with storage_errors(path, "read"):
            try:
                text = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            cameras = {key: _load_camera(value) for key, value in json.loads(text)["cameras"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        if cameras.keys() != folder.manifest.cameras.keys():
            return None
        return cls(cameras)


def _load_camera(value: dict[str, Any]) -> EncodedCamera:
    stats = {name: _unpack(packed) for name, packed in value["stats"].items()}
    return EncodedCamera(**{**value, "stats": stats})


def _pack(value: NDArray[Any]) -> dict[str, Any]:
    """An array for JSON, exactly: `repr` of a float64 reads back as the same number, NaN included."""
    return {
        "dtype": str(value.dtype),
        "shape": value.shape,
        "values": [repr(v) for v in value.ravel().tolist()],
    }


def _unpack(packed: dict[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(packed["dtype"])
    read = int if dtype.kind in "iu" else float
    return np.array([read(v) for v in packed["values"]], dtype).reshape(packed["shape"])
