"""Takes the pixels of decoded frames that are compared, and those that go into the statistics."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ...encoders import DEPTH_QUANTA
from ...features import Feature
from ...media.depth import DEPTH_PIX_FMT, depths_of_codes
from ...media.pixels import PixelConverter
from ...staging.histograms import histogram, sampling_stride


class FrameSampler:
    """Samples the frames of one camera as its recorder did.

    Args:
        feature: the camera's.

    Attributes:
        depth_limit: the largest depth that the quantiser keeps, in the dataset's unit.
    """

    def __init__(self, feature: Feature) -> None:
        self._converter = PixelConverter(DEPTH_PIX_FMT if feature.is_depth else "rgb24")
        self._depth = depths_of_codes(feature.info) if feature.is_depth else None
        self.depth_limit = np.inf if self._depth is None else float(self._depth[-1])

    def sample(self, frame: av.VideoFrame) -> NDArray[Any]:
        """A histogram of a colour frame, or the sampled depth of a frame of codes."""
        converted = self._converter.convert(frame)
        if self._depth is None:
            return histogram(np.asarray(converted.to_ndarray(), np.uint8))
        stride = sampling_stride(frame.height, frame.width)
        plane = converted.planes[0]
        lines = np.frombuffer(plane, np.uint16).reshape(frame.height, plane.line_size // 2)
        codes = np.minimum(lines[::stride, : frame.width : stride], DEPTH_QUANTA)
        depth: NDArray[Any] = self._depth[codes]
        return depth


def visible(frame: av.VideoFrame) -> NDArray[Any]:
    """The first plane without the padding after each line, which has arbitrary content. A copy."""
    plane = frame.planes[0]
    dtype: Any = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    pixels: NDArray[Any] = lines[: plane.height].view(dtype)[:, : plane.width].copy()
    return pixels
