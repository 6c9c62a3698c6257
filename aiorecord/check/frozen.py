"""Finds a camera that hung: consecutive frames that show the same picture. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FREEZE_S = 0.5
"""Shorter repetitions are not reported: a camera slower than the loop repeats every other frame."""

SAME = 0.02
"""Mean difference, in levels, up to which two decoded pictures count as equal.

Measured on frozen and on still but live pictures (noise of 2 levels), keyframe distance 2: frozen ones differ
by 0 (SVT-AV1, x265) to 0.014 (x264) from the frame before or the one before that; live ones by 1.7 to 2.1
where a keyframe is new. Encoders adapt at the beginning of a freeze, so its first few frames may not be
detected.
"""


@dataclass
class FreezeFinder:
    """Looks for runs of equal pictures in one episode of one camera.

    Frames are compared with the two before: at LeRobot's keyframe distance of 2, a coded still picture
    alternates between two versions.

    Args:
        fps: frames per second.

    Attributes:
        runs: first and last frame of each run of at least `FREEZE_S`.
    """

    fps: int
    runs: list[tuple[int, int]] = field(default_factory=list)
    _before: list[NDArray[Any]] = field(default_factory=list)
    _start: int = 0
    _frame: int = 0

    def add(self, pixels: NDArray[Any]) -> None:
        """The next frame: an array that is not changed afterwards, of the shape and dtype of the others."""
        if not any(_same(pixels, other) for other in reversed(self._before)):
            self._end_run()
            self._start = self._frame
        self._before = [*self._before[-1:], pixels]
        self._frame += 1

    def finish(self) -> list[tuple[int, int]]:
        """End the episode; returns `runs`."""
        self._end_run()
        return self.runs

    def _end_run(self) -> None:
        if self._frame - self._start >= max(3, self.fps * FREEZE_S):
            self.runs.append((self._start, self._frame - 1))


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    # A few lines are enough to detect a moving picture.
    rows = slice(None, None, max(1, a.shape[0] // 16))
    for part in (rows, slice(None)):
        difference = np.abs(a[part].astype(np.float32) - b[part].astype(np.float32)).mean()
        # A few lines are noisier than the whole picture.
        if not difference <= SAME * (4 if part is rows else 1):
            return False
    return True
