"""The staging area: one folder per captured episode, described by its manifest.

::

    <root>/.aiorecord/
        episodes/<sequence>-<random>/
            manifest.json      what is captured, how, and how far: see Manifest
            rows.arrows        the rows (Arrow IPC stream)
            <camera>.mkv       lossless frames; or <camera>.raw, see Camera.capture
            <camera>.spill     frames that the capture encoder could not take in time, raw, in order
            <camera>.hist      per-frame pixel histograms of colour cameras, for exact statistics
            <camera>.mp4       the final video, once encoded;  <camera>.png.arrow for `image` features
            encoded.json       written when every camera is encoded and verified
            commit.json        the episode index this episode is about to get

Sequence numbers order episodes as they were recorded; a clock that steps back does not matter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..encoders import DepthEncoderConfig, RGBEncoderConfig, VideoEncoderConfig
from ..errors import DatasetError
from ..features import Schema
from ..storage import fsync_folder, make_folder, remove_tree, storage_errors, write_json

STAGING_FOLDER = ".aiorecord"
MANIFEST_VERSION = 1

CaptureKind = Literal["x264", "x264rgb", "raw"]
State = Literal["recording", "complete"]

_ID = re.compile(r"(\d{6,})-[0-9a-f]{8}")


@dataclass
class Camera:
    """How one camera of an episode is captured.

    Attributes:
        capture: ``x264``: lossless x264 in Matroska, in `pix_fmt` (the final video's format, so the final
            encode sees the very pixels a direct encode would); ``x264rgb``: lossless RGB in Matroska, for
            `image` features and for formats that x264 does not keep exactly; ``raw``: sensor values as
            they are (depth), in the framing of `capture.raw`.
        file: file name of the frames inside the episode folder.
        pix_fmt: pixel format inside the Matroska file; empty for ``raw``.
        height: pixels.
        width: pixels.
        spill: file name of the frames that follow those in `file`; it exists only if there were any.
        histograms: file name of the per-frame histograms, None for depth.
        frames: frames in `file`, known when the episode is complete.
        spilled: frames in `spill`, known when the episode is complete.
        depth_unit: ``mm`` or ``m`` for depth cameras, known from the first frame.
    """

    capture: CaptureKind
    file: str
    pix_fmt: str
    height: int
    width: int
    spill: str
    histograms: str | None
    frames: int | None = None
    spilled: int = 0
    depth_unit: str | None = None


@dataclass
class Manifest:
    """What an episode folder holds; enough to finish the episode without the process that recorded it.

    Attributes:
        fps: frames per second.
        features: LeRobot's feature dict, without the default columns.
        cameras: capture of each camera feature.
        rgb_encoder: settings of the final videos of colour cameras.
        depth_encoder: settings of the final videos of depth cameras.
        encoder_threads: threads per encoder, or None.
        task: the episode's task (rows carry their own where frames differ).
        robot_type: as in info.json.
        created_unix_ns: wall-clock time of creation, for humans only.
        state: ``recording`` until the end was made durable, then ``complete``.
        length: number of rows (and of frames of every camera) once complete.
        interrupted: the episode did not end by the operator's or the program's decision.
        version: of this format.
    """

    fps: int
    features: dict[str, dict[str, Any]]
    cameras: dict[str, Camera]
    rgb_encoder: RGBEncoderConfig
    depth_encoder: DepthEncoderConfig
    encoder_threads: int | None = None
    task: str = ""
    robot_type: str | None = None
    created_unix_ns: int = field(default_factory=time.time_ns)
    state: State = "recording"
    length: int | None = None
    interrupted: bool = False
    version: int = MANIFEST_VERSION

    def schema(self) -> Schema:
        """The features, checked."""
        return Schema(self.features)

    def encoder(self, key: str) -> VideoEncoderConfig:
        """The final encoder's settings of one camera."""
        return self.depth_encoder if Schema(self.features)[key].is_depth else self.rgb_encoder


class EpisodeFolder:
    """One captured episode on disk.

    Attributes:
        path: the folder.
        id: its name.
        manifest: what it holds. Change it, then call `save`.
    """

    ROWS = "rows.arrows"
    ENCODED = "encoded.json"
    COMMIT = "commit.json"

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.id = path.name
        self.manifest = manifest

    @property
    def sequence(self) -> int:
        """Position in the order of recording."""
        match = _ID.fullmatch(self.id)
        assert match, self.id  # folders with other names are never opened, see Staging.episodes
        return int(match[1])

    @property
    def rows_path(self) -> Path:
        """The rows journal."""
        return self.path / self.ROWS

    def save(self) -> None:
        """Write the manifest durably.

        Raises:
            StorageError: the disk refused.
        """
        write_json(self.path / "manifest.json", dataclasses.asdict(self.manifest))

    @classmethod
    def load(cls, path: Path) -> EpisodeFolder:
        """Read an episode folder.

        Raises:
            DatasetError: the manifest is missing or is not one; its file names leave the folder.
        """
        file = path / "manifest.json"
        try:
            data = json.loads(file.read_bytes())
            manifest = _parse_manifest(data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DatasetError(f"{file} cannot be read as a manifest: {error}", path=file) from error
        return cls(path, manifest)

    def remove(self) -> None:
        """Delete the folder; readers never see half of it."""
        remove_tree(self.path)


class Staging:
    """The staging area of one dataset.

    Args:
        root: the dataset's root folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / STAGING_FOLDER
        self.episodes_path = self.path / "episodes"
        self._sequence = 0

    def episode_paths(self) -> list[Path]:
        """Every episode folder, in the order of recording, whatever its state."""
        if not self.episodes_path.is_dir():
            return []
        found = [(int(m[1]), p) for p in self.episodes_path.iterdir() if (m := _ID.fullmatch(p.name))]
        return [path for _, path in sorted(found)]

    def create(self, manifest: Manifest) -> EpisodeFolder:
        """Make the next episode's folder with its manifest, durably.

        Raises:
            StorageError: the disk refused.
        """
        with storage_errors(self.episodes_path, "create the staging folder"):
            make_folder(self.episodes_path)
            if not self._sequence:
                paths = self.episode_paths()
                self._sequence = EpisodeFolder(paths[-1], manifest).sequence if paths else 0
            self._sequence += 1
            path = self.episodes_path / f"{self._sequence:06d}-{secrets.token_hex(4)}"
            path.mkdir()
            folder = EpisodeFolder(path, manifest)
            folder.save()
            fsync_folder(self.episodes_path)
        return folder

    def tidy(self) -> None:
        """Delete the folder of episodes if none is left in it. The lock's release then deletes the rest."""
        with contextlib.suppress(OSError):  # not empty, or never made
            self.episodes_path.rmdir()


def _parse_manifest(data: dict[str, Any]) -> Manifest:
    if data["version"] != MANIFEST_VERSION:
        raise ValueError(f"version {data['version']}, this aiorecord reads version {MANIFEST_VERSION}")
    cameras = {key: Camera(**camera) for key, camera in data["cameras"].items()}
    for camera in cameras.values():
        for name in (camera.file, camera.spill, camera.histograms or "x"):
            if not isinstance(name, str) or Path(name).name != name or name.startswith("."):
                raise ValueError(f"the file name {name!r} leaves the episode folder")
    manifest = Manifest(
        **{
            **data,
            "cameras": cameras,
            "rgb_encoder": RGBEncoderConfig(**data["rgb_encoder"]),
            "depth_encoder": DepthEncoderConfig(**data["depth_encoder"]),
        }
    )
    if manifest.state not in ("recording", "complete"):
        raise ValueError(f"unknown state {manifest.state!r}")
    if manifest.schema().cameras.keys() != cameras.keys():
        raise ValueError("cameras do not match the features")
    return manifest
