"""The quality record of a dataset: ``meta/aiorecord/episodes.jsonl``, one line per committed episode.

lerobot does not read it. A line is appended before `info.json` counts its episode, and removed again if the
commit fails. The record may be cut, edited or missing, or left over from before lerobot rewrote the dataset:
only what is displayed from it depends on it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...clock import LATE_AFTER_S, NS_PER_S
from ...errors import ConfigError
from ...printable import get_logger
from ...quality import (
    MEASURED,
    CameraQuality,
    EpisodeQuality,
    Pace,
    PaceCounter,
    QualityLimits,
    stored_facts,
)
from ...staging.folder import EpisodeFolder
from ...staging.kinds import KINDS
from ...system import storage
from .numbered_files import remove_files

if TYPE_CHECKING:
    from ...encoding.encoded import EncodedEpisode

logger = get_logger(__name__)

PATH = "meta/aiorecord/episodes.jsonl"
"""In the dataset's root folder."""

MAX_LINE_BYTES = 1 << 20
"""Longer lines are neither written nor read."""

_BLOCK_BYTES = 1 << 16
_FLAGS = os.O_CREAT | os.O_APPEND | os.O_RDWR
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def describe(
    folder: EpisodeFolder,
    encoded: EncodedEpisode,
    *,
    episode_index: int,
    tasks: list[str],
    times_ns: NDArray[np.int64],
    saving: Mapping[str, float | None] | None = None,
) -> EpisodeQuality:
    """Describe an episode that is about to be committed. Never fails because of a manifest's content.

    Args:
        folder: the episode, complete.
        encoded: its cameras.
        episode_index: the index it gets.
        tasks: its tasks.
        times_ns: monotonic time of every journaled row, also of rows beyond the episode's length.
        saving: seconds from its end to the stages of its save, if known.
    """
    manifest = folder.manifest
    length, fps = manifest.length or 0, manifest.fps
    noted = stored_facts(manifest.quality)
    timed = noted.get("timed") is not False
    cameras = {key: _camera(folder, key, noted, len(times_ns) - length) for key in manifest.cameras}
    for key, counted in cameras.items():
        cameras[key] = replace(counted, corrupt=encoded.cameras[key].corrupt)
    times_ns = times_ns[:length]
    lateness = noted.get("lateness")
    if not isinstance(lateness, dict):
        lateness = lateness_of_rows(times_ns, fps) if timed else {}
    record = EpisodeQuality(
        episode_index=episode_index,
        episode_id=folder.id,
        length=length,
        tasks=tasks,
        fps=fps,
        effective_fps=effective_fps(times_ns) if timed else None,
        recorded_at=_wall_time(noted.get("started_unix_ns", manifest.created_unix_ns)),
        interrupted=manifest.interrupted,
        lateness=lateness,
        cameras=cameras,
        calls=_objects(noted.get("calls")),
        flags=_flags(noted.get("limits"), lateness, cameras, pace_of(times_ns, fps) if timed else None, fps),
        encode={key: _encode(folder, encoded, key) for key in manifest.cameras},
        save={name: None if s is None else round(s, 6) for name, s in (saving or {}).items()},
        versions={name: str(text) for name, text in _object(noted.get("versions")).items()},
        facts={name: value for name, value in noted.items() if name not in MEASURED},
    )
    if len(record.to_line()) > MAX_LINE_BYTES:
        record = replace(record, facts={}, calls={}, versions={}, lateness={})
    return record


def append(root: Path, record: EpisodeQuality) -> None:
    """Add a line, durably. Costs the same however many there are.

    If the path is not a file (but a folder, or a link that leads elsewhere), nothing is written, and a
    warning is logged.
    """
    path = root / PATH
    with storage.storage_errors(path, "read"):
        ours = storage.is_own_file(path)
    if not ours:
        logger.warning(
            "%s is not a file; the quality of episode %d is not noted.", path, record.episode_index
        )
        return
    with storage.storage_errors(path, "write"):
        storage.make_folder(path.parent)
        _own(path)
        new = not path.exists()
        descriptor = os.open(path, _FLAGS, 0o666)
        with open(descriptor, "r+b", buffering=0) as file:
            # After a line that was left without its end.
            lead = b"" if not file.seek(0, os.SEEK_END) or _last_byte(file) == b"\n" else b"\n"
            _write_all(file, lead + record.to_line())
            os.fsync(descriptor)
        if new:
            storage.fsync_folder(path.parent)


def roll_back(root: Path, total_episodes: int) -> list[Path]:
    """Remove lines at the end for episodes that do not count, and a half line. Reads only the file's end.

    Lines that cannot be understood are left alone.

    Returns:
        The record's path if it was changed or removed.
    """
    path = root / PATH
    with storage.storage_errors(path, "read"):
        if not storage.is_own_file(path) or not path.is_file():
            return []
    with storage.storage_errors(path, "read"), path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        for start, line in _lines_from_end(file):
            index = _episode_index(line)
            if (index is None and line.endswith(b"\n")) or (index is not None and index < total_episodes):
                break
            keep = start
    if 0 < keep < end:
        _own(path)
        with storage.storage_errors(path, "write"), path.open("r+b") as file:
            file.truncate(keep)
            os.fsync(file.fileno())
    if keep == end:
        return []
    return [path] if keep else remove_files([path])


def read(root: Path, total_episodes: int | None = None) -> tuple[dict[int, EpisodeQuality], list[str]]:
    """Read the record, by episode index, and a message for each line that is not a valid record.

    The newest line of an episode counts. The dataset may be recorded into meanwhile.

    Args:
        total_episodes: leave out lines of later episodes.
    """
    path = root / PATH
    records: dict[int, EpisodeQuality] = {}
    problems: list[str] = []
    with storage.storage_errors(path, "read"):
        if not storage.is_own_file(path):
            return {}, [f"{path} is not a file."]
        if not path.exists():
            return {}, []
    with storage.storage_errors(path, "read"), path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            whole = line.endswith(b"\n")
            if len(line) == MAX_LINE_BYTES and not whole:
                problems.append(f"line {number} is longer than {MAX_LINE_BYTES} bytes")
                while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                continue
            try:
                record = EpisodeQuality.parse(line)
            except ValueError as error:
                if whole:  # otherwise it is being written, or was at a power loss
                    problems.append(f"line {number}: {error}")
                continue
            if total_episodes is None or record.episode_index < total_episodes:
                records[record.episode_index] = record
    return records, problems


def pace_of(times_ns: NDArray[np.int64], fps: float) -> Pace:
    """The pace of rows, from their times."""
    counter = PaceCounter(fps)
    for time_ns in times_ns.tolist():
        counter.add(time_ns)
    return counter.pace()


def effective_fps(times_ns: NDArray[np.int64]) -> float | None:
    """Frames per second between the first and the last row; None for less than two, or equal times."""
    if len(times_ns) < 2 or times_ns[-1] <= times_ns[0]:
        return None
    return round((len(times_ns) - 1) * NS_PER_S / float(times_ns[-1] - times_ns[0]), 3)


def lateness_of_rows(times_ns: NDArray[np.int64], fps: int) -> dict[str, Any]:
    """How much longer than a period the time between two rows was, for recordings without known ticks.

    Returns:
        As `Lateness.summary`, with ``source: "rows"``; empty for less than two rows.
    """
    if len(times_ns) < 2:
        return {}
    period_ms = 1000 / fps
    apart_ms = np.diff(times_ns) / 1e6
    late_ms = np.maximum(apart_ms - period_ms, 0)
    p50, p99 = np.percentile(late_ms, [50, 99])
    worst_ms = round(float(late_ms.max()), 3)
    return {
        "ticks": len(times_ns),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "max_ms": worst_ms,
        "worst_ms": worst_ms,
        "late": int((late_ms > LATE_AFTER_S * 1000).sum()),
        "missed": int(np.maximum(np.rint(apart_ms / period_ms) - 1, 0).sum()),
        "source": "rows",
    }


def _camera(folder: EpisodeFolder, key: str, noted: Mapping[str, Any], cut: int) -> CameraQuality:
    """A camera's counts from the capture; of an interrupted episode, the last ones written."""
    camera, length = folder.manifest.cameras[key], folder.manifest.length or 0
    try:
        counted = CameraQuality.parse(_object(noted.get("cameras"))[key])
        counted = replace(counted, captured=max(counted.captured, length + cut))
    except (KeyError, ValueError):
        counted = CameraQuality(captured=length + cut, spilled=camera.spilled)
    return replace(counted, lost=max(counted.captured - length, counted.lost))


def _encode(folder: EpisodeFolder, encoded: EncodedEpisode, key: str) -> dict[str, Any]:
    manifest = folder.manifest
    capture, made = manifest.cameras[key].capture, encoded.cameras[key]
    plan = "live" if KINDS[capture].is_final else "deferred"
    facts: dict[str, Any] = {"plan": plan, "capture": capture}
    if manifest.features[key]["dtype"] == "image":
        facts |= {"codec": "png", "settings": {}}
    else:
        encoder = manifest.encoder(key)
        facts |= {"codec": encoder.vcodec, "settings": stored_facts(asdict(encoder))}
        if made.fallback_vcodec is not None:
            facts |= {"codec": made.fallback_vcodec, "fallback_for": encoder.vcodec}
    return facts | {"bytes": made.bytes, "worker_s": round(made.seconds, 3)}


def _flags(
    limits: Any,
    lateness: Mapping[str, Any],
    cameras: Mapping[str, CameraQuality],
    pace: Pace | None,
    fps: float,
) -> list[str]:
    try:
        return QualityLimits(**_object(limits)).flags(lateness, cameras, pace=pace, fps=fps)
    except (TypeError, ValueError, OverflowError, ConfigError):
        return []  # a manifest may have any content


def _wall_time(unix_ns: Any) -> str | None:
    try:
        return datetime.fromtimestamp(unix_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> dict[str, dict[str, Any]]:
    return {key: item for key, item in _object(value).items() if isinstance(item, dict)}


def _own(path: Path) -> None:
    """Copy a record that has other hard links, so that a backup by hard links is not changed."""
    if path.exists() and path.stat().st_nlink > 1:
        with storage.replacing(path) as temporary:
            shutil.copyfile(path, temporary)


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    last: bytes = file.read(1)
    return last


def _episode_index(line: bytes) -> int | None:
    try:
        index = json.loads(line)["episode_index"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return index if isinstance(index, int) else None


def _lines_from_end(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The position and content of each line, last first, until a line is too long."""
    position = file.seek(0, os.SEEK_END)
    tail = b""
    while position:
        step = min(_BLOCK_BYTES, position)
        position -= step
        file.seek(position)
        tail = file.read(step) + tail
        while (newline := tail.rfind(b"\n", 0, -1)) >= 0:
            yield position + newline + 1, tail[newline + 1 :]
            tail = tail[: newline + 1]
        if len(tail) > MAX_LINE_BYTES:
            return
    if tail:
        yield 0, tail
