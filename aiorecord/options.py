"""What a recorder can be told: options, dataset names, folders. Pure checks."""

from __future__ import annotations

import os
import re
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .encoders import DepthEncoderConfig, RGBEncoderConfig
from .errors import ConfigError

NonFinite = Literal["accept", "refuse"]


@dataclass
class RecorderOptions:
    """Everything about a recorder that has a default.

    Attributes:
        root: the dataset's folder; default ``$HF_LEROBOT_HOME/<repo_id>``, as lerobot.
        robot_type: noted in ``info.json``.
        resume: continue a dataset (of aiorecord or lerobot); what staging still holds is finished first.
        rgb_encoder: final videos of colour cameras.
        depth_encoder: final videos of depth cameras.
        encoder_threads: threads per encoder; None leaves it to the codec.
        async_saving: save behind the robot. False saves each episode in the foreground.
        save_queue_size: saves that may wait before the next one is made in the foreground.
        save_timeout: seconds a save may go without progress; None waits for ever.
        encode_workers: encoder processes; None chooses by the number of cores.
        encode_executor: runs the encodes instead of the recorder's own processes; not closed by it.
        buffer_mb: memory for frames that wait for the capture encoders, over all cameras. What goes beyond
            is spilled to disk.
        nonfinite: ``refuse`` rejects frames with NaN or infinity; ``accept`` counts them and warns once.
        pack: merge the files of single episodes when the recorder closes.
        chunks_size: lerobot's files per chunk folder.
        data_files_size_in_mb: lerobot's size of data files.
        video_files_size_in_mb: lerobot's size of video files.
    """

    root: str | Path | None = None
    robot_type: str | None = None
    resume: bool = False
    rgb_encoder: RGBEncoderConfig = field(default_factory=RGBEncoderConfig)
    depth_encoder: DepthEncoderConfig = field(default_factory=DepthEncoderConfig)
    encoder_threads: int | None = None
    async_saving: bool = True
    save_queue_size: int = 10
    save_timeout: float | None = 300.0
    encode_workers: int | None = None
    encode_executor: Executor | None = None
    buffer_mb: float = 256
    nonfinite: NonFinite = "accept"
    pack: bool = True
    chunks_size: int = 1000
    data_files_size_in_mb: int = 100
    video_files_size_in_mb: int = 200


def check_repo_id(repo_id: str) -> str:
    """Check a dataset name: ``name`` or ``user/name``, of letters, digits, '.', '_' and '-'.

    Raises:
        ConfigError: anything else, in particular names that would leave the root.
    """
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
    if not isinstance(repo_id, str) or not re.fullmatch(rf"{part}(?:/{part})?", repo_id) or ".." in repo_id:
        raise ConfigError(
            f"{repo_id!r} cannot name a dataset. Use 'name' or 'user/name', of letters, digits, "
            "'.', '_' and '-'.",
            option="repo_id",
        )
    return repo_id


def resolve_root(repo_id: str, root: str | Path | None) -> Path:
    """The dataset's folder, absolute."""
    if root is not None:
        return Path(root).expanduser().absolute()
    hf_home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface"))
    home = Path(os.environ.get("HF_LEROBOT_HOME", hf_home / "lerobot"))
    return home.expanduser().absolute() / repo_id


def parse_options(given: dict[str, Any]) -> RecorderOptions:
    unknown = given.keys() - RecorderOptions.__dataclass_fields__.keys()
    if unknown:
        raise TypeError(f"Recorder() got unexpected arguments: {', '.join(sorted(unknown))}")
    # None stands for the default, so that callers can pass options through.
    optional = {"root", "robot_type", "encoder_threads", "save_timeout", "encode_workers", "encode_executor"}
    options = RecorderOptions(**{k: v for k, v in given.items() if v is not None or k in optional})
    if not options.buffer_mb > 0:
        raise ConfigError(f"buffer_mb must be above 0, not {options.buffer_mb}.", option="buffer_mb")
    if options.nonfinite not in ("accept", "refuse"):
        raise ConfigError(
            f"nonfinite is 'accept' or 'refuse', not {options.nonfinite!r}.", option="nonfinite"
        )
    if options.encode_workers is not None and options.encode_workers < 1:
        raise ConfigError("encode_workers must be 1 or more.", option="encode_workers")
    return options
