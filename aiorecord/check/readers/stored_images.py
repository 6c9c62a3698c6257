"""Checks images that are stored in Parquet, one by one."""

from __future__ import annotations

import struct
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ...encoding.stats import FeatureStats, depth_stats, histogram_stats, sample_indices
from ...features import Feature
from ...staging.histograms import histogram, sampling_stride
from ..compare import NONE_STORED, Difference, depth_difference, image_difference
from ..findings import Finding
from ..frozen import FreezeFinder
from ..jobs import is_refusal
from .model import Run

_MAX_PIXELS = 1 << 27


class ImageCheck:
    """Checks the images of one camera in one data file.

    Args:
        place: the file, for findings.
        key: the camera.
        spec: its feature.
        fps: frames per second.
        runs: the episodes in the file, in order.
        stored: statistics in `meta/episodes`, by episode.
        known: episodes with a row in `meta/episodes`.

    Attributes:
        findings: what is wrong.
        bad: places in `runs` of episodes with an image that cannot be used.
        stats: recomputed statistics, if none are stored or they differ.
    """

    def __init__(
        self,
        place: str,
        key: str,
        spec: dict[str, Any],
        fps: int,
        runs: list[Run],
        stored: dict[int, dict[str, FeatureStats]],
        known: set[int],
    ) -> None:
        self.findings: list[Finding] = []
        self.bad: set[int] = set()
        self.stats: dict[int, FeatureStats] = {}
        self._place, self._key, self._fps, self._runs = place, key, fps, runs
        self._stored, self._known = stored, known
        self._feature = Feature(key, "image", tuple(spec["shape"]), spec.get("names"), spec.get("info") or {})
        self._size = self._feature.size_hwc
        self._number = -1
        self._left = 0
        self._begin()

    def add(self, values: list[Any]) -> None:
        """The next rows: dicts of ``bytes`` and ``path``."""
        for value in values:
            if not self._left:
                self._end()
                self._begin()
            self._look(value)
            self._left -= 1
            self._frame += 1

    def finish(self) -> None:
        """End the file."""
        self._end()

    def _begin(self) -> None:
        self._number += 1
        self._frame = 0
        self._finder = FreezeFinder(self._fps)
        self._samples: list[NDArray[Any]] = []
        if self._number < len(self._runs):
            self._left = self._runs[self._number].length
            self._wanted = set(sample_indices(self._left))

    def _look(self, value: Any) -> None:
        episode = self._runs[self._number].episode
        details: dict[str, Any] = {"episode": episode, "camera": self._key, "first_frame": self._frame}
        try:
            pixels = decode_image((value or {}).get("bytes") or b"")
        except (ValueError, av.FFmpegError, struct.error) as error:
            if is_refusal(error):
                raise
            self._bad("image-undecodable", f"The image cannot be decoded: {error}", details)
            return
        height, width, channels = self._size
        if pixels.shape != ((height, width) if channels == 1 else self._size):
            self._bad("image-size", f"The image is {pixels.shape}, not {self._size}.", details)
            return
        self._finder.add(pixels)
        if self._frame in self._wanted:
            if channels == 1:
                stride = sampling_stride(height, width)
                self._samples.append(pixels[::stride, ::stride].copy())
            else:
                self._samples.append(histogram(pixels))

    def _bad(self, code: str, message: str, details: dict[str, Any]) -> None:
        if self._number not in self.bad:  # one per episode is enough
            self.findings.append(Finding(code, self._place, message, **details))
        self.bad.add(self._number)

    def _end(self) -> None:
        if self._number >= len(self._runs) or self._number in self.bad:
            return
        episode = self._runs[self._number].episode
        for first, last in self._finder.finish():
            self.findings.append(frozen(self._place, episode, self._key, first, last, self._fps))
        if not self._samples:
            return
        samples = np.stack(self._samples)
        actual = depth_stats(samples) if self._feature.is_depth else histogram_stats(samples)
        stored = self._stored.get(episode, {}).get(self._key)
        if stored is None:
            difference: Difference | None = NONE_STORED
        elif self._feature.is_depth:
            difference = depth_difference(stored, actual, lossy=False, limit=np.inf)
        else:
            pixels = int(samples[:, 0].sum(dtype=np.int64))
            difference = image_difference(stored, actual, lossy=False, pixels=pixels)
        if difference is not None:
            self.stats[self._number] = actual
            if episode in self._known:
                message = f"Statistics of {self._key} in meta/episodes: {difference.what}."
                self.findings.append(
                    Finding(difference.code, self._place, message, episode=episode, camera=self._key)
                )


def frozen(place: str, episode: int, camera: str, first: int, last: int, fps: int) -> Finding:
    """The finding about a run of equal pictures."""
    message = f"{last - first + 1} frames ({(last - first + 1) / fps:.1f} s) show the same picture."
    return Finding("camera-frozen", place, message, episode, camera, first, last)


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
    if not 0 < width * height <= _MAX_PIXELS:
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
    if compression != 1 or dtype is None or not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"a TIFF of another kind ({bits} bits, compression {compression}, {width}x{height})")
    pixels = b"".join(data[start : start + size] for start, size in zip(starts, sizes, strict=True))
    if len(pixels) != width * height * bits // 8:
        raise ValueError("it is cut off")
    array = np.frombuffer(pixels, f"{order}{dtype}").reshape(height, width)
    return array.astype(array.dtype.newbyteorder("="))
