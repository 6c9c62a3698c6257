"""Reads what a JPEG states, without decoding it: its size, its chroma format, and whether its end is there.

The layout of segments follows ITU-T T.81, annex B. Cameras that send MJPEG leave out the Huffman tables, for
which a decoder then takes those of annex K (FFmpeg 7: ``libavcodec/mjpegdec.c``), and pad images with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_JPEG_BYTES = 1 << 28
"""Bytes of the largest JPEG that is accepted; far above what a camera sends."""

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_SCAN = 0xDA
_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
"""Start-of-frame markers that libav decodes to 8-bit pixels."""

_OTHER_FRAMES = frozenset({0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7})
"""Lossless, hierarchical and arithmetic-coded JPEG, and JPEG-LS."""

_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length: TEM and the restart markers."""

_CHROMA: dict[tuple[float, float], str] = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
}
"""Chroma formats by the luma samples for each chroma sample, across and down."""


class JpegError(ValueError):
    """Data are no JPEG that can be recorded; the message says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What the header of a JPEG states.

    Attributes:
        height: pixels.
        width: pixels.
        chroma: ``4:2:0``, ``4:2:2``, ``4:4:4``, ``4:4:0``, ``4:1:1``, or ``grey``.
        process: ``baseline``, ``extended`` or ``progressive``.
    """

    height: int
    width: int
    chroma: str
    process: str


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Read the header of a JPEG and check that its end is there. Decodes nothing; microseconds.

    Args:
        data: one image, from its first marker on; zeros behind its last one are ignored.

    Raises:
        JpegError: it is no JPEG, is cut off, or is of a kind that is not recorded.
    """
    if not data.startswith(_START):
        raise JpegError("it does not begin as a JPEG does")
    if len(data) > MAX_JPEG_BYTES:
        raise JpegError(f"it has {len(data)} bytes, more than {MAX_JPEG_BYTES}")
    header, position = None, len(_START)
    while True:
        marker, position = _next_marker(data, position)
        if marker in _ALONE:
            continue
        if marker in _OTHER_FRAMES:
            raise JpegError("its kind of JPEG (lossless, hierarchical or arithmetic-coded) is not recorded")
        size = int.from_bytes(data[position : position + 2])
        segment = data[position + 2 : position + size]
        if size < 2 or len(segment) != size - 2:
            raise JpegError("it is cut off in its header")
        if marker in _FRAMES:
            if header is not None:
                raise JpegError("it has more than one frame header")
            header = _frame_header(segment, _FRAMES[marker])
        if marker == _SCAN:
            break
        position += size
    if header is None:
        raise JpegError("it has no frame header")
    # The scan ends with EOI. Nothing else is looked for in it: that would mean to read every byte.
    if not (data.endswith(_END) or data.rstrip(b"\0").endswith(_END)):
        raise JpegError("its end is missing: it was cut off")
    return header


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker at a position, and where what follows it begins. Fill bytes (0xFF) may precede it."""
    start = position
    while data[position : position + 1] == b"\xff":
        position += 1
    if position == start or position >= len(data):
        raise JpegError("it is cut off in its header" if position >= len(data) else "its header is damaged")
    marker = data[position]
    if marker in (0x00, 0xD8, 0xD9):  # a stuffed byte, a second beginning, or the end without a picture
        raise JpegError("its header is damaged")
    return marker, position + 1


def _frame_header(segment: bytes, process: str) -> JpegHeader:
    """Read a start-of-frame segment: precision, lines, samples per line, and the components' sampling."""
    if len(segment) < 6 or len(segment) != 6 + 3 * segment[5]:
        raise JpegError("its frame header is damaged")
    precision, components = segment[0], segment[5]
    height, width = int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5])
    if precision != 8:
        raise JpegError(f"it has {precision} bits per sample, not 8")
    if not height or not width:
        raise JpegError("its frame header gives no size")
    if components == 1:
        return JpegHeader(height, width, "grey", process)
    if components != 3:
        raise JpegError(f"it has {components} components; colour has 3, grey 1")
    luma, first, second = segment[7], segment[10], segment[13]
    chroma = _CHROMA.get(_ratio(luma, first)) if first == second else None
    if chroma is None:
        raise JpegError("its chroma is sampled in a way that is not recorded")
    return JpegHeader(height, width, chroma, process)


def _ratio(luma: int, chroma: int) -> tuple[float, float]:
    """How many times as many samples one component has as another; each factor is across << 4 | down."""
    across, down = chroma >> 4, chroma & 15
    return ((luma >> 4) / across, (luma & 15) / down) if across and down else (0, 0)
