"""Makes MP4 files of other files' packets, on the exact k/fps grid, without decoding or encoding."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream

from ..errors import EncodeError
from .evidence import Evidence
from .libav_errors import libav_errors
from .video_file import Grid, open_video, set_evidence


@contextlib.contextmanager
def copied(
    output: Path,
    template: VideoStream,
    fps: int,
    evidence: Evidence | None,
    options: dict[str, str] | None = None,
) -> Iterator[Callable[[av.Packet, int, int], None]]:
    """Open an MP4 for packets of other files, and finish it when the block is left.

    Nothing is decoded or encoded; frame k is shown at exactly k/fps. Errors of libav are not mapped.

    Args:
        output: the file, replaced if it exists.
        template: a stream whose codec headers the packets have.
        fps: frames per second.
        evidence: the description stored in the file.
        options: of libav's muxer.

    Yields:
        A function that adds a packet, which it changes; with the number of its frame in display order, and
        the frame number at whose time it is decoded, which increases with each packet.
    """
    tick = Fraction(1, fps)
    with av.open(str(output), "w", format="mp4", options=options or {}) as container:
        set_evidence(container, evidence)
        stream = container.add_stream_from_template(template, opaque=True)
        stream.time_base = tick

        def add(packet: av.Packet, shown: int, decoded: int) -> None:
            packet.stream = stream
            packet.time_base = tick
            packet.pts = shown
            packet.dts = decoded
            packet.duration = 1
            container.mux(packet)

        yield add


def same_stream(a: Path, b: Path) -> bool:
    """Whether two videos can be joined by stream copy: same codec, size, pixel format and codec headers.

    Raises:
        EncodeError: one of them is not a video.
        StorageError: one of them cannot be read.
    """
    keys = []
    for path in (a, b):
        with open_video(path) as (_, stream):
            keys.append(_StreamKey.of(stream))
    return keys[0] == keys[1]


def concat_videos(parts: Sequence[Path], output: Path, fps: int, evidence: Evidence | None = None) -> int:
    """Join videos by stream copy, the parts back to back on the k/fps grid, the index at the front.

    Each part must itself be on the grid from 0 with a keyframe first. Decoding timestamps are computed anew,
    early enough for the part that reorders its frames the most, so that they always increase. The
    file is not made durable: see `storage.replacing`.

    Args:
        parts: at least one file; nothing is decoded, so joining costs as much as copying them.
        output: the file to write, replaced if it exists; must not be one of the parts.
        fps: frames per second of all parts.
        evidence: the description to store in the output; those of the parts are not copied.

    Returns:
        The number of frames in the output.

    Raises:
        EncodeError: there is no part; parts differ in codec, size, pixel format or codec headers; a part
            is off the grid.
        StorageError: the disk refused.
    """
    if not parts:
        raise EncodeError("There is no video to join.")
    shape = _joined_shape(parts, fps)
    try:
        size = _index_size(parts, shape.frames) + (len(evidence.to_text()) if evidence else 0)
        return _join(parts, output, fps, shape, {"moov_size": str(size)}, evidence)
    except EncodeError:
        # The index is larger than the room for it: libav then writes the file twice. Other errors recur.
        return _join(parts, output, fps, shape, {"movflags": "faststart"}, evidence)


def _index_size(parts: Sequence[Path], frames: int) -> int:
    """Room for the index of a joined file, in bytes; unused room stays empty.

    Tables of ISO/IEC 14496-12 (8.6, 8.7): 4 bytes of size per frame, 4 per keyframe, 8 for a frame that is
    not shown in decoding order, and 20 for each chunk, which libav ends after 1 MiB.
    """
    size = sum(part.stat().st_size for part in parts)
    return 16 * frames + 20 * (size // 2**20 + len(parts)) + 2048


def _join(
    parts: Sequence[Path],
    output: Path,
    fps: int,
    shape: _JoinedShape,
    options: dict[str, str],
    evidence: Evidence | None,
) -> int:
    total = 0
    with (
        open_video(parts[0]) as (_, template),
        libav_errors(f"join videos into {output.name}", output, codec=shape.key.codec),
        copied(output, template, fps, evidence, options) as add,
    ):
        for part in parts:
            with open_video(part) as (source, stream):
                grid = Grid(part, stream, fps)
                for packet in source.demux(stream):
                    if packet.size:
                        position = grid.place(packet)
                        add(packet, total + position, total + grid.count - 1 - shape.delay)
                total += grid.finish()
    return total


@dataclass(frozen=True)
class _StreamKey:
    codec: str
    width: int
    height: int
    pix_fmt: str | None
    headers: bytes

    @classmethod
    def of(cls, stream: VideoStream) -> _StreamKey:
        context = stream.codec_context
        return cls(
            stream.codec.canonical_name, stream.width, stream.height, stream.pix_fmt, context.extradata or b""
        )

    def difference(self, other: _StreamKey) -> str:
        mine, theirs = asdict(self), asdict(other)
        parts = [
            "codec headers" if name == "headers" else f"{name} {mine[name]} and {theirs[name]}"
            for name in mine
            if mine[name] != theirs[name]
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class _JoinedShape:
    """The properties that all parts share.

    Attributes:
        key: codec, size and headers.
        delay: by how many frames decoding must run ahead of display.
        frames: how many there are, as the parts' indices say.
    """

    key: _StreamKey
    delay: int
    frames: int


def _joined_shape(parts: Sequence[Path], fps: int) -> _JoinedShape:
    keys: list[_StreamKey] = []
    delay = frames = 0
    for part in parts:
        with open_video(part) as (container, stream):
            keys.append(_StreamKey.of(stream))
            frames += stream.frames
            if keys[-1] != keys[0]:
                raise EncodeError(
                    f"{part.name} cannot be joined to {parts[0].name}: {keys[0].difference(keys[-1])}.",
                    codec=keys[0].codec,
                )
            first = next((p for p in container.demux(stream) if p.size), None)
            if first is not None and first.dts is not None and stream.time_base is not None:
                # The first frame is shown at 0; the muxer decodes it `delay` frames before.
                delay = max(delay, -round(first.dts * stream.time_base * fps))
    return _JoinedShape(keys[0], delay, frames)
