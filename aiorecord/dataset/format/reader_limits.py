"""Limits of lerobot's dataset reader, shared by the writer, the packing and the check. Pure.

Read from lerobot 0.6.1 (`DatasetReader._query_videos`, `decode_video_frames_torchcodec` and
`decode_video_frames_pyav`). For frame k of an episode it asks the video for the time ``from_timestamp + t``,
where ``t`` is the row's ``timestamp``, a float32; it decodes the frame that is nearest to that, and compares
the two times as float32 tensors. A difference of `TOLERANCE_S` or more is a `FrameTimestampError`.

From 1024 s on, neighbouring float32 numbers are 1.2e-4 s apart, so two times that are rounded to different
numbers already fail. An episode that begins at 0 never does, however long it is: both times are then the
same number. So a single episode has no limit here, and neither have rates whose periods are binary fractions.

lerobot reads files in the order of their names, whose numbers have three digits: see `layout.MAX_NUMBERS`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOLERANCE_S = 1e-4
"""The default ``tolerance_s`` of `LeRobotDataset`."""

SAFE_SPAN_S = 1024.0
"""Before this time no frame on the k/fps grid is refused: a step of float32 is below the tolerance."""


def refused_frames(
    from_s: float, shown_s: NDArray[np.float64], timestamps: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """The frames of an episode that lerobot refuses to read from its video.

    Args:
        from_s: the episode's ``from_timestamp``.
        shown_s: (N,) when each of its frames is shown in the file.
        timestamps: (N,) the ``timestamp`` of its rows.
    """
    asked = (from_s + timestamps.astype(np.float64)).astype(np.float32)
    apart: NDArray[np.float32] = np.abs(asked - shown_s.astype(np.float32))
    refused: NDArray[np.bool_] = ~(apart < np.float32(TOLERANCE_S))
    return refused


def is_readable_at(start: int, length: int, fps: int) -> bool:
    """Whether lerobot can read every frame of an episode that is laid on the k/fps grid of a video file.

    Args:
        start: frames before it in the file.
        length: frames.
        fps: frames per second.
    """
    if start == 0 or start + length <= SAFE_SPAN_S * fps:
        return True
    frames = np.arange(length)
    timestamps = (frames / fps).astype(np.float32)
    return not refused_frames(start / fps, (start + frames) / fps, timestamps).any()
