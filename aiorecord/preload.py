"""Imports the modules that recording needs, before they are needed.

The imports (libav, Arrow, numpy) cost half a second of processor time. `Recorder.open` imports this module in
a thread, so that other work on the event loop is not delayed. After that, an episode, a session, a view, a
save or the packing imports nothing more.
"""

from __future__ import annotations

from .capture import unsaved
from .dataset.packing import pack
from .dataset.recovery import salvage
from .encoding import camera_encoding
from .encoding.plans import apply
from .monitor.sinks import notebook
from .recording import checked_frames, device_loop, episode, open_dataset, packing, status
from .saving import disk_guard, handle, saver
from .session import loop
from .workers import pool

__all__ = [
    "apply",
    "camera_encoding",
    "checked_frames",
    "device_loop",
    "disk_guard",
    "episode",
    "handle",
    "loop",
    "notebook",
    "open_dataset",
    "pack",
    "packing",
    "pool",
    "salvage",
    "saver",
    "status",
    "unsaved",
]
