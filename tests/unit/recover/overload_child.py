"""Records faster than its encoder, until it is killed: ``python overload_child.py ROOT BEFORE AFTER``.

There is memory for all of it. The encoder is let through BEFORE frames and then stands. AFTER frames are
added before anything is spilled. Then frames are added until the capture spills, the encoder is let finish
the frame it is at, and everything that waits is written.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "capture"))

from captured import VIDEO, checked, gated, prepare, wait_for

from aiorecord.capture import camera as camera_module
from aiorecord.capture import episode


def main() -> None:
    root, before, after = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    episode.FLUSH_PERIOD_S = 0.05
    writer = gated()
    camera_module._open_writer = writer
    capture, schema = prepare(root, VIDEO, 512 << 20)
    [camera] = capture._cameras.values()
    number = 0

    def add() -> None:
        nonlocal number
        capture.add_frame(checked(schema, number), "Task", 1000 + number)
        number += 1

    for _ in range(before):
        writer.gate.release()
        add()
    wait_for(lambda: camera.encoded == before)
    for _ in range(after):
        add()
    assert not camera._spilling
    # The flushes go on while frames come; at the second one, the oldest frame has waited too long.
    wait_for(lambda: bool(add() or camera._spilling))
    writer.gate.release()
    wait_for(lambda: camera.encoded + camera.spilled == number)
    wait_for(lambda: not camera._threads[0].is_alive())
    wait_for(lambda: not capture._rows._pending or bool(add()))
    print(before + after, number, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
