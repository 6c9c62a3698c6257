"""Copies and compares whole episodes of a video in a worker process, as packets, without decoding.

Used for a video in which other episodes have frames off the k/fps grid. lerobot's default reader turns a
timestamp into a frame number, so frames off the grid can spoil other episodes as well: every frame after a
gap has a different number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from ...media.evidence import Evidence
from ...media.remux import copied
from ...media.video_file import verify_video
from ...system import storage
from ...workers.progress import Progress
from ..readers.video_frames import open_mp4

_FASTSTART = {"movflags": "faststart"}


def cut_out_job(
    path: Path,
    target: Path,
    spans: Sequence[tuple[float, int]],
    fps: int,
    evidence: Evidence | None,
    progress: Progress,
) -> int:
    """Copy the packets of some episodes into a new video, back to back on the grid. A job. Durable.

    Nothing is re-encoded. The copy is decoded once, to find episodes that depend on a frame that was left
    out.

    Args:
        path: the video.
        target: the new file.
        spans: where each episode begins, in seconds, and its frames; in the order of the file.
        fps: frames per second of both.
        evidence: the description to store in the new file.

    Returns:
        The frames of the new file.

    Raises:
        ValueError: an episode does not begin with a keyframe, or is incomplete.
        EncodeError: the new file is not valid.
    """
    found = _find(path, spans, fps)
    # Decoding must be ahead of display by as much as the frames are reordered.
    delay = max(place - shown for cut in found for place, shown in enumerate(cut.shown))
    target.parent.mkdir(parents=True, exist_ok=True)
    total = 0
    with (
        open_mp4(path) as source,
        copied(target, source.streams.video[0], fps, evidence, _FASTSTART) as add,
    ):
        todo = list(found)
        done = 0
        for number, (_, packet) in enumerate(_timed_packets(source, fps)):
            if not todo or number < todo[0].first:
                continue
            cut = todo[0]
            add(packet, total + cut.shown[done], total + done - delay)
            done += 1
            if done == len(cut.shown):
                todo.pop(0)
                total, done = total + len(cut.shown), 0
        progress.update(total // 2)
    verify_video(target, total, fps)
    decoded = 0
    with open_mp4(target) as made:
        made.streams.video[0].codec_context.options = {"err_detect": "crccheck"}
        for frame in made.decode(video=0):
            decoded += not frame.is_corrupt
            progress.update((total + decoded) // 2)
    if decoded != total:
        raise ValueError(f"only {decoded} of {total} copied frames can be decoded")
    storage.fsync_file(target)
    return total


def digests_job(path: Path, spans: Sequence[tuple[float, int]], fps: int, progress: Progress) -> list[str]:
    """A checksum of each episode's coded frames, which distinguishes copies of a video from others. A job.

    Args:
        path: the video.
        spans: where each episode begins, in seconds, and its frames.
        fps: frames per second.
    """
    ends = [(start - 0.5 / fps, start + (length - 0.5) / fps) for start, length in spans]
    with open_mp4(path) as container:
        extradata = container.streams.video[0].codec_context.extradata or b""
        sums = [hashlib.sha256(extradata) for _ in spans]
        for number, (shown, packet) in enumerate(_timed_packets(container, fps)):
            for (start_s, end_s), digest in zip(ends, sums, strict=True):
                if shown is not None and _is_within(shown, start_s, end_s):
                    digest.update(f"{round((shown - start_s) * fps)} {packet.size} ".encode())
                    digest.update(bytes(packet))
            progress.update(number)
    return [digest.hexdigest() for digest in sums]


@dataclass(frozen=True)
class _Cut:
    """An episode's packets: the number of the first, and where each is shown among the episode's frames."""

    first: int
    shown: list[int]


def _find(path: Path, spans: Sequence[tuple[float, int]], fps: int) -> list[_Cut]:
    with open_mp4(path) as container:
        stamps = [(shown, packet.is_keyframe) for shown, packet in _timed_packets(container, fps)]
    found: list[_Cut] = []
    at = 0
    for start_s, length in spans:
        end_s = start_s + (length - 0.5) / fps
        while at < len(stamps) and not _is_within(stamps[at][0], start_s - 0.5 / fps, end_s):
            at += 1
        part = stamps[at : at + length]
        shown = [-1 if seconds is None else round((seconds - start_s) * fps) for seconds, _ in part]
        if sorted(shown) != list(range(length)):
            raise ValueError(f"the {length} frames from {start_s} s on are not in one piece")
        if not part[0][1]:
            raise ValueError(f"there is no keyframe at {start_s} s")
        found.append(_Cut(at, shown))
        at += length
    return found


def _is_within(seconds: float | None, start_s: float, end_s: float) -> bool:
    return seconds is not None and start_s <= seconds < end_s


def _timed_packets(container: InputContainer, fps: int) -> Iterator[tuple[float | None, av.Packet]]:
    """The packets, each with the time in seconds at which it is shown."""
    stream = container.streams.video[0]
    base = stream.time_base or Fraction(1, fps)
    for packet in container.demux(stream):
        if packet.size:
            yield None if packet.pts is None else float(packet.pts * base), packet
