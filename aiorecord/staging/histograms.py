"""Histograms of the original pixels of each colour frame, computed during capture.

With them, a camera's final statistics need no second pass over its frames, and they describe the pixels as
the robot returned them. The file is a plain sequence of little-endian uint32 arrays of shape (3, 256), with
checksums in a file next to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .checksums import CheckedFile, checked_chunks
from .staged_file import Extent

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS, VALUES = 3, 256
HISTOGRAM_DTYPE = "<u4"
HISTOGRAM_BYTES = CHANNELS * VALUES * 4


def sampling_stride(height: int, width: int) -> int:
    """Every how many pixels, in both directions, statistics are sampled; 1 below 300 pixels.

    lerobot's rule (`auto_downsample_height_width` in its compute_stats.py, 0.6.1).
    """
    if max(height, width) < 300:
        return 1
    return int(width / 150) if width > height else int(height / 150)


def histogram(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """How often each value occurs in each channel, among the sampled pixels.

    Args:
        pixels: (H, W, 3) uint8.

    Returns:
        (3, 256) uint32.
    """
    stride = sampling_stride(*pixels.shape[:2])
    sampled = pixels[::stride, ::stride]
    # One count per channel: a single one over value + 256 * channel took more than twice as long.
    counts = [np.bincount(sampled[..., c].ravel(), minlength=VALUES) for c in range(CHANNELS)]
    return np.array(counts, dtype=HISTOGRAM_DTYPE)


class HistogramWriter(CheckedFile):
    """Appends histograms to a new file."""

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Append the histogram of one (H, W, 3) uint8 frame."""
        self.append(histogram(pixels).tobytes())


def histograms_in(path: Path, extent: Extent, *, checked: bool) -> Iterator[NDArray[np.uint32]]:
    """The histograms of a file in order, (3, 256) uint32 each, up to the end or the first that is not whole.

    A torn last one is left out; a missing file has none.

    Args:
        path: the file.
        extent: filled in with how far the file is whole.
        checked: it has checksums.
    """
    for chunk in checked_chunks(path, extent, checked=checked, chunk=HISTOGRAM_BYTES):
        if len(chunk) != HISTOGRAM_BYTES:
            return
        yield np.frombuffer(chunk, HISTOGRAM_DTYPE).reshape(CHANNELS, VALUES)
