"""Reads a captured episode back, also one that was cut off at any byte.

The frames of a camera are those of its file, followed by those of its spill. The spill begins where the file
ends or earlier; if there is a gap between them, the camera's frames end at the gap.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.stream import VideoStream

from ..errors import StateError
from ..media.pixels import PixelConverter
from ..system.storage import is_there
from .folder import Camera, EpisodeFolder, Manifest
from .histograms import HISTOGRAM_DTYPE, histogram, histograms_in, sampling_stride
from .live import frame_number, whole_frames
from .lossless import PADDING, count_lossless, read_lossless
from .matroska_file import LiveCapture, opened_capture
from .raw import raw_indices, read_indexed
from .staged_file import Extent

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKED_GROUPS = 3
"""From how many keyframes before its end a cut-off live capture is decoded to find how far it is whole."""

CHECKED_S = 3
"""And from how many seconds at least: the encoder's settings set keyframes, an fsync happens each second."""

STRICT = "crccheck+bitstream+buffer+explode+careful+compliant+aggressive"
"""Makes libav's decoder refuse a damaged frame; otherwise it conceals the damage without an error."""

type Frame = av.VideoFrame | NDArray[Any]


def read_frames(folder: EpisodeFolder, key: str) -> Iterator[Frame]:
    """All frames of a camera in order. Closing the generator closes the files.

    Args:
        folder: the episode, complete or not.
        key: the camera's feature key.

    Yields:
        For capture ``lossless`` an `av.VideoFrame` in the camera's `pix_fmt`, the same pixels that a
        conversion of the original gives; likewise for ``live``, as the final video shows them; for ``rgb``
        (H, W, 3) uint8; for ``raw`` (H, W) uint16 or float32.

    Raises:
        StateError: the episode has no such camera.
        DamageError: a file is not a plain file.
        StorageError: a file is there but cannot be read.
    """
    camera = _camera(folder, key)
    count = 0
    for frame in _frames_in_file(folder, camera):
        yield frame
        count += 1
    # A live capture's semi-planar formats come back as three planes: the same values in another order.
    converter = PixelConverter(camera.pix_fmt)
    for array in read_spill(folder, camera, count):
        if camera.capture in ("lossless", "live"):
            yield converter.convert(av.VideoFrame.from_ndarray(array, format="rgb24"))
        else:
            yield array


def _frames_in_file(folder: EpisodeFolder, camera: Camera) -> Iterator[Frame]:
    path = folder.path / camera.file
    if camera.capture == "raw":
        for _, array in read_indexed(path, (camera.height, camera.width)):
            yield array
    elif camera.capture == "live":
        converter = PixelConverter(camera.pix_fmt)
        count = _count_in_file(folder, camera, Extent())
        for video in itertools.islice(_decode(path, checked=folder.manifest.has_sums), count):
            if (video.width, video.height) != (camera.width, camera.height):
                return
            yield converter.convert(video)
    else:
        for video in read_lossless(path, camera):
            yield video.to_ndarray() if camera.capture == "rgb" else video


def count_frames(folder: EpisodeFolder, key: str, extents: dict[str, Extent] | None = None) -> int:
    """The number of frames `read_frames` gives. Reads the files; decodes only the end of a live one cut off.

    In a complete episode all stored frames are counted, whether they can be decoded or not.

    Args:
        folder: the episode.
        key: the camera's feature key.
        extents: filled in with how far each file is whole, by its name.

    Raises:
        StateError: the episode has no such camera.
        DamageError: a file is not a plain file.
        StorageError: a file is there but cannot be read.
    """
    camera = _camera(folder, key)
    known = {} if extents is None else extents
    count = _count_in_file(folder, camera, known.setdefault(camera.file, Extent()))
    spill = known.setdefault(camera.spill, Extent())
    for index in raw_indices(folder.path / camera.spill, _spill_shape(camera), spill):
        if index > count:
            break
        count = max(count, index + 1)
    return count


def read_histograms(
    folder: EpisodeFolder, key: str, extents: dict[str, Extent] | None = None
) -> NDArray[np.uint32]:
    """The histograms of a colour camera's original pixels, one per frame, as far as they are known.

    After a crash there may be fewer than frames, or more; none for depth. Those of spilled frames are counted
    here. All are in memory: for a long episode, see `iterate_histograms`.

    Returns:
        (n, 3, 256) uint32.

    Raises:
        StateError: the episode has no such camera.
        DamageError: a file is not a plain file.
        StorageError: a file is there but cannot be read.
    """
    found = list(iterate_histograms(folder, key, extents))
    return np.stack(found) if found else np.zeros((0, 3, 256), dtype=HISTOGRAM_DTYPE)


def iterate_histograms(
    folder: EpisodeFolder, key: str, extents: dict[str, Extent] | None = None
) -> Iterator[NDArray[np.uint32]]:
    """`read_histograms`, one by one."""
    camera = _camera(folder, key)
    if camera.histograms is None:
        return
    known = {} if extents is None else extents
    path = folder.path / camera.histograms
    extent = known.setdefault(camera.histograms, Extent())
    own = _sound(histograms_in(path, extent, checked=folder.manifest.has_sums), camera)
    if not is_there(folder.path / camera.spill):
        yield from own
        return
    count = 0
    for array in itertools.islice(own, _count_in_file(folder, camera, Extent())):
        yield array
        count += 1
    for pixels in read_spill(folder, camera, count):
        yield histogram(pixels)


def _sound(histograms: Iterable[NDArray[np.uint32]], camera: Camera) -> Iterator[NDArray[np.uint32]]:
    """Histograms up to the first with a wrong number of pixels: a power loss may leave zeros."""
    stride = sampling_stride(camera.height, camera.width)
    pixels = len(range(0, camera.height, stride)) * len(range(0, camera.width, stride))
    return itertools.takewhile(
        lambda array: bool((array.sum(axis=1, dtype=np.uint64) == pixels).all()), histograms
    )


def _camera(folder: EpisodeFolder, key: str) -> Camera:
    try:
        return folder.manifest.cameras[key]
    except KeyError:
        raise StateError(f"Episode {folder.id} has no camera {key!r}.") from None


def _count_in_file(folder: EpisodeFolder, camera: Camera, extent: Extent) -> int:
    path = folder.path / camera.file
    if camera.capture == "raw":
        return sum(1 for _ in raw_indices(path, (camera.height, camera.width), extent))
    if camera.capture != "live":
        return count_lossless(path, camera, extent)
    with opened_capture(path, checked=folder.manifest.has_sums, extent=extent) as opened:
        if opened is None or not _has_size(opened.stream, camera):
            return 0
        return _count_live(opened, folder.manifest)


def _count_live(opened: LiveCapture, manifest: Manifest) -> int:
    """Count the frames of a live capture up to the first that is missing.

    The end of a cut-off file without checksums is decoded, beginning with a keyframe that was certainly
    followed by an fsync.
    """
    fps = manifest.fps
    if manifest.state == "complete" or manifest.has_sums:
        return whole_frames([frame_number(packet, fps) for packet in opened.packets()])
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
    whole = sum(1 for _ in _undamaged(opened.stream, itertools.chain.from_iterable(tail)))
    return whole_frames(numbers[: len(numbers) - waiting + whole])


def _undamaged(stream: VideoStream, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
    """The packets up to the first that the decoder refuses."""
    context = stream.codec_context
    context.thread_count = 1
    context.options = _decoder_options(stream)
    with contextlib.suppress(av.FFmpegError):
        for packet in packets:
            context.decode(packet)
            yield packet
        context.decode(None)


def read_spill(folder: EpisodeFolder, camera: Camera, count: int) -> Iterator[NDArray[Any]]:
    """The spilled frames that follow the `count` frames of the file."""
    shape = _spill_shape(camera)
    for index, array in read_indexed(folder.path / camera.spill, shape):
        if index > count or (len(shape) == 3 and array.dtype != np.uint8):
            return
        if index == count:
            yield array
            count += 1


def _spill_shape(camera: Camera) -> tuple[int, ...]:
    return (camera.height, camera.width) + (() if camera.capture == "raw" else (3,))


def _has_size(stream: VideoStream, camera: Camera) -> bool:
    """Whether a file's header states the camera's size: otherwise it is damaged, or another file."""
    return (stream.width, stream.height) == (camera.width, camera.height)


def _decoder_options(stream: VideoStream) -> dict[str, str]:
    """Strict decoding, and no frames larger than the header states, whatever a packet claims."""
    pixels = (stream.width + PADDING) * (stream.height + PADDING)
    return {"err_detect": STRICT, "max_pixels": str(pixels)}


def _decode(path: Path, *, checked: bool) -> Iterator[av.VideoFrame]:
    with opened_capture(path, checked=checked) as opened:
        if opened is None:
            return
        yield from _decoded(opened.stream, opened.packets())


def _decoded(stream: VideoStream, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
    """Decode packets up to the first that is damaged."""
    context = stream.codec_context
    # One thread: an encode runs at the same time, and after a damaged frame none is still being decoded.
    context.thread_count = 1
    context.options = _decoder_options(stream)
    try:
        for packet in packets:
            yield from context.decode(packet)
        yield from context.decode(None)
    except av.FFmpegError:
        return
