"""Reads a captured episode back, also one that was cut off at any byte.

The frames of a camera are those of its file, followed by those of its spill. The spill begins where the file
ends or earlier; if there is a gap between them, the camera's frames end at the gap.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from ..errors import DamageError, StateError
from ..media.pixels import PixelConverter
from ..system.storage import is_there
from .folder import EpisodeFolder
from .histograms import histogram, histograms_in, sampling_stride
from .kind import Frame
from .kinds import KINDS
from .manifest import Camera
from .raw import raw_indices, read_indexed
from .staged_file import Extent

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_frames(folder: EpisodeFolder, key: str, replaced: list[int] | None = None) -> Iterator[Frame]:
    """All frames of a camera in order. Closing the generator closes the files.

    In the place of an encoded image that cannot be decoded stands the frame before it, or where there is none
    the first that can be decoded.

    Args:
        folder: the episode, complete or not.
        key: the camera's feature key.
        replaced: filled in with the indices of those images.

    Yields:
        For capture ``lossless`` an `av.VideoFrame` in the camera's `pix_fmt`, the same pixels that a
        conversion of the original gives; likewise for ``live``, as the final video shows them; for ``rgb``
        (H, W, 3) uint8; for ``packets`` an `av.VideoFrame` in rgb24; for ``raw`` (H, W) uint16 or float32.

    Raises:
        StateError: the episode has no such camera.
        DamageError: a file is not a plain file, or no image of the camera can be decoded.
        StorageError: a file is there but cannot be read.
    """
    camera = _camera(folder, key)
    replaced = [] if replaced is None else replaced
    last: Frame | None = None
    for index, frame in enumerate(_stored_frames(folder, camera)):
        if frame is None:
            replaced.append(index)
        elif last is None:
            yield from itertools.repeat(frame, index)
        if frame is not None:
            last = frame
        if last is not None:
            yield last
    if last is None and replaced:
        path = folder.path / camera.file
        raise DamageError(f"None of the {len(replaced)} images in {path} can be decoded.", path=path)


def _stored_frames(folder: EpisodeFolder, camera: Camera) -> Iterator[Frame | None]:
    """The frames of a camera's file and of its spill; None for an encoded image that cannot be decoded."""
    kind = KINDS[camera.capture]
    count = 0
    for frame in kind.read(folder.path / camera.file, camera, folder.manifest):
        yield frame
        count += 1
    converter = PixelConverter(camera.pix_fmt)
    for array in read_spill(folder, camera, count):
        if array is None or kind.gives_arrays:
            yield array
        else:
            yield converter.convert(av.VideoFrame.from_ndarray(array, format="rgb24"))


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
    for index in raw_indices(folder.path / camera.spill, KINDS[camera.capture].shape(camera), spill):
        if index > count:
            break
        count = max(count, index + 1)
    return count


def read_histograms(
    folder: EpisodeFolder, key: str, extents: dict[str, Extent] | None = None
) -> Iterator[NDArray[np.uint32]]:
    """The histograms of a colour camera's original pixels, one per frame, as far as they are known.

    After a crash there may be fewer than frames, or more; none for depth. Those of spilled frames are counted
    here.

    Args:
        folder: the episode.
        key: the camera's feature key.
        extents: as in `count_frames`.

    Yields:
        (3, 256) uint32.

    Raises:
        AiorecordError: as `read_frames`.
    """
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
        if pixels is None:  # it is replaced when the frames are read
            return
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
    return KINDS[camera.capture].count(path, camera, folder.manifest, extent)


def read_spill(folder: EpisodeFolder, camera: Camera, count: int) -> Iterator[NDArray[Any] | None]:
    """The spilled frames that follow the `count` frames of the file; None for one that cannot be decoded."""
    shape = KINDS[camera.capture].shape(camera)
    for index, array in read_indexed(folder.path / camera.spill, shape):
        if index > count or (array is not None and len(shape) == 3 and array.dtype != np.uint8):
            return
        if index == count:
            yield array
            count += 1
