"""The result of encoding an episode, and its record on disk, ``encoded.json``."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DamageError, EncodeError
from ..media.camera_info import depth_differences
from ..staging.folder import EpisodeFolder
from ..staging.sealed_json import read_sealed, write_sealed
from ..staging.staged_file import StagedFile
from ..system.storage import is_there
from ..values import is_whole
from .stats import STAT_NAMES, FeatureStats

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_BYTES = 1 << 20

_MAX_VALUES = 16
"""The shape of a camera's statistic: one value per channel."""


@dataclass(frozen=True)
class EncodedCamera:
    """The encoded files of one camera.

    Attributes:
        key: the feature key.
        file: file name inside the episode folder.
        frames: frames in it, verified.
        bytes: its size.
        info: the ``video.*`` entries for the feature's ``info``; empty for `image` features.
        stats: statistics of the camera over the episode, as lerobot computes them.
        seconds: how long the encoding took.
        fallback_vcodec: the codec, if another one than the configured one was needed; `info` describes it.
        crc32: checksum of the file; None if it was not computed.
        corrupt: images that the camera sent encoded and that could not be decoded, now or by the capture; the
            frame before each stands in.
    """

    key: str
    file: str
    frames: int
    bytes: int
    info: dict[str, Any]
    stats: FeatureStats
    seconds: float
    fallback_vcodec: str | None = None
    crc32: int | None = None
    corrupt: int = 0

    def check(self, path: Path, crc32: int) -> None:
        """Compare the checksum of the file as it was read.

        Raises:
            EncodeError: it differs.
        """
        if self.crc32 is not None and crc32 != self.crc32:
            raise EncodeError(f"{path} is damaged: it is not what was encoded.", camera=self.key)


def file_crc(path: Path) -> int:
    """CRC-32 of a file's bytes.

    Raises:
        DamageError: it is missing, or not a plain file.
        StorageError: it cannot be read.
    """
    file = StagedFile.open(path)
    if file is None:
        raise DamageError(f"{path} is missing.", path=path)
    crc = 0
    with file:
        while data := file.read(_BLOCK_BYTES):
            crc = zlib.crc32(data, crc)
    return crc


@dataclass
class EncodedEpisode:
    """The encoded files of every camera of an episode.

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
        write_sealed(folder.path / EpisodeFolder.ENCODED, {"cameras": cameras})

    @classmethod
    def load(cls, folder: EpisodeFolder) -> EncodedEpisode | None:
        """Read ``encoded.json``.

        Returns:
            None if the episode is not encoded yet, or the file is not what `save` writes, or has no
            checksums: the frames still exist, so encoding again is always possible.

        Raises:
            StorageError: the file is there but cannot be read.
        """
        path = folder.path / EpisodeFolder.ENCODED
        try:
            if not is_there(path):
                return None
            data = read_sealed(path)
            cameras = {key: _load_camera(key, value) for key, value in data["cameras"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return None
        if cameras.keys() != folder.manifest.cameras.keys():
            return None
        depth = folder.manifest.depth_encoder
        for key, feature in folder.manifest.schema().videos.items():
            # Encoded before the episode got the dataset's settings.
            if feature.is_depth and depth_differences(key, cameras[key].info, depth):
                return None
        return cls(cameras)


def _load_camera(key: str, value: dict[str, Any]) -> EncodedCamera:
    """Read a camera; raises ValueError (or another error) if an encode cannot have written it."""
    stats = {name: _unpack(packed) for name, packed in value["stats"].items()}
    camera = EncodedCamera(**{**value, "stats": stats})
    if camera.key != key or camera.file not in (f"{key}.mp4", f"{key}.png.arrow"):
        raise ValueError("another camera's file")
    if stats.keys() != set(STAT_NAMES) or len({v.shape for n, v in stats.items() if n != "count"}) != 1:
        raise ValueError("not the statistics of a camera")
    for count in (camera.frames, camera.bytes):
        if not is_whole(count, 1):
            raise ValueError("not a count")
    if not isinstance(camera.info, dict) or not isinstance(camera.seconds, int | float):
        raise ValueError("not the facts of a camera")
    if not is_whole(camera.crc32) or not is_whole(camera.corrupt, 0):
        raise ValueError("no checksum, or not a count")
    return camera


def _pack(value: NDArray[Any]) -> dict[str, Any]:
    """An array for JSON, without loss: `repr` of a float64 is read back as the same number, also NaN."""
    return {
        "dtype": str(value.dtype),
        "shape": value.shape,
        "values": [repr(v) for v in value.ravel().tolist()],
    }


def _unpack(packed: dict[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(packed["dtype"])
    if dtype.kind not in "iuf" or len(packed["values"]) > _MAX_VALUES:
        raise ValueError("not a statistic of a camera")
    read = int if dtype.kind in "iu" else float
    return np.array([read(v) for v in packed["values"]], dtype).reshape(packed["shape"])
