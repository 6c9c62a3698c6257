"""Descriptions stored in data and video files: which episodes a file holds, in order, and their lengths.

A description ("evidence") is the ``comment`` of an MP4 (an atom that readers skip), or key-value metadata of
a data Parquet file. A row is paired with a video frame only where both files name the same episode, so a
dataset whose `meta` is lost can be rebuilt from them. This module needs neither numpy nor pyarrow, because
encoder processes write descriptions too.

Another program may rewrite a file and copy its description along. So a description counts only where it
accounts for every frame or row of its file, see `Evidence.fits`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StorageError
from ..system import storage
from ..values import is_whole

PATH = "meta/aiorecord/dataset.json"
"""The file with the dataset's id, in the dataset's root folder. LeRobot neither reads nor copies it."""
PARQUET_KEY = b"aiorecord"
MP4_TAG = "comment"

MAX_BYTES = 16 << 20
"""Longer texts are not read. Packed files of a day of one-second episodes have 8 MB."""

_COUNTED = {"total_episodes", "total_frames", "total_tasks", "splits"}
_PREFIX = "aiorecord/1 "
_MAX_LENGTH = 1 << 40
_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True)
class Named:
    """An episode in a file.

    Attributes:
        id: the name of its staging folder, None where a file without evidence was joined in.
        length: its frames (or rows) in the file.
        dataset: id of the dataset that it was recorded into, None if unknown.
    """

    id: str | None
    length: int
    dataset: str | None = None


@dataclass(frozen=True)
class Evidence:
    """The description stored in a file: the episodes that it holds.

    Attributes:
        episodes: in the order of the file; the first begins at frame (or row) 0.
        camera: feature key of a video's camera, None for data files.
        tasks: names of the task numbers in a data file.
        info: info.json without counts, as it was when a data file was written; empty in videos.
    """

    episodes: tuple[Named, ...]
    camera: str | None = None
    tasks: Mapping[int, str] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Frames (or rows) that it accounts for."""
        return sum(episode.length for episode in self.episodes)

    def fits(self, frames: int, camera: str | None = None) -> bool:
        """Whether it describes this file: it accounts for all frames, names this camera, and each id once."""
        ids = [episode.id for episode in self.episodes if episode.id is not None]
        return self.frames == frames and self.camera == camera and len(ids) == len(set(ids))

    def to_text(self) -> str:
        """The text that is stored."""
        data: dict[str, Any] = {"episodes": [[e.id, e.length, e.dataset] for e in self.episodes]}
        if self.camera is not None:
            data["camera"] = self.camera
        if self.tasks:
            data["tasks"] = {str(number): name for number, name in self.tasks.items()}
        if self.info:
            data["info"] = dict(self.info)
        return _PREFIX + json.dumps(data, separators=(",", ":"))


def parse(text: str | bytes | None) -> Evidence | None:
    """Read what `Evidence.to_text` wrote; None for anything else, whatever it is."""
    if not text or len(text) > MAX_BYTES:
        return None
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if not text.startswith(_PREFIX):
            return None
        data = storage.parse_json(text.removeprefix(_PREFIX).encode(errors="replace"))
        episodes = tuple(_named(*entry) for entry in data["episodes"])
        camera, info = data.get("camera"), data.get("info", {})
        tasks = {int(number): str(name) for number, name in data.get("tasks", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not isinstance(info, dict) or not isinstance(camera, str | None):
        return None
    return Evidence(episodes, camera, tasks, info)


def _named(id_: Any, length: Any, dataset: Any) -> Named:
    for name in (id_, dataset):
        if name is not None and not (isinstance(name, str) and _ID.fullmatch(name)):
            raise ValueError("not an id")
    if not is_whole(length, 1, _MAX_LENGTH - 1):
        raise ValueError("not a length")
    return Named(id_, length, dataset)


def joined(parts: Iterable[tuple[Evidence | None, int]], camera: str | None = None) -> Evidence | None:
    """The evidence of a file made by joining others.

    Args:
        parts: each file's evidence, and its frames (or rows); evidence that does not fit its file is ignored.
        camera: a video's camera.

    Returns:
        None if none of them has any.
    """
    episodes: list[Named] = []
    tasks: dict[int, str] = {}
    info: Mapping[str, Any] = {}
    for part, frames in parts:
        if part is None or not part.fits(frames, camera):
            episodes += [Named(None, frames)] if frames else []
            continue
        episodes += part.episodes
        tasks |= part.tasks
        info = part.info or info
    if not any(episode.id for episode in episodes):
        return None
    return Evidence(tuple(episodes), camera, tasks, info)


def cut(evidence: Evidence | None, spans: Sequence[tuple[int, int]]) -> Evidence | None:
    """The evidence of a file made of parts of another.

    Args:
        evidence: of the other file, already known to fit it.
        spans: first frame (or row) and length of each part.

    Returns:
        None if no part is a whole episode that has an id.
    """
    if evidence is None:
        return None
    known: dict[tuple[int, int], Named] = {}
    at = 0
    for episode in evidence.episodes:
        known[at, episode.length] = episode
        at += episode.length
    episodes = tuple(known.get((first, length), Named(None, length)) for first, length in spans)
    if not any(episode.id for episode in episodes):
        return None
    return Evidence(episodes, evidence.camera, evidence.tasks, evidence.info)


def first_rows(evidence: Evidence | None, count: int) -> Evidence | None:
    """The evidence of a file's first `count` rows, None if they end within an episode."""
    if evidence is None:
        return None
    at, episodes = 0, []
    for episode in evidence.episodes:
        if at < count:
            episodes.append(episode)
            at += episode.length
    return Evidence(tuple(episodes), evidence.camera, evidence.tasks, evidence.info) if at == count else None


def describing(info: Mapping[str, Any]) -> dict[str, Any]:
    """The part of info.json that describes a dataset and that later commits do not change."""
    return {key: value for key, value in info.items() if key not in _COUNTED}


def read_dataset_id(root: Path) -> str | None:
    """The dataset's id; None if it has none yet, or its file is damaged.

    Raises:
        StorageError: the disk refused.
    """
    path = root / PATH
    try:
        with storage.storage_errors(path, "read"):
            try:
                value = storage.read_json(path, max_bytes=1 << 16)["id"]
            except (FileNotFoundError, NotADirectoryError):
                return None
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, StorageError):
            raise
        return None
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def ensure_dataset_id(root: Path, known: str | None = None) -> str | None:
    """The dataset's id, made now if it has none. The caller holds the dataset's lock.

    If something else has the name of its file (such as a link that leads elsewhere), nothing is written.

    Args:
        root: the dataset's root folder.
        known: the id found in files of the dataset, reused if the id's own file is lost.

    Returns:
        None if it cannot be stored: the files then name no dataset.

    Raises:
        StorageError: the disk refused.
    """
    found = read_dataset_id(root)
    if found is None and storage.is_own_file(root / PATH):
        found = known or secrets.token_hex(16)
        storage.write_json(root / PATH, {"id": found})
    return found
