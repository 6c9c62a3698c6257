"""Records faster than its encoder, until it is killed: ``python overload_child.py ROOT BEFORE AFTER HOW``.

There is memory for all of it. The encoder is let through BEFORE frames and then stands, or fails where HOW is
``failing``. AFTER frames are added before anything is spilled. Then frames are added until the capture spills
and everything that waits is written. Where HOW is ``ended``, the encoder is let finish the frame it is at.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "capture"))

from captured import VIDEO, checked, gated, prepare, wait_for

from aiorecord.capture import frame_queue, journal
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.features import Schema
from aiorecord.staging import lossless


def main() -> None:
    root, before, after, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    journal.FLUSH_PERIOD_S = 0.05
    frame_queue.MAX_WAIT_S = 0.05 if how != "failing" else 30
    writer = gated()
    lossless.LosslessWriter = writer
    DatasetWriter.create(root, fps=30, schema=Schema(VIDEO))
    encoder = RGBEncoderConfig(vcodec="h264", preset="ultrafast")
    capture, schema = prepare(root, VIDEO, 512 << 20, rgb_encoder=encoder)
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
    if how == "failing":
        failing = camera._writer
        assert isinstance(failing, writer)
        failing._converter = None  # type: ignore[assignment]
        writer.gate.release()
    wait_for(lambda: bool(add() or camera._queue.spilling))
    if how == "ended":
        writer.gate.release()
        wait_for(lambda: not camera._threads[0].is_alive())
    wait_for(lambda: camera.encoded + camera.spilled >= number - 1)
    wait_for(lambda: not capture._rows._pending or bool(add()))
    print(before + after, number, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
