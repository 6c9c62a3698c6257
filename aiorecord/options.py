"""The options of a recorder, and checks of options, dataset names and folders. Pure."""

from __future__ import annotations

import os
import re
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from .encoders import (
    ALIASES,
    HARDWARE_CODECS,
    SOFTWARE_CODECS,
    DepthEncoderConfig,
    RGBEncoderConfig,
)
from .errors import ConfigError
from .quality import QualityLimits
from .values import is_number, is_whole

NonFinite = Literal["accept", "refuse"]
EncodeChoice = Literal["auto", "live", "deferred"]
MAX_NAME_BYTES = 255
"""Longest file name in bytes that common filesystems accept."""

MAX_PRIORITY = 1_000_000
"""The highest priority of a save; the lowest is its negative."""

SaveOrder = Literal["fifo", "shortest"]
Partial = Literal["keep", "drop", "stage"]


@dataclass
class RecorderOptions:
    """The options of a recorder that have a default.

    Attributes:
        root: the dataset's folder; default ``$HF_LEROBOT_HOME/<repo_id>``, as lerobot.
        robot_type: stored in ``info.json``.
        resume: continue a dataset (of aiorecord or lerobot); unfinished episodes in staging are saved first.
        partial: what resuming does with an interrupted episode: ``keep`` saves the frames that reached the
            disk, ``drop`` deletes it, ``stage`` leaves it in staging.
        rgb_encoder: settings of the final videos of colour cameras.
        depth_encoder: settings of the final videos of depth cameras.
        encoder_threads: threads per encoder; None leaves it to the codec.
        async_saving: save in the background. False saves each episode in the foreground.
        save_queue_size: saves that may wait; when they are that many, the next one is made in the foreground.
        save_timeout: seconds after which a save without progress fails; None means no limit.
        encode_workers: encoder processes; None chooses by the number of cores.
        encode_executor: runs the encodes instead of the recorder's own processes; any
            `concurrent.futures.Executor` that takes importable functions. Not closed by the recorder.
        encode: ``deferred`` captures losslessly and encodes in the background; ``live`` captures colour video
            directly in its final codec, so that it is only copied later; ``auto`` does that for codecs that
            a measurement showed to be fast enough on this machine (h264 and hardware encoders), see
            `aiorecord.encoding.plans`.
        save_order: which of the waiting episodes of equal priority is encoded next: ``fifo``, or
            ``shortest``. Their commits keep the order of recording.
        fallback_vcodec: codec for a colour video if the configured one fails twice on it; None leaves the
            episode in staging. The dataset then holds videos of two codecs, which lerobot
            reads and packing keeps apart.
        min_free_gb: space (in units of 1e9 bytes) to leave free on the disk: an episode ends before less is
            free, and the next one does not begin. 0 disables the check.
        max_backlog_gb: space (in units of 1e9 bytes) that ended episodes may take in staging; while they take
            more, the next episode waits before it begins. 0 means no limit.
        buffer_mb: memory for frames that wait for the capture encoders, over all cameras. Frames beyond this
            are spilled to disk.
        nonfinite: ``refuse`` rejects frames with NaN or infinity; ``accept`` counts them and warns once.
        limits: limits beyond which an episode is flagged, unless it has limits of its own; see
            `QualityLimits`.
        pack: merge the files of single episodes when the recorder closes.
        chunks_size: lerobot's files per chunk folder.
        data_files_size_in_mb: lerobot's size of data files.
        video_files_size_in_mb: lerobot's size of video files.
    """

    root: str | Path | None = None
    robot_type: str | None = None
    resume: bool = False
    partial: Partial = "keep"
    rgb_encoder: RGBEncoderConfig = field(default_factory=RGBEncoderConfig)
    depth_encoder: DepthEncoderConfig = field(default_factory=DepthEncoderConfig)
    encoder_threads: int | None = None
    async_saving: bool = True
    save_queue_size: int = 1000
    save_timeout: float | None = 300.0
    encode_workers: int | None = None
    encode_executor: Executor | None = None
    encode: EncodeChoice = "auto"
    save_order: SaveOrder = "fifo"
    fallback_vcodec: str | None = None
    min_free_gb: float = 1.0
    max_backlog_gb: float = 0
    buffer_mb: float = 256
    nonfinite: NonFinite = "accept"
    limits: QualityLimits = field(default_factory=QualityLimits)
    pack: bool = True
    chunks_size: int = 1000
    data_files_size_in_mb: int = 100
    video_files_size_in_mb: int = 200


class RecorderKeywords(TypedDict, total=False):
    """The fields of `RecorderOptions` as keywords that an editor completes; None stands for the default."""

    root: str | Path | None
    robot_type: str | None
    resume: bool | None
    partial: Partial | None
    rgb_encoder: RGBEncoderConfig | None
    depth_encoder: DepthEncoderConfig | None
    encoder_threads: int | None
    async_saving: bool | None
    save_queue_size: int | None
    save_timeout: float | None
    encode_workers: int | None
    encode_executor: Executor | None
    encode: EncodeChoice | None
    save_order: SaveOrder | None
    fallback_vcodec: str | None
    min_free_gb: float | None
    max_backlog_gb: float | None
    buffer_mb: float | None
    nonfinite: NonFinite | None
    limits: QualityLimits | None
    pack: bool | None
    chunks_size: int | None
    data_files_size_in_mb: int | None
    video_files_size_in_mb: int | None


_ABOVE_ZERO = (
    "buffer_mb",
    "save_timeout",
    "save_queue_size",
    "chunks_size",
    "data_files_size_in_mb",
    "video_files_size_in_mb",
    "encoder_threads",
)
_CHOICES = {"nonfinite": NonFinite, "encode": EncodeChoice, "partial": Partial, "save_order": SaveOrder}


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


def check_task(task: str) -> str:
    """Check the task of an episode: a string, possibly empty.

    Raises:
        ConfigError: it is not a string.
    """
    if not isinstance(task, str):
        raise ConfigError(
            f"task must be a string, not {task!r:.40}; leave it out if there is none.", option="task"
        )
    return task


def check_number(option: str, value: float, *, above: float | None = None, least: float = 0) -> None:
    """Check a time, a rate or a size: a finite number.

    Args:
        option: its name, for the message.
        value: the number.
        above: it must be larger than this; None: `least` applies.
        least: it must be this or more.

    Raises:
        ConfigError: it is not.
    """
    if not is_number(value) or (value < least if above is None else value <= above):
        wanted = f"{least:g} or more" if above is None else f"above {above:g}"
        raise ConfigError(f"{option} must be a finite number, {wanted}, not {value!r}.", option=option)


def check_priority(priority: object) -> int:
    """Check the priority of a save: a whole number, higher first.

    Raises:
        ConfigError: it is not a whole number, or beyond `MAX_PRIORITY`.
    """
    if not is_whole(priority, -MAX_PRIORITY, MAX_PRIORITY):
        raise ConfigError(
            f"A priority is a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}, not {priority!r:.40}.",
            option="priority",
        )
    return priority


def check_root(root: str | Path | None) -> None:
    """Check the folder of a dataset that is to be recorded.

    Raises:
        ConfigError: its name is empty or invalid, or lerobot could not load the dataset: it searches for
            files with patterns in which ``*``, ``?``, ``[`` and ``::`` have a special meaning.
    """
    if root is None:
        return
    if not str(root) or "\0" in str(root):
        raise ConfigError("root must name a folder.", option="root")
    path = resolve_root("", root)
    text = str(path)
    if bad := [mark for mark in ("*", "?", "[", "::") if mark in text]:
        raise ConfigError(
            f"root {text!r} holds {', '.join(bad)}: lerobot treats that as a pattern and finds other "
            "files, or none. Choose another folder.",
            option="root",
        )
    for part in path.parts:
        if len(part.encode()) > MAX_NAME_BYTES:
            raise ConfigError(
                f"root: a name of {len(part.encode())} bytes is too long for a folder; "
                f"{MAX_NAME_BYTES} is the most.",
                option="root",
            )


def resolve_root(repo_id: str, root: str | Path | None) -> Path:
    """The dataset's folder, absolute.

    Raises:
        ConfigError: its path is not UTF-8, which Arrow and libav cannot open; or it is relative, and the
            working directory was deleted.
    """
    try:
        path = _absolute(repo_id, root)
    except FileNotFoundError:
        raise ConfigError(
            f"{str(root or repo_id)!r} is relative to the working directory, which was deleted. Change to "
            "one that exists, or give an absolute path.",
            option="root",
        ) from None
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"The path {str(path)!r} is not UTF-8, files in it cannot be opened. Rename the folder.",
            option="root",
        ) from None
    return path


def _absolute(repo_id: str, root: str | Path | None) -> Path:
    if root is not None:
        try:
            return Path(root).expanduser().absolute()
        except RuntimeError:  # "~nobody": no such user, so it is a name like any other
            return Path(root).absolute()
    hf_home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface"))
    home = Path(os.environ.get("HF_LEROBOT_HOME", hf_home / "lerobot"))
    return home.expanduser().absolute() / repo_id


def parse_options(given: RecorderKeywords) -> RecorderOptions:
    """Check a recorder's options and fill in the others.

    Raises:
        ConfigError: an option has an invalid or unusable value.
        TypeError: there is no such option.
    """
    unknown = given.keys() - RecorderOptions.__dataclass_fields__.keys()
    if unknown:
        raise TypeError(f"Recorder() got unexpected arguments: {', '.join(sorted(unknown))}")
    check_root(given.get("root"))
    # None stands for the default, so that callers can pass options through; as a timeout, for no limit.
    chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None or k == "save_timeout"}
    options = RecorderOptions(**chosen)
    for option in _ABOVE_ZERO:
        if (value := getattr(options, option)) is not None:
            check_number(option, value, above=0)
    for option, kind in _CHOICES.items():
        value, words = getattr(options, option), get_args(kind)
        if value not in words:
            wanted = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
            raise ConfigError(f"{option} is {wanted}, not {value!r}.", option=option)
    for option, zero in (("max_backlog_gb", "no limit"), ("min_free_gb", "no check")):
        if not 0 <= (value := getattr(options, option)) < float("inf"):
            raise ConfigError(f"{option} must be 0 ({zero}) or more, not {value}.", option=option)
    if options.fallback_vcodec is not None:
        options.fallback_vcodec = _check_fallback(options.fallback_vcodec)
    if options.encode_workers is not None and options.encode_workers < 1:
        raise ConfigError("encode_workers must be 1 or more.", option="encode_workers")
    return options


def _check_fallback(vcodec: str) -> str:
    """Check the fallback codec and return its canonical name.

    Raises:
        ConfigError: there is no such codec, or it is ``auto``, which is not one codec.
    """
    name = ALIASES.get(vcodec, vcodec)
    known = (*SOFTWARE_CODECS, *HARDWARE_CODECS)
    if name not in known:
        raise ConfigError(
            f"fallback_vcodec is one of {', '.join(sorted(known))}, not {vcodec!r}.", option="fallback_vcodec"
        )
    return name
