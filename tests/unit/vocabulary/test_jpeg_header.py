"""What is read of a JPEG without decoding it, and what is refused."""

import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorecord.jpeg_header import JpegError, JpegHeader, read_jpeg_header

Image = pytest.importorskip("PIL.Image")

HEIGHT, WIDTH = 48, 64
HUFFMAN, FRAME, SCAN, END = b"\xff\xc4", b"\xff\xc0", b"\xff\xda", b"\xff\xd9"


def picture(mode="RGB", **options):
    pixels = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def without(data, marker):
    """The image without its segments of a marker."""
    while (at := data.find(marker)) >= 0:
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]
    return data


def decoded(data):
    (frame,) = av.CodecContext.create("mjpeg", "r").decode(av.Packet(data))
    return frame


JPEG = picture()


@pytest.mark.parametrize(
    ("options", "chroma", "pix_fmt"),
    [
        ({"subsampling": 0}, "4:4:4", "yuvj444p"),
        ({"subsampling": 1}, "4:2:2", "yuvj422p"),
        ({"subsampling": 2}, "4:2:0", "yuvj420p"),
        ({"mode": "L"}, "grey", "gray"),
    ],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_size_and_chroma_are_those_that_a_decoder_finds(options, chroma, pix_fmt, progressive):
    data = picture(**options, progressive=progressive)
    process = "progressive" if progressive else "baseline"
    assert read_jpeg_header(data) == JpegHeader(HEIGHT, WIDTH, chroma, process)
    frame = decoded(data)
    assert (frame.format.name, frame.height, frame.width) == (pix_fmt, HEIGHT, WIDTH)


@pytest.mark.parametrize("chroma", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_what_libav_encodes_is_read(chroma):
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = WIDTH, HEIGHT, chroma, 30
    frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).reformat(format=chroma)
    (packet,) = encoder.encode(frame)
    header = read_jpeg_header(bytes(packet))
    assert (header.height, header.width) == (HEIGHT, WIDTH)
    assert header.chroma.replace(":", "") in chroma


def test_a_webcams_jpeg_without_huffman_tables_and_with_zeros_behind_it():
    data = without(JPEG, HUFFMAN) + bytes(513)
    assert read_jpeg_header(data) == read_jpeg_header(JPEG)
    assert decoded(data).width == WIDTH


def test_metadata_with_a_picture_of_its_own_is_passed_over():
    thumbnail = picture()[:3000]
    segment = b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2) + thumbnail
    assert read_jpeg_header(JPEG[:2] + b"\xff\xff" + segment + JPEG[2:]) == read_jpeg_header(JPEG)


@pytest.mark.parametrize("length", range(0, len(JPEG), 37))
def test_one_that_is_cut_off_is_refused(length):
    with pytest.raises(JpegError):
        read_jpeg_header(JPEG[:length])
    with pytest.raises(JpegError):
        read_jpeg_header(JPEG[:length] + bytes(100))


def frame_header(*values):
    at = JPEG.index(FRAME)
    size = int.from_bytes(JPEG[at + 2 : at + 4])
    body = bytes(values)
    return JPEG[:at] + FRAME + (2 + len(body)).to_bytes(2) + body + JPEG[at + 2 + size :]


COLOUR = (1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "begin"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "begin"),
        (JPEG[:2] + END, "damaged"),
        (JPEG[:2] + JPEG, "damaged"),
        (JPEG[:2] + b"\0" + JPEG[2:], "damaged"),
        (JPEG[: JPEG.index(SCAN)] + b"\xff\xfe\xff\xff" + END, "cut off"),
        (without(JPEG, FRAME), "no frame header"),
        (frame_header(8, 0, 48, 0, 64, 3, *COLOUR) , None),
        (frame_header(12, 0, 48, 0, 64, 3, *COLOUR), "12 bits"),
        (frame_header(8, 0, 0, 0, 64, 3, *COLOUR), "no size"),
        (frame_header(8, 0, 48, 0, 0, 3, *COLOUR), "no size"),
        (frame_header(8, 0, 48, 0, 64, 4, *COLOUR, 4, 0x11, 1), "4 components"),
        (frame_header(8, 0, 48, 0, 64, 3, *COLOUR[:-1]), "damaged"),
        (frame_header(8, 0, 48, 0, 64, 3, 1, 0x31, 0, 2, 0x21, 1, 3, 0x21, 1), "sampled"),
        (frame_header(8, 0, 48, 0, 64, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x21, 1), "sampled"),
        (frame_header(8, 0, 48, 0, 64, 3, 1, 0x00, 0, 2, 0x00, 1, 3, 0x00, 1), "sampled"),
        (JPEG.replace(FRAME, b"\xff\xc3", 1), "lossless"),
        (JPEG.replace(FRAME, b"\xff\xc9", 1), "arithmetic"),
        (JPEG[: JPEG.index(SCAN)] + JPEG[JPEG.index(FRAME) :], "more than one"),
    ],
)  # fmt: skip
def test_what_is_no_jpeg_to_record_is_refused_with_a_reason(data, why):
    if why is None:
        assert read_jpeg_header(data).chroma == "4:2:0"
        return
    with pytest.raises(JpegError, match=why):
        read_jpeg_header(data)


@given(st.data())
def test_any_bytes_give_a_header_or_a_refusal(data):
    changed = bytearray(JPEG)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, min(700, len(changed) - 1)))] = data.draw(st.integers(0, 255))
    try:
        header = read_jpeg_header(bytes(changed))
    except JpegError as error:
        assert str(error)
        assert not str(error).endswith(".")
    else:
        assert 0 < header.height < 1 << 16
        assert 0 < header.width < 1 << 16
