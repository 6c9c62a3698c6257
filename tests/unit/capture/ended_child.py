"""Ends an episode, and is killed at a known point: ``python ended_child.py ROOT FRAMES POINT``."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from captured import EVERYTHING, checked, prepare, wait_for

from aiorecord.capture import journal
from aiorecord.capture.camera import CameraCapture


def main() -> None:
    root, frames, point = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    journal.FLUSH_PERIOD_S = 1e6  # what is flushed is flushed by the end
    capture, schema = prepare(root, EVERYTHING)

    def stop_here(camera: CameraCapture, *, abandon: bool = False) -> None:
        wait_for(lambda: not any(c.queued_frames for c in capture.status().cameras.values()))
        reached()

    if point == "the cameras close":
        CameraCapture.close = stop_here  # type: ignore[method-assign]
    for k in range(frames):
        capture.add_frame(checked(schema, k), "Task", 1000 + k)
    capture.finish()
    assert capture.is_durable
    reached()


def reached() -> None:
    """Say so, and wait for the kill."""
    print("here", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
