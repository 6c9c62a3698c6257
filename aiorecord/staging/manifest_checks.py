"""Checks a manifest that is read back.

A manifest may have been edited, damaged or forged. What passes `parse_manifest` names files
inside the episode folder only, each for one purpose, and holds values of the right types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..encoder_options import PIXEL_FORMATS
from ..encoders import DepthEncoderConfig, RGBEncoderConfig
from ..options import check_priority
from ..quality import stored_facts
from ..values import is_whole
from .kinds import KINDS
from .manifest import MANIFEST_VERSION, Camera, Manifest

MAX_FPS = 1_000_000
"""Upper limit when a manifest is read; far above any robot's."""

MAX_THREADS = 1024
MAX_LENGTH = 2**31 - 1
_MAX_COUNT = 2**53

_FILE_NAME = re.compile(r"[^/\\:\x00-\x1f.][^/\\:\x00-\x1f]{0,254}")
_OWN_FILES = {"manifest.json", "rows.arrows", "encoded.json", "commit.json", "synced.log"}


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
        _check_camera(key, camera)
        if (camera.height, camera.width) != schema[key].size_hwc[:2]:
            raise ValueError(f"{key!r} is {camera.width!r}x{camera.height!r}, unlike its feature")
        if schema[key].is_depth != KINDS[camera.capture].is_depth:
            raise ValueError(f"{key!r} cannot be captured as {camera.capture!r}")
    _check_file_names(cameras)
    return manifest


def _check_values(manifest: Manifest) -> None:
    length, threads = manifest.length, manifest.encoder_threads
    is_complete = manifest.state == "complete"
    _check_each(
        manifest,
        "",
        state=is_complete or manifest.state == "recording",
        fps=is_whole(manifest.fps, 1, MAX_FPS),
        length=is_whole(length, 1, MAX_LENGTH) or (length is None and not is_complete),
        encoder_threads=threads is None or is_whole(threads, 1, MAX_THREADS),
        task=isinstance(manifest.task, str),
        robot_type=isinstance(manifest.robot_type, str | None),
        interrupted=isinstance(manifest.interrupted, bool),
    )
    check_priority(manifest.priority)


def _check_camera(key: str, camera: Camera) -> None:
    _check_each(
        camera,
        f"{key!r}: ",
        capture=isinstance(camera.capture, str) and camera.capture in KINDS,
        frames=camera.frames is None or is_whole(camera.frames, 0, _MAX_COUNT),
        spilled=is_whole(camera.spilled, 0, _MAX_COUNT),
        height=is_whole(camera.height, 1, _MAX_COUNT),
        width=is_whole(camera.width, 1, _MAX_COUNT),
        pix_fmt=isinstance(camera.pix_fmt, str) and camera.pix_fmt in PIXEL_FORMATS | {""},
        depth_unit=camera.depth_unit in (None, "mm", "m"),
    )


def _check_each(owner: Manifest | Camera, where: str, **sound: bool) -> None:
    for name, is_sound in sound.items():
        if not is_sound:
            raise ValueError(f"{where}{name} is {getattr(owner, name)!r:.40}")


def _check_file_names(cameras: Mapping[str, Camera]) -> None:
    """Check that every name stays in the episode folder, and that no file has two purposes."""
    taken = set(_OWN_FILES)
    sums: set[str] = set()
    for key in cameras:
        taken |= {f"{key}.mp4", f"{key}.png.arrow", f"{key}.progress"}
    for camera in cameras.values():
        for name in (camera.file, camera.spill, camera.histograms):
            if name is None and KINDS[camera.capture].is_depth:
                continue
            if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
                raise ValueError(f"the file name {name!r:.80} leaves the episode folder")
            if name in taken:
                raise ValueError(f"the file {name!r:.80} is used twice")
            taken.add(name)
            sums.add(f"{name}.crc")
    if taken & sums:
        raise ValueError("a file is named as the checksums of another")
