"""Captures live until it is killed: ``python live_child.py ROOT CODEC FRAMES``; prints frames given, held."""

from __future__ import annotations

import sys
from pathlib import Path

from live import KEY, add, prepare

from aiorecord.capture import journal
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.staging.live import LiveWriter


def main() -> None:
    root, codec, frames = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    encoder = RGBEncoderConfig(vcodec="h264", g=12) if codec == "b" else RGBEncoderConfig(vcodec=codec)
    journal.FLUSH_PERIOD_S = 0.02
    capture = prepare(root, encoder)
    for k in range(frames):
        add(capture, k)
    camera = capture._cameras[KEY]
    while camera._queue.account.waiting or capture._rows._pending:
        pass
    writer = camera._writer
    assert isinstance(writer, LiveWriter)
    print(frames, writer.held_back, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
