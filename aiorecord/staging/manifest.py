"""The manifest of a captured episode: what its folder holds, and checks for a manifest that is read back.

A manifest may have been edited, damaged or forged. What passes `parse_manifest` names files
inside the episode folder only, each for one purpose, and holds values of the right types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..encoder_options import PIXEL_FORMATS
from ..encoders import DepthEncoderConfig, RGBEncoderConfig, VideoEncoderConfig
from ..features import Schema
from ..options import check_priority
from ..quality import stored_facts
from ..system.machine_time import unix_ns
from ..values import is_whole

MANIFEST_VERSION = 2
"""Since version 2 the manifest, live captures and histograms have checksums; version 1 can be read too."""

SUMS_VERSION = 2
"""The first version with checksums."""

CaptureKind = Literal["lossless", "rgb", "raw", "live"]
State = Literal["recording", "complete"]

MAX_FPS = 1_000_000
"""Upper limit when a manifest is read; far above any robot's."""

MAX_THREADS = 1024
MAX_LENGTH = 2**31 - 1
_MAX_COUNT = 2**53

_FILE_NAME = re.compile(r"[^/\\:\x00-\x1f.][^/\\:\x00-\x1f]{0,254}")
_OWN_FILES = {"manifest.json", "rows.arrows", "encoded.json", "commit.json", "synced.log"}


@dataclass
class Camera:
    """How one camera of an episode is captured.

    Attributes:
        capture: ``lossless``: in `pix_fmt` (the final video's format, so the final encode sees the very
            pixels a direct encode would), see `staging.lossless`; ``rgb``: lossless RGB, for `image` features
            and for formats that the capture codec does not hold; ``raw``: sensor values as they are (depth),
            see `staging.raw`; ``live``: the packets of the final video in Matroska, to be copied into the
            final file.
        file: file name of the frames inside the episode folder.
        pix_fmt: pixel format of the frames that are read back; empty for ``raw``.
        height: pixels.
        width: pixels.
        spill: file name of the frames that follow those in `file`; it exists only if there were any. It may
            begin with frames that are in `file` too.
        histograms: file name of the per-frame histograms, None for depth.
        frames: frames in `file`, known when the episode is complete; at least as many are there.
        spilled: frames in `spill` that follow them, known when the episode is complete.
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
        interrupted: an error or a signal ended the episode, not the operator or the program.
        priority: of its save, higher first; a later session saves the remaining episodes in that order.
        quality: facts about the recording, JSON-ready, for the quality record; see `Episode.annotate`.
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
    created_unix_ns: int = field(default_factory=unix_ns)
    state: State = "recording"
    length: int | None = None
    interrupted: bool = False
    priority: int = 0
    quality: dict[str, Any] = field(default_factory=dict)
    version: int = MANIFEST_VERSION

    @property
    def has_sums(self) -> bool:
        """Whether its live captures and histograms have checksums."""
        return self.version >= SUMS_VERSION

    def schema(self) -> Schema:
        """The features, checked."""
        return Schema(self.features)

    def encoder(self, key: str) -> VideoEncoderConfig:
        """The final encoder's settings of one camera."""
        return self.depth_encoder if Schema(self.features)[key].is_depth else self.rgb_encoder


def parse_manifest(data: Any) -> Manifest:
    """Read what `EpisodeFolder.save` wrote. Encoder settings are checked by their own class.

    Args:
        data: parsed JSON, of any kind.

    Raises:
        ValueError: it is not a manifest, or a value is impossible.
        TypeError: a value has the wrong type.
        KeyError: a part is missing.
        AttributeError: a part is not an object.
    """
    if not is_whole(data["version"], 1, MANIFEST_VERSION):
        known = f"this aiorecord reads versions 1 to {MANIFEST_VERSION}"
        raise ValueError(f"version {data['version']!r:.40}, {known}")
    # It is written again, and NaN and infinity cannot be. (The quality facts are checked separately.)
    json.dumps({name: value for name, value in data.items() if name != "quality"}, allow_nan=False)
    cameras = {key: Camera(**camera) for key, camera in data["cameras"].items()}
    manifest = Manifest(
        **{
            **data,
            "cameras": cameras,
            "rgb_encoder": RGBEncoderConfig(**data["rgb_encoder"]),
            "depth_encoder": DepthEncoderConfig(**data["depth_encoder"]),
        }
    )
    manifest.quality = stored_facts(manifest.quality)
    _check_values(manifest)
    schema = manifest.schema()
    if schema.cameras.keys() != cameras.keys():
        raise ValueError("cameras do not match the features")
    for key, camera in cameras.items():
        _check_camera(key, camera, manifest)
        if (camera.height, camera.width) != schema[key].size_hwc[:2]:
            raise ValueError(f"{key!r} is {camera.width!r}x{camera.height!r}, unlike its feature")
        if schema[key].is_depth != (camera.capture == "raw"):
            raise ValueError(f"{key!r} cannot be captured as {camera.capture!r}")
    _check_file_names(cameras)
    return manifest


def _check_values(manifest: Manifest) -> None:
    fps, length, threads = manifest.fps, manifest.length, manifest.encoder_threads
    if manifest.state not in ("recording", "complete"):
        raise ValueError(f"unknown state {manifest.state!r:.40}")
    if not is_whole(fps, 1, MAX_FPS):
        raise ValueError(f"fps is {fps!r:.40}")
    known = is_whole(length, 1, MAX_LENGTH)
    if not (known if manifest.state == "complete" else length is None or known):
        raise ValueError(f"length is {length!r:.40}")
    if threads is not None and not is_whole(threads, 1, MAX_THREADS):
        raise ValueError(f"encoder_threads is {threads!r:.40}")
    if not isinstance(manifest.task, str) or not isinstance(manifest.robot_type, str | None):
        raise ValueError("task or robot_type is not a text")
    if not isinstance(manifest.interrupted, bool):
        raise ValueError("interrupted is neither true nor false")
    check_priority(manifest.priority)


def _check_camera(key: str, camera: Camera, manifest: Manifest) -> None:
    if camera.capture not in ("lossless", "rgb", "raw", "live"):
        raise ValueError(f"unknown capture {camera.capture!r:.40}")
    counts = (camera.frames is None or is_whole(camera.frames, 0, _MAX_COUNT)) and is_whole(
        camera.spilled, 0, _MAX_COUNT
    )
    if not counts:
        raise ValueError(f"the counts of {key!r} are {camera.frames!r:.40} and {camera.spilled!r:.40}")
    if not (is_whole(camera.height, 1, _MAX_COUNT) and is_whole(camera.width, 1, _MAX_COUNT)):
        raise ValueError(f"{key!r} is {camera.width!r:.40}x{camera.height!r:.40}")
    known_format = isinstance(camera.pix_fmt, str) and camera.pix_fmt in PIXEL_FORMATS | {""}
    if not known_format or camera.depth_unit not in (None, "mm", "m"):
        raise ValueError(f"{key!r} has an unknown pixel format or unit")


def _check_file_names(cameras: Mapping[str, Camera]) -> None:
    """Check that every name stays in the episode folder, and that no file has two purposes."""
    taken = set(_OWN_FILES)
    sums: set[str] = set()
    for key in cameras:
        taken |= {f"{key}.mp4", f"{key}.png.arrow", f"{key}.progress"}
    for camera in cameras.values():
        for name in (camera.file, camera.spill, camera.histograms):
            if name is None and camera.capture == "raw":
                continue
            if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
                raise ValueError(f"the file name {name!r:.80} leaves the episode folder")
            if name in taken:
                raise ValueError(f"the file {name!r:.80} is used twice")
            taken.add(name)
            sums.add(f"{name}.crc")
    if taken & sums:
        raise ValueError("a file is named as the checksums of another")
