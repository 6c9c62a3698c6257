"""Copies the packets of a live capture into the final MP4, on the k/fps grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import av

from ..encoders import VideoEncoderConfig
from ..errors import DamageError
from ..media.evidence import Evidence
from ..media.libav_errors import libav_errors
from ..media.remux import concat_videos, copied
from ..media.video_file import VideoOutput, encode_frames
from ..staging.live import frame_number, whole_frames
from ..staging.matroska_file import opened_capture
from ..staging.staged_file import Extent
from ..system.storage import TEMPORARY_SUFFIX


def copy_live(
    source: Path,
    output: Path,
    fps: int,
    limit: int,
    evidence: Evidence | None = None,
    *,
    checked: bool | None = None,
    extent: Extent | None = None,
) -> int:
    """Copy the packets of a live capture's first frames into an MP4, decoding and encoding nothing.

    Where frames are reordered, the copy ends at the last packet before which no frame is missing, so it may
    hold a few frames less than the limit.

    Args:
        source: the Matroska file; it may be cut off.
        output: the MP4, replaced if it exists; not written when there is no frame.
        fps: frames per second.
        limit: most frames to copy.
        evidence: the description to store in the MP4.
        checked: the source has checksums; None looks for them.
        extent: filled in with how far the source is whole.

    Returns:
        The number of frames copied.

    Raises:
        EncodeError: libav failed.
        DamageError: the source is not a plain file.
        StorageError: the disk refused.
    """
    with opened_capture(source, checked=checked, extent=extent) as opened:
        numbers = [] if opened is None else [frame_number(p, fps) for p in opened.packets()]
    count = whole_frames(numbers, limit)
    if not count:
        return 0
    # By how many frames decoding must run ahead, so that no frame is shown before it is decoded.
    delay = max(place - number for place, number in enumerate(numbers[:count]))
    copied_packets = 0
    with opened_capture(source, checked=checked) as opened:
        assert opened is not None
        with (
            libav_errors(
                f"copy {source.name} to {output.name}", output, codec=opened.stream.codec.canonical_name
            ),
            copied(output, opened.stream, fps, evidence) as add,
        ):
            for place, packet in enumerate(itertools.islice(opened.packets(), count)):
                add(packet, numbers[place], place - delay)
                copied_packets += 1
    if copied_packets != count:  # it was whole at the check before
        raise DamageError(f"{source} changed while it was read.", path=source)
    return count


def join_tail(
    head: Path,
    copied: int,
    tail: Iterator[av.VideoFrame],
    output: Path,
    *,
    encoder: VideoEncoderConfig,
    size: tuple[int, int],
    fps: int,
    threads: int | None,
    evidence: Evidence | None = None,
) -> int:
    """Encode the frames that follow a live capture with its settings, and join the two by stream copy.

    Args:
        head: the file that `copy_live` wrote.
        copied: the frames in it; with 0 the output is the encoded tail alone.
        tail: the frames that follow, at least one.
        output: the MP4, replaced if it exists.
        encoder: the settings of both.
        size: width and height in pixels.
        fps: frames per second.
        threads: threads of the encoder.
        evidence: the description to store in the output.

    Returns:
        The number of frames in the output.

    Raises:
        EncodeError: the encoder failed, or the two cannot be joined.
        StorageError: the disk refused.
    """
    if not copied:
        return encode_frames(tail, VideoOutput(output, encoder, *size, fps, threads, evidence))
    part = output.with_name(output.name.removesuffix(TEMPORARY_SUFFIX) + f".tail{TEMPORARY_SUFFIX}")
    try:
        encode_frames(tail, VideoOutput(part, encoder, *size, fps, threads))
        return concat_videos([head, part], output, fps, evidence)
    finally:
        part.unlink(missing_ok=True)
