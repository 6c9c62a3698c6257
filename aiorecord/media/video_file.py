"""Writes, probes and verifies MP4 files on the exact k/fps grid.

lerobot finds a frame by its timestamp, so frame k of a file must be shown at exactly k/fps, from 0, and the
file must begin with a keyframe. Its default reader turns a timestamp into a frame number through the file's
average frame rate, so every packet must also last exactly 1/fps, the last one included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from ..encoders import DepthEncoderConfig, VideoEncoderConfig
from ..errors import EncodeError
from ..system.storage import check_file, storage_errors
from .codecs import unavailable
from .encoder import FinalEncoder
from .evidence import MP4_TAG, Evidence, parse
from .libav_errors import libav_errors


class VideoOutput:
    """One MP4 being encoded; use it as a context manager.

    Leaving the block normally flushes the encoder and finishes the file; leaving it by an exception closes
    the file as it is (it is then incomplete). The file is not made durable: see `storage.replacing`.

    Args:
        path: the file, replaced if it exists; any suffix.
        encoder: settings with a resolved `vcodec` (see `check_encoder`).
        width: pixels.
        height: pixels.
        fps: frames per second; frame k gets the timestamp k/fps exactly.
        threads: threads of the encoder, None leaves it to the codec.
        evidence: the description to store in the file.

    Raises:
        CodecUnavailableError: libav does not have the encoder, or cannot open it with these settings.
        StorageError: the file cannot be created.

    Attributes:
        codec: of the video.
    """

    def __init__(
        self,
        path: Path,
        encoder: VideoEncoderConfig,
        width: int,
        height: int,
        fps: int,
        threads: int | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self._path = path
        self.codec = encoder.vcodec
        self._size = (width, height)
        doing = f"open {encoder.vcodec} at {width}x{height}, {fps} fps, {encoder.pix_fmt}"
        with libav_errors(f"create {path}", path, codec=self.codec):
            # The index stays at the end; packing writes it to the front later.
            self._container = av.open(str(path), "w", format="mp4")
        try:
            set_evidence(self._container, evidence)
            with unavailable(doing, encoder), libav_errors(doing, codec=self.codec):
                self._encoder = FinalEncoder(self._container, encoder, width, height, fps, threads)
            with libav_errors(f"write {path}", path, codec=self.codec):
                self._container.start_encoding()
        except BaseException:
            self._close_quietly()
            raise

    @property
    def frames(self) -> int:
        """Frames given so far."""
        return self._encoder.frames

    def add(self, frame: av.VideoFrame) -> None:
        """Encode the next frame; its own timestamps and frame type are replaced.

        Args:
            frame: of the video's size; converted when it has another pixel format.

        Raises:
            EncodeError: the frame has another size, or the encoder failed.
            StorageError: the disk refused.
        """
        if (frame.width, frame.height) != self._size:
            width, height = self._size
            raise EncodeError(
                f"Frame {self.frames} is {frame.width}x{frame.height}, the video is {width}x{height}.",
                codec=self.codec,
            )
        with libav_errors(f"encode frame {self.frames} of {self._path.name}", self._path, codec=self.codec):
            self._encoder.encode(frame)

    def _finish(self) -> None:
        with libav_errors(f"finish {self._path.name}", self._path, codec=self.codec):
            self._encoder.flush()
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        else:
            self._close_quietly()

    def _close_quietly(self) -> None:
        # Another error is being raised, and says more than one from closing a half-written file.
        with contextlib.suppress(av.FFmpegError):
            for stream in self._container.streams.video:
                if stream.codec_context.is_open:
                    stream.encode(None)  # SVT-AV1 prints an error to stderr if it is not flushed
        with contextlib.suppress(av.FFmpegError):
            self._container.close()


def encode_frames(frames: Iterable[av.VideoFrame], output: VideoOutput) -> int:
    """Encode frames into a new file and finish it.

    Args:
        frames: at least one.
        output: the file.

    Returns:
        The number of frames.

    Raises:
        EncodeError: there is no frame, or the encoder failed.
        StorageError: the disk refused.
    """
    with output:
        for frame in frames:
            output.add(frame)
    if not output.frames:
        raise EncodeError("There is no frame to encode.", codec=output.codec)
    return output.frames


def set_evidence(container: OutputContainer, evidence: Evidence | None) -> None:
    """Store a description in a new file; call before its first packet."""
    if evidence is not None:
        container.metadata[MP4_TAG] = evidence.to_text()


def evidence_of(container: InputContainer) -> Evidence | None:
    """The description stored in an open file. Not checked against its frames, see `Evidence.fits`."""
    return parse(container.metadata.get(MP4_TAG))


def read_evidence(path: Path) -> Evidence | None:
    """The description stored in a video file, see `evidence_of`.

    Raises:
        EncodeError: the file is not a video.
        StorageError: it cannot be read.
    """
    with open_video(path) as (container, _):
        return evidence_of(container)


def probe_video(path: Path, encoder: VideoEncoderConfig | None = None) -> dict[str, Any]:
    """The values that lerobot stores in a camera feature's ``info`` (`get_video_info`), with the same keys.

    Args:
        path: a video file without audio.
        encoder: the settings it was encoded with, None if unknown.

    Raises:
        EncodeError: the file is not a video.
        StorageError: it cannot be read.
    """
    with open_video(path) as (_, stream):
        rate = stream.base_rate  # a type of PyAV's own from version 19 on
        info: dict[str, Any] = {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec.canonical_name,
            "video.pix_fmt": stream.pix_fmt,
            "video.fps": rate.numerator // rate.denominator if rate else 0,
            "video.channels": len(stream.format.components),
            "has_audio": False,
        }
    if encoder is not None:
        info = {**encoder.info(), **info}
    info["is_depth_map"] = isinstance(encoder, DepthEncoderConfig)
    return info


def count_packets(path: Path) -> int:
    """The number of coded frames, by reading the file without decoding it.

    Raises:
        EncodeError: the file is not a video.
        StorageError: it cannot be read.
    """
    with open_video(path) as (container, stream):
        return sum(1 for packet in container.demux(stream) if packet.size)


def stated_frames(path: Path) -> int:
    """The number of coded frames that the file's index states.

    Raises:
        EncodeError: the file is not a video.
        StorageError: it cannot be read.
    """
    with open_video(path) as (_, stream):
        return stream.frames


def continues_video(longer: Path, shorter: Path) -> bool:
    """Whether a video begins with all coded frames of another. Reads both, decodes nothing.

    Raises:
        EncodeError: one of them is not a video.
        StorageError: one of them cannot be read.
    """
    with open_video(longer) as (a, stream_a), open_video(shorter) as (b, stream_b):
        packets = (packet for packet in a.demux(stream_a) if packet.size)
        for packet in b.demux(stream_b):
            if packet.size:
                found = next(packets, None)
                if found is None or bytes(found) != bytes(packet):
                    return False
    return True


def verify_video(path: Path, frames: int, fps: int) -> None:
    """Check that a file holds every frame where lerobot looks for it. Reads the file, decodes nothing.

    Args:
        path: the file.
        frames: how many frames it must hold.
        fps: frame k must be shown at exactly k/fps.

    Raises:
        EncodeError: frames are missing or too many, one is off the grid or shown twice, or the first one
            is not a keyframe.
        StorageError: the file cannot be read.
    """
    with open_video(path) as (container, stream):
        grid = Grid(path, stream, fps)
        for packet in container.demux(stream):
            if packet.size:
                grid.place(packet)
        found = grid.finish()
    if found != frames:
        raise EncodeError(f"{path.name} holds {found} frames instead of {frames}.", codec=grid.codec)


class Grid:
    """Checks packets against the k/fps grid, in decoding order."""

    def __init__(self, path: Path, stream: VideoStream, fps: int) -> None:
        self._path = path
        self.codec = stream.codec.canonical_name
        self._scale = (stream.time_base or Fraction(0)) * fps
        self._seen = bytearray()
        self.count = 0

    def place(self, packet: av.Packet) -> int:
        """The packet's frame number; raises EncodeError if it has none."""
        if self.count == 0 and not packet.is_keyframe:
            raise EncodeError(f"{self._path.name} does not begin with a keyframe.", codec=self.codec)
        if packet.is_corrupt:
            raise EncodeError(f"{self._path.name}: packet {self.count} is corrupt.", codec=self.codec)
        position = None if packet.pts is None else packet.pts * self._scale
        if position is None or position.denominator != 1 or position < 0:
            raise EncodeError(
                f"{self._path.name}: packet {self.count} is shown at {position} frames, off the grid.",
                codec=self.codec,
            )
        self.count += 1
        index = int(position)
        if index >= len(self._seen):
            # Bounded, so that a wrong timestamp cannot cause a huge allocation.
            if index > self.count + 1024:
                raise EncodeError(
                    f"{self._path.name}: frames are missing before frame {index}.", codec=self.codec
                )
            self._seen.extend(bytes(index + 1 - len(self._seen)))
        if self._seen[index]:
            raise EncodeError(f"{self._path.name}: frame {index} occurs twice.", codec=self.codec)
        self._seen[index] = 1
        return index

    def finish(self) -> int:
        """The number of frames; raises EncodeError if the grid has holes."""
        missing = self._seen.find(0)
        if missing >= 0:
            raise EncodeError(f"{self._path.name}: frame {missing} is missing.", codec=self.codec)
        return self.count


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open an MP4 and its first video stream for reading.

    Raises:
        EncodeError: the file is not a video.
        StorageError: it cannot be read.
    """
    with storage_errors(path, "read"):
        try:
            check_file(path)
        except ValueError as error:
            raise EncodeError(f"{path.name} cannot be read: {error}.") from error
    # The format is given, so that a playlist under this name cannot lead libav to other files.
    options = {"protocol_whitelist": "file"}
    with (
        libav_errors(f"read {path.name}", path),
        av.open(str(path), "r", format="mp4", options=options) as container,
    ):
        if not container.streams.video:
            raise EncodeError(f"{path.name} holds no video.")
        yield container, container.streams.video[0]
