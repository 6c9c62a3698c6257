"""The manifest of a captured episode: what its folder holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..encoders import DepthEncoderConfig, RGBEncoderConfig, VideoEncoderConfig
from ..features import Schema
from ..system.machine_time import unix_ns

MANIFEST_VERSION = 2
"""Since version 2 the manifest, live captures and histograms have checksums; version 1 can be read too."""

SUMS_VERSION = 2
"""The first version with checksums."""

State = Literal["recording", "complete"]


@dataclass
class Camera:
    """How one camera of an episode is captured.

    Attributes:
        capture: the kind of capture, see `kinds.KINDS`.
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

    capture: str
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
