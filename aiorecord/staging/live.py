"""Captures directly in the final codec, where that is cheap enough: the save then only copies packets.

The encoder is the one of a direct encode (`FinalEncoder`), so the packets are the same. They go into a
Matroska file, one cluster at a time: a killed process loses the cluster being written, and the frames that
the encoder held back to look ahead (2 to 50, by codec and settings).

Matroska stores when a packet is shown, in milliseconds, and not when it is decoded; frame numbers are
recovered by rounding, which is exact up to `MAX_LIVE_FPS`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import av

from ..encoders import VideoEncoderConfig
from ..errors import CodecUnavailableError, EncodeError
from ..media.encoder import FinalEncoder, default_threads
from ..media.libav_errors import libav_errors
from ..media.pixels import PixelConverter
from .checksums import CheckedFile
from .kind import CaptureKind, Frame, OpenWriter
from .manifest import Camera, Manifest
from .matroska_file import LiveBytes, LiveCapture, opened_capture
from .staged_file import Extent

CRASH_SAFE = {"live": "1", "flush_packets": "1", "cluster_time_limit": "1"}
"""Matroska muxer options: each frame is a cluster of its own, written when the next one begins."""

MAX_LIVE_FPS = 500
"""Up to this rate, timestamps rounded to milliseconds identify frame numbers."""

MAX_REORDERED = 1024
"""More frames than any encoder decodes ahead of display order."""

CHECKED_GROUPS = 3
"""From how many keyframes before its end a cut-off live capture is decoded to find how far it is whole."""

CHECKED_S = 3
"""And from how many seconds at least: the encoder's settings set keyframes, an fsync happens each second."""


class LiveWriter(CheckedFile):
    """One Matroska file being written by one thread, with the final video's packets.

    Frames that the encoder holds back are not in the file yet, see `held_back`; `frames` counts packets.

    Args:
        path: the file; must not exist.
        camera: with capture ``live``.
        fps: frames per second.
        encoder: settings of the final video, with a resolved `vcodec`.
        threads: threads of the encoder, as for a direct encode.

    Raises:
        CodecUnavailableError: the encoder cannot be opened with these settings.
        StorageError: the disk refused.
    """

    def __init__(
        self, path: Path, camera: Camera, fps: int, *, encoder: VideoEncoderConfig, threads: int | None
    ) -> None:
        super().__init__(path)
        self._codec = encoder.vcodec
        self._size = (camera.width, camera.height)
        self._whole = _WholeFrames()
        self.frames = self.safe = 0
        self._bytes = LiveBytes()
        with libav_errors(f"create {path}", path, codec=self._codec):
            self._container = av.open(self._bytes, "w", format="matroska", options=CRASH_SAFE)
        try:
            try:
                with libav_errors(f"open {self._codec} for {path}", path, codec=self._codec):
                    self._encoder = FinalEncoder(
                        self._container, encoder, camera.width, camera.height, fps, threads, self._count
                    )
            except (EncodeError, ValueError) as error:  # PyAV: an encoder not built in is a ValueError
                raise CodecUnavailableError(
                    f"{self._codec} does not open for live capture at {camera.width}x{camera.height}, "
                    f"{encoder.pix_fmt}: {error}",
                    codec=self._codec,
                ) from error
            with libav_errors(f"write {path}", path, codec=self._codec):
                self._container.start_encoding()
            self._append_muxed()
        except BaseException:
            with contextlib.suppress(av.FFmpegError):  # another error is being raised
                self._container.close()
            super().close()
            raise

    def _count(self, number: int) -> None:
        self.safe = self._whole.count  # a cluster is written when the next one begins
        self._whole.add(number)
        self.frames += 1

    @property
    def held_back(self) -> int:
        """Frames that the encoder has not returned as packets yet; a killed process loses them."""
        return self._encoder.frames - self.frames

    def write(self, frame: av.VideoFrame) -> None:
        """Encode the next frame.

        Args:
            frame: rgb24, of the camera's size. Its pixels may be reused afterwards.

        Raises:
            EncodeError: the frame has another size, or the encoder failed.
            StorageError: the disk refused.
        """
        if (frame.width, frame.height) != self._size:  # libav would scale it
            raise EncodeError(f"A frame of {self.path.name} has another size than the others.")
        with libav_errors(
            f"encode frame {self._encoder.frames} to {self.path}", self.path, codec=self._codec
        ):
            self._encoder.encode(frame)
        self._append_muxed()

    def close(self) -> None:
        """Flush the encoder and finish the file. Call it once, also after an error.

        Raises:
            EncodeError: the encoder failed.
            StorageError: the disk refused.
        """
        with libav_errors(f"finish {self.path}", self.path, codec=self._codec):
            try:
                self._encoder.flush()
            finally:
                try:
                    self._container.close()
                    self._append_muxed()
                finally:
                    super().close()

    def _append_muxed(self) -> None:
        """Pass libav's output to the operating system: after that, a kill does not lose it."""
        for part in self._bytes.take():
            self.append(part)


def frame_number(packet: av.Packet, fps: int) -> int:
    """The episode's frame number of a live capture's packet; -1 if the packet has none."""
    if packet.pts is None or packet.time_base is None:
        return -1
    return round(packet.pts * packet.time_base * fps)


def whole_frames(numbers: Iterable[int], limit: int | None = None) -> int:
    """How many frames can be kept of packets in decoding order without a gap.

    A file that was cut off may hold a frame whose predecessors in display order, which are decoded after it,
    are lost.

    Args:
        numbers: the packets' frame numbers, in decoding order.
        limit: keep this many at most.

    Returns:
        The largest n, up to the limit, such that the first n packets are the frames 0 to n-1.
    """
    whole = _WholeFrames()
    for number in itertools.islice(numbers, limit):
        if not whole.add(number):
            break
    return whole.count


class _WholeFrames:
    """`whole_frames`, packet by packet.

    Attributes:
        count: frames that can be kept of the packets so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._packets = 0
        self._following = 0
        self._ahead: set[int] = set()  # frames that came before the one that follows
        self._damaged = False

    def add(self, number: int) -> bool:
        """Add a packet's frame number; False from the first impossible one on."""
        ahead = self._ahead
        if number < self._following or number in ahead or len(ahead) > MAX_REORDERED:
            self._damaged = True
        if self._damaged:
            return False
        self._packets += 1
        ahead.add(number)
        while self._following in ahead:
            ahead.remove(self._following)
            self._following += 1
        if not ahead:
            self.count = self._packets
        return True


class _Live(CaptureKind):
    """The packets of the final video in Matroska, which a save copies."""

    name = "live"
    suffix = ".mkv"
    is_final = True
    has_sums = True

    def writer(self, manifest: Manifest) -> OpenWriter:
        encoder = manifest.rgb_encoder
        threads = manifest.encoder_threads or default_threads(encoder, len(manifest.cameras))
        return partial(LiveWriter, encoder=encoder, threads=threads)

    def read(self, path: Path, camera: Camera, manifest: Manifest) -> Iterator[Frame]:
        # The frames are as the final video shows them.
        count = self.count(path, camera, manifest, Extent())
        # Semi-planar formats come back as three planes: the same values in another order.
        converter = PixelConverter(camera.pix_fmt)
        with opened_capture(path, checked=manifest.has_sums) as opened:
            if opened is None:
                return
            decoded = (frame for _, frames in opened.decoded(opened.packets()) for frame in frames)
            for frame in itertools.islice(decoded, count):
                if (frame.width, frame.height) != (camera.width, camera.height):
                    return
                yield converter.convert(frame)

    def count(self, path: Path, camera: Camera, manifest: Manifest, extent: Extent) -> int:
        # Of a cut-off file without checksums, the end is decoded.
        with opened_capture(path, checked=manifest.has_sums, extent=extent) as opened:
            if opened is None or not opened.has_size(camera):
                return 0
            if manifest.state == "complete" or manifest.has_sums:
                return whole_frames([frame_number(packet, manifest.fps) for packet in opened.packets()])
            return _count_decoding_the_end(opened, manifest.fps)

    def count_any(self, path: Path) -> int:
        with opened_capture(path) as opened:
            return 0 if opened is None else sum(1 for _ in opened.packets())


def _count_decoding_the_end(opened: LiveCapture, fps: int) -> int:
    """Decodes from a keyframe on that was certainly followed by an fsync."""
    numbers: list[int] = []
    tail: deque[list[av.Packet]] = deque()  # each from a keyframe on
    waiting = 0
    for packet in opened.packets():
        numbers.append(frame_number(packet, fps))
        if packet.is_keyframe or not tail:
            tail.append([])
            while len(tail) > CHECKED_GROUPS and waiting - len(tail[0]) >= CHECKED_S * fps:
                waiting -= len(tail.popleft())
        tail[-1].append(packet)
        waiting += 1
    decoded = opened.decoded(itertools.chain.from_iterable(tail))
    whole = sum(packet is not None for packet, _ in decoded)
    return whole_frames(numbers[: len(numbers) - waiting + whole])


LIVE = _Live()
