"""Reads a video file's colours, orientation, and the time at which each picture is shown.

Numbers of colour tags are those of ITU-T H.273 (tables 2 to 4), as libav passes them on. The display matrix
is that of ISO/IEC 14496-12 (6.2.2): a point (p, q) of the picture is shown at (a p + c q, b p + d q).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ...errors import ConfigError, SourceError
from ...printable import get_logger

logger = get_logger(__name__)

LOCAL_FILES = {"protocol_whitelist": "file"}
"""Options of `av.open` that keep a playlist with a video's name from opening other machines."""

UNSPECIFIED = 2
"""The value "unspecified" of each colour tag."""

_BT601 = 5
_MATRICES = {1: 1, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
"""libswscale's number of the matrix for each tag that it can convert."""
_FULL_RANGE = 2
_STEP_S = 0.04  # of a picture without a known time or duration
_HDR = {16: "PQ", 18: "HLG"}
_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True, slots=True)
class Turn:
    """How a picture is turned to be upright: first transposed, then its rows and columns reversed.

    Attributes:
        transpose: rows become columns.
        rows: the order of the rows is reversed.
        columns: the order of the columns is reversed.
    """

    transpose: bool = False
    rows: bool = False
    columns: bool = False

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """A (H, W, C) array, upright and contiguous."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return np.ascontiguousarray(image[:: -1 if self.rows else 1, :: -1 if self.columns else 1])

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after (or before) the turn."""
        return (height, width) if self.transpose else (width, height)


UPRIGHT = Turn()


@dataclass(frozen=True, slots=True)
class Film:
    """The properties of a video, read from its first picture.

    Attributes:
        width: pixels, upright.
        height: pixels, upright.
        remarks: differences from the filmed picture, as sentences for people.
    """

    width: int
    height: int
    remarks: tuple[str, ...] = ()


def film_stream(container: InputContainer) -> VideoStream | None:
    """The first video stream with moving pictures; a cover picture of a sound file does not count."""
    attached = av.stream.Disposition.attached_pic
    films = (stream for stream in container.streams.video if not stream.disposition & attached)
    return next(films, None)


def probe(path: Path, option: str) -> Film:
    """Open a video and read its first picture.

    Args:
        path: the file.
        option: the setting that named it, for the error.

    Raises:
        ConfigError: there is no such file, it has no video, or its first picture cannot be decoded.
    """
    if not path.is_file():
        raise ConfigError(f"There is no video file {path}.", option=option)
    try:
        with av.open(str(path), options=LOCAL_FILES) as container:
            stream = film_stream(container)
            if stream is None:
                raise ConfigError(f"{path} holds no video stream.", option=option)
            aspect, curve = stream.sample_aspect_ratio, _HDR.get(stream.codec_context.color_trc)
            frame = next(container.decode(stream), None)
    except av.error.FFmpegError as error:
        raise ConfigError(f"{path} cannot be read as a video: {error}", option=option) from error
    if frame is None:
        raise ConfigError(f"{path} holds no picture.", option=option)
    remarks = []
    if curve is not None:
        remarks.append(f"its brightness is HDR ({curve}) and is not tone-mapped: pictures look flat")
    if frame.colorspace not in _MATRICES and frame.colorspace != UNSPECIFIED and not _is_rgb(frame):
        remarks.append(f"its colour matrix {frame.colorspace} is unknown; BT.601 is used")
    if frame.interlaced_frame:
        remarks.append("it is interlaced and is not deinterlaced")
    if aspect and aspect != 1:
        remarks.append(f"its pixels are not square ({aspect}) and are used as they are")
    turn = turn_of(frame)
    if turn is None:
        turn = UPRIGHT
        remarks.append("its angle is not a multiple of 90 degrees; it is not turned")
    return Film(*turn.size(frame.width, frame.height), tuple(remarks))


def turn_of(frame: av.VideoFrame) -> Turn | None:
    """How a picture must be turned, by its display matrix; None if not by a multiple of 90 degrees."""
    data = cast(Mapping[Any, Any], frame.side_data).get(SideData.DISPLAYMATRIX)
    if data is None:
        return UPRIGHT
    a, b, _, c, d, *_ = _MATRIX.unpack_from(bytes(data))
    if not b and not c and a and d:
        return Turn(False, rows=d < 0, columns=a < 0)
    if not a and not d and b and c:
        return Turn(True, rows=b < 0, columns=c < 0)
    return None


def upright_rgb(frame: av.VideoFrame, width: int, height: int) -> NDArray[Any]:
    """A picture as it was filmed: converted by its matrix and range, scaled, and turned.

    A picture without tags is converted by BT.601 in limited range, as libav and lerobot do.

    Args:
        frame: as decoded.
        width: pixels of the upright picture.
        height: likewise.

    Returns:
        (height, width, 3) uint8, new and contiguous.
    """
    turn = turn_of(frame) or UPRIGHT  # `probe` remarks on another angle
    width, height = turn.size(width, height)
    if _is_rgb(frame):
        rgb = frame.reformat(width=width, height=height, format="rgb24")
    else:
        full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        # PyAV applies a matrix or range only where source and destination differ; RGB has neither.
        rgb = frame.reformat(
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=_MATRICES.get(frame.colorspace, _BT601),
            dst_colorspace=_BT601,
            src_color_range=_FULL_RANGE if full else 1,
            dst_color_range=1,
        )
    return turn.apply(rgb.to_ndarray())


def shown_at(
    frames: Iterator[av.VideoFrame], rate: Callable[[], Fraction | None]
) -> Iterator[tuple[float, av.VideoFrame]]:
    """The pictures of a video with the time at which each ends, in seconds after the first begins.

    A picture is shown until the next one; the last one for its own duration, or one period of `rate`.

    Args:
        frames: in the order in which they are shown.
        rate: returns the pictures per second, for pictures without a time of their own.
    """
    step_s = 0.0
    first_s: float | None = None
    current: av.VideoFrame | None = None
    begin_s = 0.0
    for frame in frames:
        time_s = frame.time
        if first_s is None:
            first_s = time_s or 0.0
            per_s = rate()
            step_s = float(1 / per_s) if per_s else _STEP_S
        at_s = begin_s + step_s if time_s is None else time_s - first_s
        if current is not None:
            at_s = at_s if at_s > begin_s else begin_s + step_s  # a time that does not increase is ignored
            yield at_s, current
            begin_s = at_s
        current = frame
    if current is not None:
        last_s = float(current.duration * current.time_base) if current.duration and current.time_base else 0
        yield begin_s + (last_s if last_s > 0 else step_s), current


def source_error(message: str) -> SourceError:
    """An error of the replaying robot."""
    return SourceError(message, source="replay", call="get_observation")


def _is_rgb(frame: av.VideoFrame) -> bool:
    return bool(frame.format.is_rgb)
