"""Reading what was captured back, also from an episode that was cut off at any byte.

The frames of a camera are those of its file, then those of its spill. The spill goes on where the file ends;
where a killed process left a gap between them, the camera ends at the gap.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..errors import StateError
from ..storage import storage_errors
from .convert import PixelConverter
from .histograms import HISTOGRAM_DTYPE, histogram, read_histogram_file
from .raw import raw_indices, read_indexed, read_raw
from .staging import Camera, EpisodeFolder

CHECKED_GROUPS = 3
"""How many keyframes back the end of a cut-off file is decoded to see how far it is whole.

The capture has a keyframe and an fsync every second."""

STRICT = "crccheck+bitstream+buffer+explode+careful+compliant+aggressive"
"""Makes libav's decoder refuse a damaged frame; otherwise it paints over the damage and says nothing."""

type Frame = av.VideoFrame | NDArray[Any]


def read_frames(folder: EpisodeFolder, key: str) -> Iterator[Frame]:
    """All frames of a camera in order. Closing the generator closes the files.

    Args:
        folder: the episode, complete or not.
        key: the camera's feature key.

    Yields:
        For capture ``x264`` an `av.VideoFrame` in the camera's `pix_fmt`, the very pixels that a conversion
        of the original gives; for ``x264rgb`` (H, W, 3) uint8; for ``raw`` (H, W) uint16 or float32.

    Raises:
        StateError: the episode has no such camera.
        StorageError: a file is there but cannot be read.
    """
    camera = _camera(folder, key)
    count = 0
    # The decoder gives RGB as planes and semi-planar formats as three: the same values in another order.
    converter = PixelConverter(camera.pix_fmt)
    if camera.capture == "raw":
        for array in read_raw(folder.path / camera.file):
            yield array
            count += 1
    else:
        for frame in _decode(folder.path / camera.file):
            converted = converter.convert(frame)
            yield converted if camera.capture == "x264" else converted.to_ndarray()
            count += 1
    for array in _read_spill(folder, camera, count):
        if camera.capture == "x264":
            yield converter.convert(av.VideoFrame.from_ndarray(array, format="rgb24"))
        else:
            yield array


def count_frames(folder: EpisodeFolder, key: str) -> int:
    """The number of frames `read_frames` gives. Reads the files; decodes only the end of a cut-off one.

    In a complete episode the frames that are there are counted, whether they can be decoded or not.

    Raises:
        StateError: the episode has no such camera.
        StorageError: a file is there but cannot be read.
    """
    camera = _camera(folder, key)
    count = _count_in_file(folder, camera)
    for index in raw_indices(folder.path / camera.spill):
        if index > count:
            break
        count = max(count, index + 1)
    return count


def read_histograms(folder: EpisodeFolder, key: str) -> NDArray[np.uint32]:
    """The histograms of a colour camera's original pixels, one per frame, as far as they are known.

    After a crash there may be fewer than frames, or more; none for depth. They are mapped from the file;
    those of spilled frames are counted here.

    Returns:
        (n, 3, 256) uint32.

    Raises:
        StateError: the episode has no such camera.
        StorageError: a file is there but cannot be read.
    """
    camera = _camera(folder, key)
    if camera.histograms is None:
        return np.zeros((0, 3, 256), dtype=HISTOGRAM_DTYPE)
    path = folder.path / camera.histograms
    with storage_errors(path, "read"):
        known = read_histogram_file(path)
    if not (folder.path / camera.spill).exists():
        return known
    in_file = _count_in_file(folder, camera)
    if len(known) < in_file:
        return known
    spilled = [histogram(array) for array in _read_spill(folder, camera, in_file)]
    return np.concatenate([known[:in_file], *[h[None] for h in spilled]])


def _camera(folder: EpisodeFolder, key: str) -> Camera:
    try:
        return folder.manifest.cameras[key]
    except KeyError:
        raise StateError(f"Episode {folder.id} has no camera {key!r}.") from None


def _count_in_file(folder: EpisodeFolder, camera: Camera) -> int:
    path = folder.path / camera.file
    if camera.capture == "raw":
        return sum(1 for _ in raw_indices(path))
    with _opened(path) as opened:
        if opened is None:
            return 0
        if folder.manifest.state == "complete":
            return sum(1 for _ in _packets(*opened))
        return _count_to_a_torn_end(*opened)


def _count_to_a_torn_end(container: InputContainer, stream: VideoStream) -> int:
    """Count packets, decoding the last ones: after a power loss they may be there and hold nothing."""
    count = 0
    groups: deque[list[av.Packet]] = deque()  # each from a keyframe on
    for packet in _packets(container, stream):
        if packet.is_keyframe:
            groups.append([])
            if len(groups) > CHECKED_GROUPS:
                count += len(groups.popleft())
        groups[-1].append(packet)
    return count + sum(1 for _ in _decoded(stream, itertools.chain.from_iterable(groups)))


def _read_spill(folder: EpisodeFolder, camera: Camera, count: int) -> Iterator[NDArray[Any]]:
    """The spilled frames that follow the `count` frames of the file."""
    for index, array in read_indexed(folder.path / camera.spill):
        if index > count:
            return
        if index == count:
            yield array
            count += 1


def _decode(path: Path) -> Iterator[av.VideoFrame]:
    with _opened(path) as opened:
        if opened is None:
            return
        container, stream = opened
        yield from _decoded(stream, _packets(container, stream))


def _decoded(stream: VideoStream, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
    """Decode packets up to the first that is damaged."""
    context = stream.codec_context
    # One thread: an encode runs beside this one, and after a damaged frame nothing is left in flight.
    context.thread_count = 1
    context.options = {"err_detect": STRICT}
    try:
        for packet in packets:
            yield from context.decode(packet)
        yield from context.decode(None)
    except av.FFmpegError:
        return


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """The whole packets of a file, up to where it is torn."""
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            if packet.is_corrupt:
                return
            if packet.size:
                yield packet


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream] | None]:
    """Open a Matroska file; None when it is missing or its header never reached the disk."""
    with storage_errors(path, "read"):
        if not path.exists():
            yield None
            return
        path.open("rb").close()  # a file that may not be read is not one that is torn
    try:
        container = av.open(str(path), format="matroska")
    except av.FFmpegError:
        yield None
        return
    with container:
        if not container.streams.video:
            yield None
            return
        yield container, container.streams.video[0]
