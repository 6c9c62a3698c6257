"""The encoder of a final video, with the same settings, frames and timestamps wherever it runs.

A direct encode, a deferred encode and a live capture all use `FinalEncoder`, so their packets are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from ..encoders import VideoEncoderConfig
from ..system.thread_capabilities import unprivileged_threads
from .pixels import PixelConverter


class FinalEncoder:
    """One encoder and its stream in a container, frame k at exactly k/fps.

    libav's errors (`av.FFmpegError`, and ValueError for an encoder that is not built in) pass through. The
    codec is open when it is made, which holds the GIL: 1 to 3 ms for x264, 10 to 60 ms for SVT-AV1.

    Args:
        container: receives the packets; its header is not written yet.
        encoder: settings with a resolved `vcodec`.
        width: pixels.
        height: pixels.
        fps: frames per second.
        threads: threads of the encoder, None leaves it to the codec.
        on_packet: called with the frame number of each packet that was passed to the container.

    Attributes:
        frames: frames encoded so far.
        packets: packets passed to the container, one per frame.
    """

    def __init__(
        self,
        container: OutputContainer,
        encoder: VideoEncoderConfig,
        width: int,
        height: int,
        fps: int,
        threads: int | None,
        on_packet: Callable[[int], None] | None = None,
    ) -> None:
        self.frames = 0
        self.packets = 0
        self._container = container
        self._on_packet = on_packet
        self._converter = PixelConverter(encoder.pix_fmt)
        self._tick = Fraction(1, fps)
        self._delay: int | None = None  # by how many frames decoding runs ahead of display
        stream = container.add_stream(encoder.vcodec, fps, options=quiet_options(encoder, threads))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, encoder.pix_fmt
        stream.time_base = stream.codec_context.time_base = self._tick
        # Opened here rather than with the first frame, so that settings fail before any work.
        with unprivileged_threads():
            stream.codec_context.open()
        self._stream: VideoStream | None = stream

    def encode(self, frame: av.VideoFrame) -> None:
        """Encode the next frame; its own timestamps and frame type are replaced.

        Args:
            frame: of the video's size; converted when it has another pixel format.
        """
        assert self._stream is not None
        frame = self._converter.convert(frame)
        frame.pts = self.frames
        frame.time_base = self._tick
        # Decoded frames keep the frame type they were coded with, which an encoder would force again.
        frame.pict_type = PictureType.NONE
        self._mux(self._stream.encode(frame))
        self.frames += 1

    def flush(self) -> None:
        """Write the packets that the encoder still holds, and end it."""
        assert self._stream is not None
        packets = self._stream.encode(None)
        if self._delay is None:
            # The video is shorter than the encoder's look-ahead, so these are all packets. x265 has then not
            # set up its decoding timestamps and returns random ones.
            self._delay = max((place - (p.pts or 0) for place, p in enumerate(packets)), default=0)
        self._mux(packets)
        self._stream = None

    def _mux(self, packets: Sequence[av.Packet]) -> None:
        for packet in packets:
            if self._delay is None:
                self._delay = -(packet.dts or 0)
            number = packet.pts
            packet.time_base = self._tick
            packet.dts = self.packets - self._delay
            packet.duration = 1  # encoders leave that of the last packet unset
            self._container.mux(packet)
            self.packets += 1
            if self._on_packet is not None:
                self._on_packet(-1 if number is None else number)


def quiet_options(encoder: VideoEncoderConfig, threads: int | None = None) -> dict[str, str]:
    """The codec's options, plus one that suppresses its banner; its errors are still printed.

    SVT-AV1 takes its log level from the environment when it is first used (1: errors only).
    """
    options = encoder.codec_options(threads)
    if encoder.vcodec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")
    elif encoder.vcodec == "hevc" and "log-level" not in options.get("x265-params", ""):
        given = options.get("x265-params")
        options["x265-params"] = f"{given}:log-level=error" if given else "log-level=error"
    return options


def default_threads(encoder: VideoEncoderConfig, cameras: int) -> int | None:
    """Encoder threads when the user did not choose; affects only the encoding time, not the video.

    SVT-AV1's default takes more memory with more cores. One thread needs half the memory and the least
    processor time per frame; two encode a single video one and a half times as fast. So: one each if the
    cameras of an episode keep the cores busy anyway, else two. Other codecs' bits depend on
    the number of threads and are left to the codec, as lerobot does.

    Args:
        encoder: settings of the video.
        cameras: how many cameras are likely to be encoded at a time.
    """
    if encoder.vcodec != "libsvtav1":
        return None
    return 1 if cameras >= (os.cpu_count() or 1) else 2
