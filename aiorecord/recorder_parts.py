"""What a recorder and those around it are made of, imported before it is needed.

It costs half a second of processor time: libav, Arrow, numpy. `Recorder.open` imports this module in a
thread, so that an event loop that runs other things meanwhile is not held up. Nothing is left to be imported
then by an episode, a session, a view, a save or the packing.
"""

from __future__ import annotations

from . import checked_frames, device_frames, disk_guard, episode, home, status
from .capture import unsaved
from .dataset import encode, pack, recover, workers
from .monitor import notebook
from .plans import settle
from .robots import guards, step
from .saving import failed, saver
from .session import loop

__all__ = [
    "checked_frames",
    "device_frames",
    "disk_guard",
    "encode",
    "episode",
    "failed",
    "guards",
    "home",
    "loop",
    "notebook",
    "pack",
    "recover",
    "saver",
    "settle",
    "status",
    "step",
    "unsaved",
    "workers",
]
