"""Opens encoders: tests whether one works on this machine, and explains a failure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import av

from ..encoder_limits import check_video_limits
from ..encoders import HARDWARE_CODECS, SOFTWARE_CODECS, VideoEncoderConfig
from ..errors import CodecUnavailableError, ConfigError, EncodeError
from ..system.thread_capabilities import unprivileged_threads
from .depth import DEPTH_PIX_FMT
from .encoder import quiet_options
from .libav_errors import libav_errors

HARDWARE_FRAMES = 4
"""How many frames a hardware encoder is tried with; software is tried with one."""


@contextlib.contextmanager
def unavailable(doing: str, encoder: VideoEncoderConfig) -> Iterator[None]:
    """Turn a failure to open a codec into CodecUnavailableError that says what to do.

    Args:
        doing: completes "Could not ...".
        encoder: the settings that failed.
    """
    try:
        yield
    except (EncodeError, ValueError) as error:
        failure = str(error) if isinstance(error, EncodeError) else f"Could not {doing}: {error}"
        raise CodecUnavailableError(f"{failure}. {_advice(encoder)}", codec=encoder.vcodec) from error


def check_encoder(
    encoder: VideoEncoderConfig, width: int, height: int, fps: int, threads: int | None = None
) -> str:
    """Test whether the encoder works on this machine, by encoding a grey frame.

    Opening a codec holds the GIL for tens of milliseconds: call it before a loop runs, or in a worker.

    Returns:
        The name of the encoder: the given one, or for ``auto`` the first hardware encoder that works, else
        ``libsvtav1``. Put it into the settings with `dataclasses.replace`.

    Raises:
        CodecUnavailableError: it cannot be opened or does not encode; the message says what to do.
    """
    if encoder.is_depth and encoder.pix_fmt != DEPTH_PIX_FMT:
        raise CodecUnavailableError(
            f"Depth video needs pix_fmt {DEPTH_PIX_FMT}, not {encoder.pix_fmt}: lerobot reads 12-bit codes.",
            codec=encoder.vcodec,
        )
    if encoder.vcodec != "auto":
        _check_limits(encoder, width, height, fps)
        _encode_grey(encoder, width, height, fps, threads)
        return encoder.vcodec
    for vcodec in HARDWARE_CODECS:
        # Settings that one encoder rejects may fit the next.
        with contextlib.suppress(CodecUnavailableError, ConfigError):
            _encode_grey(replace(encoder, vcodec=vcodec), width, height, fps, threads)
            return vcodec
    software = replace(encoder, vcodec="libsvtav1")
    _check_limits(software, width, height, fps)
    _encode_grey(software, width, height, fps, threads)
    return "libsvtav1"


def _check_limits(encoder: VideoEncoderConfig, width: int, height: int, fps: int) -> None:
    """Check the size and rate before the encoder is opened: a library may crash instead of refusing."""
    try:
        check_video_limits(encoder, width, height, fps)
    except ConfigError as error:
        raise CodecUnavailableError(str(error), codec=encoder.vcodec) from error


def _advice(encoder: VideoEncoderConfig) -> str:
    try:
        formats = [f.name for f in av.codec.Codec(encoder.vcodec, "w").video_formats or ()]
    except ValueError:
        usable = [name for name in SOFTWARE_CODECS if name in av.codecs_available]
        return f"This libav has no such encoder; set vcodec to 'auto' or one of: {', '.join(usable)}."
    if formats and encoder.pix_fmt not in formats:
        return f"{encoder.vcodec} cannot encode pix_fmt {encoder.pix_fmt}; it takes: {', '.join(formats)}."
    return f"Check its options ({encoder.codec_options()}), or set vcodec to 'auto' or 'libsvtav1'."


def _encode_grey(encoder: VideoEncoderConfig, width: int, height: int, fps: int, threads: int | None) -> None:
    doing = f"encode a test frame with {encoder.vcodec} at {width}x{height}, {encoder.pix_fmt}"
    with unavailable(doing, encoder), libav_errors(doing, codec=encoder.vcodec):
        context = av.CodecContext.create(encoder.vcodec, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, encoder.pix_fmt
        context.framerate, context.time_base = Fraction(fps), Fraction(1, fps)
        context.options = quiet_options(encoder, threads)
        with unprivileged_threads():
            context.open()
        frame = av.VideoFrame(width, height, encoder.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        # Some drivers accept a first frame and fail at later ones.
        count = HARDWARE_FRAMES if encoder.vcodec in HARDWARE_CODECS else 1
        packets: list[av.Packet] = []
        for number in range(count):
            frame.pts, frame.time_base = number, Fraction(1, fps)
            packets += context.encode(frame)
        packets += context.encode(None)
        if sum(packet.size > 0 for packet in packets) != count:
            raise EncodeError(
                f"{encoder.vcodec} took {count} frames and did not give them back.", codec=encoder.vcodec
            )
