"""Live capture of episodes into the staging area, and reading them back.

Names are imported when they are first used: encode workers need the reader alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import ByteBudget
    from .camera import CameraCapture, CameraStatus
    from .episode import CaptureStatus, EpisodeCapture
    from .raw import RawWriter, read_raw
    from .reader import count_frames, read_frames, read_histograms
    from .rows import RowsJournal, arrow_type, read_rows
    from .staging import Camera, EpisodeFolder, Manifest, Staging

_HOMES = {
    "budget": "ByteBudget",
    "camera": "CameraCapture CameraStatus",
    "episode": "CaptureStatus EpisodeCapture",
    "raw": "RawWriter read_raw",
    "reader": "count_frames read_frames read_histograms",
    "rows": "RowsJournal arrow_type read_rows",
    "staging": "Camera EpisodeFolder Manifest Staging",
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "ByteBudget",
    "Camera",
    "CameraCapture",
    "CameraStatus",
    "CaptureStatus",
    "EpisodeCapture",
    "EpisodeFolder",
    "Manifest",
    "RawWriter",
    "RowsJournal",
    "Staging",
    "arrow_type",
    "count_frames",
    "read_frames",
    "read_histograms",
    "read_raw",
    "read_rows",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'aiorecord.capture' has no attribute {name!r}")
    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value
