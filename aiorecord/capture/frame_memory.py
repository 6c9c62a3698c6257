"""Reuses the memory of one camera's frames."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..media.pixels import new_rgb_frame
from .budget import ByteBudget
from .frames import TakenFrame

READY_FRAMES = 2
"""Frames whose memory is allocated before a camera's first frame."""


class FrameMemory:
    """Allocates and reuses memory for frames: colour in a layout that the encoder reads directly, depth as
    arrays.

    Any thread may call any method.

    Args:
        shape: of the frames: (H, W, 3), or (H, W) for depth.
        budget: keeps free memory for the next camera and episode with that shape.
    """

    def __init__(self, shape: tuple[int, ...], budget: ByteBudget) -> None:
        self._shape = shape
        self._free: deque[TakenFrame] = budget.spare(shape)

    def make_ready(self) -> None:
        """Allocate memory for the first frames."""
        while len(self._shape) == 3 and len(self._free) < READY_FRAMES:
            ready = self._frame_of_new_memory()
            ready.pixels.fill(0)  # here, and not on the loop, each page is touched for the first time
            self._free.append(ready)

    def copy_of(self, image: NDArray[Any]) -> TakenFrame:
        """A frame with the pixels of an image of the camera's shape, whatever its memory layout."""
        if len(self._shape) == 2:
            return TakenFrame(np.array(image, order="C"), None)
        frame = self._new_frame()
        pixels = frame.pixels
        if image.flags.c_contiguous and pixels.flags.c_contiguous:
            # numpy would leave the GIL to the camera threads meanwhile, and the loop would wait for it.
            memoryview(pixels).cast("B")[:] = memoryview(image).cast("B")
        elif image.strides[2] == 1:
            np.copyto(pixels, image)
        else:
            # Channels first, or in reverse: numpy would go pixel by pixel, five times as slowly.
            for channel in range(3):
                pixels[..., channel] = image[..., channel]
        return frame

    def for_encoder(self, frame: TakenFrame) -> TakenFrame:
        """A colour frame in memory that the encoder may read; an image taken without a copy is copied now."""
        if frame.video is not None or len(self._shape) == 2:
            return frame
        own = self._new_frame()
        np.copyto(own.pixels, frame.pixels)
        own.index = frame.index
        return own

    def give_back(self, frame: TakenFrame) -> None:
        """Take back the memory of a frame that is no longer used, if it was allocated here."""
        if frame.video is not None:
            self._free.append(frame)

    def _new_frame(self) -> TakenFrame:
        """Memory for a colour frame, reused if some is free."""
        try:
            return self._free.popleft()
        except IndexError:
            return self._frame_of_new_memory()

    def _frame_of_new_memory(self) -> TakenFrame:
        video, pixels = new_rgb_frame(*self._shape[:2])
        return TakenFrame(pixels, video)
