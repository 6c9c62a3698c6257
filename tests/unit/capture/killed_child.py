"""Records until it is killed: ``python killed_child.py ROOT LIMIT FRAMES HOW``."""

from __future__ import annotations

import sys
from pathlib import Path

from captured import EVERYTHING, checked, prepare, wait_for

from aiorecord.capture import background, journal


def main() -> None:
    root, limit, frames, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    background.EXIT_CHECK_S = 0.05
    journal.FLUSH_PERIOD_S = 0.02 if how != "before the flush" else 1e6
    capture, schema = prepare(root, EVERYTHING, limit)
    for k in range(frames):
        capture.add_frame(checked(schema, k), f"task {k // 10}", 1000 + k)
        wait_for(lambda: all(c.queued_bytes <= limit for c in capture.status().cameras.values()))
    wait_for(lambda: not any(c.queued_frames for c in capture.status().cameras.values()))
    if how == "flushed":
        wait_for(lambda: not capture._rows._pending)
        if limit == 1:  # the encoders' files end where the spills begin
            cut = [c for c in capture._cameras.values() if c._queue.spilling]
            wait_for(lambda: not any(c._threads[0].is_alive() for c in cut))
    print(frames, flush=True)
    if how == "left open":
        raise SystemExit("bye")
    sys.stdin.read()


if __name__ == "__main__":
    main()
