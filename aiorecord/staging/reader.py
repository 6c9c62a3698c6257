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

from ..errors import StateError
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
    kind = KINDS[camera.capture]
    count = 0
    for frame in kind.read(folder.path / camera.file, camera, folder.manifest):
        yield frame
        count += 1
    converter = PixelConverter(camera.pix_fmt)
    for array in read_spill(folder, camera, count):
        if kind.gives_arrays:
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


def read_spill(folder: EpisodeFolder, camera: Camera, count: int) -> Iterator[NDArray[Any]]:
    """The spilled frames that follow the `count` frames of the file."""
    shape = KINDS[camera.capture].shape(camera)
    for index, array in read_indexed(folder.path / camera.spill, shape):
        if index > count or (len(shape) == 3 and array.dtype != np.uint8):
            return
        if index == count:
            yield array
            count += 1
