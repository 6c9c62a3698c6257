"""Decodes the images that are stored in Parquet, one by one."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ...features import Feature
from ...staging.histograms import histogram, sampling_stride
from ..jobs import content_error
from .episode_pictures import MAX_PIXELS, EpisodePictures
from .model import Run


def pictures_of_run(place: str, feature: Feature, fps: int, run: Run) -> EpisodePictures:
    """The stored images of one episode, to be filled by `add_images`."""
    stride = sampling_stride(*feature.size_hwc[:2])

    def sample(pixels: NDArray[Any]) -> NDArray[Any]:
        return histogram(pixels) if pixels.ndim == 3 else pixels[::stride, ::stride].copy()

    return EpisodePictures(place, feature, fps, run.episode, run.length, sample)


def add_images(pictures: EpisodePictures, feature: Feature, values: Iterable[Any]) -> tuple[str, str] | None:
    """Add an episode's images, dicts of ``bytes`` and ``path``, up to the first that cannot be used.

    Returns:
        The code and message of the finding about that one, None if all can be used.
    """
    height, width, channels = feature.size_hwc
    wanted = (height, width) if channels == 1 else (height, width, channels)
    for value in values:
        try:
            pixels = decode_image((value or {}).get("bytes") or b"")
        except (ValueError, av.FFmpegError, struct.error) as error:
            return "image-undecodable", f"The image cannot be decoded: {content_error(error)}"
        if pixels.shape != wanted:
            return "image-size", f"The image is {pixels.shape}, not {feature.size_hwc}."
        pictures.add(pixels, pixels)
    return None


def decode_image(data: bytes) -> NDArray[Any]:
    """A PNG as (H, W, 3) uint8, an uncompressed TIFF as (H, W) uint16 or float32.

    Raises:
        ValueError: it is neither, or broken.
        av.FFmpegError: likewise.
    """
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _decode_tiff(data)
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("neither PNG nor TIFF")
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"a size of {width}x{height}")
    context = av.CodecContext.create("png", "r")
    assert isinstance(context, av.VideoCodecContext)
    frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    if len(frames) != 1:
        raise ValueError("no picture in it")
    if not data.endswith(b"IEND\xaeB`\x82"):
        raise ValueError("it is cut off")
    return np.asarray(frames[0].to_ndarray(format="rgb24"), np.uint8)


def _decode_tiff(data: bytes) -> NDArray[Any]:
    """Decode a depth TIFF as Pillow and `media.image_files` write it: uncompressed strips (TIFF 6.0)."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack(f"{order}L", data[4:8])
    (count,) = struct.unpack(f"{order}H", data[at : at + 2])
    tags: dict[int, list[int]] = {}
    for number in range(count):
        entry = data[at + 2 + 12 * number : at + 14 + 12 * number]
        tag, kind, values = struct.unpack(f"{order}HHL", entry[:8])
        size = {3: 2, 4: 4}.get(kind)
        if size is None or values > 1 << 16:
            continue
        field = entry[8:12]
        if size * values > 4:
            (where,) = struct.unpack(f"{order}L", field)
            field = data[where : where + size * values]
        tags[tag] = list(struct.unpack(f"{order}{values}{'H' if kind == 3 else 'L'}", field[: size * values]))
    try:
        width, height, bits = (tags[tag][0] for tag in (256, 257, 258))
        starts, sizes = tags[273], tags[279]
        compression, sample = tags.get(259, [1])[0], tags.get(339, [1])[0]
    except (KeyError, IndexError) as error:
        raise ValueError(f"TIFF tag {error} is missing") from None
    dtype = {(16, 1): "u2", (32, 3): "f4"}.get((bits, sample))
    if compression != 1 or dtype is None or not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"a TIFF of another kind ({bits} bits, compression {compression}, {width}x{height})")
    pixels = b"".join(data[start : start + size] for start, size in zip(starts, sizes, strict=True))
    if len(pixels) != width * height * bits // 8:
        raise ValueError("it is cut off")
    array = np.frombuffer(pixels, f"{order}{dtype}").reshape(height, width)
    return array.astype(array.dtype.newbyteorder("="))
