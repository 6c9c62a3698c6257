"""Videos with frames off the grid, as dying or foreign writers leave them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

_PARTS = 10


def move_frames(path: Path, fps: int, place: Callable[[int], float | None]) -> None:
    """Write a video anew, nothing encoded anew, with frames shown at other times.

    Args:
        path: a video on the grid.
        fps: its frames per second.
        place: where frame k is to be shown, in frames, to a tenth; None leaves it out.
    """
    new = path.with_name("new.mp4")
    tick = Fraction(1, fps * _PARTS)
    with av.open(str(path)) as source, av.open(str(new), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.time_base = tick
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            at = place(round(packet.pts * packet.time_base * fps))
            if at is None:
                continue
            packet.stream, packet.time_base = stream, tick
            packet.pts = round(at * _PARTS)
            packet.dts = (number - 2) * _PARTS  # room for frames that are coded before they are shown
            packet.duration = _PARTS
            target.mux(packet)
    new.replace(path)
