"""lerobot's episode buffers (dicts of lists): the live one, and whole episodes passed in by a caller."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from lerobot.datasets.io_utils import load_image_as_numpy
from numpy.typing import NDArray

from ...capture.episode import EpisodeCapture
from ...errors import FrameError
from ...features import Feature, Schema
from ...system.machine_time import monotonic_ns

FEED_LIMIT_BYTES = 64 << 20
"""Most frames of a passed-in episode that may wait for the capture encoders, over all cameras."""

FEED_PAUSE_S = 0.002

GRID_TOLERANCE_S = 1e-4
"""How far a passed-in timestamp may be from frame_index / fps: lerobot's `tolerance_s`."""


@dataclass(eq=False)
class Recording:
    """The capture behind a live buffer.

    Attributes:
        capture: holds the frames.
        task: of the first frame.
        ended: it was saved or discarded.
        lost: why the episode cannot be saved any more, None if it can.
    """

    capture: EpisodeCapture
    task: str
    ended: bool = False
    lost: FrameError | None = None


class EpisodeBuffer(dict[str, Any]):
    """lerobot's episode buffer, whose images are not in memory but in a capture on disk.

    It holds ``size``, ``task``, ``timestamp``, ``frame_index`` and the values of each frame; cameras hold
    None for each frame, as with lerobot's streaming encoder. A copy refers to the same episode.

    Attributes:
        recording: the capture; None before the first frame.
    """

    recording: Recording | None = None

    def copy(self) -> Self:
        """A copy that refers to the same episode."""
        copied = type(self)(super().copy())
        copied.recording = self.recording
        return copied

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self)(
            {key: list(value) if isinstance(value, list) else value for key, value in self.items()}
        )
        copied.recording = self.recording
        return copied


def plain(value: Any) -> Any:
    """A torch tensor as an array; anything else unchanged."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        return value.detach().cpu().numpy()
    return value


def buffer_index(buffer: Mapping[str, Any]) -> int | None:
    """The episode index that a buffer was made for; None if it has none."""
    value = plain(buffer.get("episode_index"))
    if value is None or np.size(value) == 0:
        return None
    return int(np.ravel(value)[0])


class HandedInEpisode:
    """A whole episode that a caller passes in, as lerobot's buffer.

    Args:
        buffer: for each feature a list, an array or a tensor of one value per frame. Cameras are pixels or
            the paths of image files. ``task`` is one text or a list of them. ``timestamp`` and
            ``frame_index`` may be empty; if not, they must be those of a regular recording.
        schema: the features.
        fps: frames per second.

    Raises:
        FrameError: a feature lacks a value for some frame, or has values that do not fit it.
    """

    def __init__(self, buffer: Mapping[str, Any], schema: Schema, fps: int) -> None:
        self.length = int(buffer["size"])
        self._schema = schema
        task = buffer["task"]
        self.tasks: list[str] = [task] * self.length if isinstance(task, str) else list(task)
        self._columns = {key: _column(buffer[key], feature) for key, feature in schema.columns.items()}
        self._cameras = {key: plain(buffer[key]) for key in schema.cameras}
        for key, values in {"task": self.tasks, **self._columns, **self._cameras}.items():
            if len(values) != self.length:
                raise FrameError(f"{key!r} has {len(values)} values for {self.length} frames.", key=key)
        for task in self.tasks:
            if not isinstance(task, str):
                raise FrameError(f"A task must be a string, not {type(task).__name__}.", key="task")
        grid = np.arange(self.length)
        for key, expected, tolerance in (
            ("frame_index", grid, 0.0),
            ("timestamp", grid / fps, GRID_TOLERANCE_S),
        ):
            _check_given(key, buffer.get(key), expected, tolerance)

    def feed(self, capture: EpisodeCapture) -> None:
        """Add every frame, no faster than the capture encoders can encode. Blocking.

        Raises:
            FrameError: an image does not fit its feature.
            StorageError: the disk refused, or an image file cannot be read.
            EncodeError: a capture encoder failed.
        """
        capture.annotate({"timed": False})  # when its frames were recorded is not known
        for k, task in enumerate(self.tasks):
            frame = {key: values[k] for key, values in self._columns.items()}
            for key, images in self._cameras.items():
                frame[key] = _image(key, images[k])
            checked = self._schema.check(frame)
            while sum(c.queued_bytes for c in capture.status().cameras.values()) > FEED_LIMIT_BYTES:
                time.sleep(FEED_PAUSE_S)
            capture.add_frame(checked, task, monotonic_ns())


def _column(values: Any, feature: Feature) -> Sequence[Any] | NDArray[Any]:
    """One value per frame, of the feature's dtype and shape."""
    if feature.dtype == "string":
        return [str(value) for value in np.ravel(plain(values))]
    if isinstance(values, list | tuple):
        values = [plain(value) for value in values]
    try:
        array = np.asarray(plain(values))
        converted = array.astype(feature.dtype, casting="same_kind", copy=False)
        return converted.reshape(len(array), *feature.shape)
    except (TypeError, ValueError) as error:
        raise FrameError(
            f"{feature.key!r} does not hold values of shape {feature.shape}, dtype {feature.dtype}: {error}",
            key=feature.key,
        ) from error


def _check_given(key: str, values: Any, expected: NDArray[Any], tolerance: float) -> None:
    values = plain(values)
    if values is None or len(values) == 0:
        return
    array = np.ravel(np.asarray(values, dtype=np.float64))
    if len(array) != len(expected):
        raise FrameError(f"{key!r} has {len(array)} values for {len(expected)} frames.", key=key)
    # float32 timestamps of a long episode are further from the grid than the tolerance.
    if not np.all(np.abs(array - expected) <= tolerance + 2e-7 * np.abs(expected)):
        raise FrameError(
            f"{key!r} is not that of a regular recording (frame k has index k and timestamp k / fps); "
            "leave the list empty to have it filled in.",
            key=key,
        )


def _image(key: str, value: Any) -> Any:
    if value is None:
        raise FrameError(
            f"{key!r} holds no pixels. The buffer of a running episode must be passed in itself, or as its "
            "copy(): its images are on disk.",
            key=key,
        )
    if not isinstance(value, str | Path):
        return plain(value)
    try:
        return load_image_as_numpy(str(value), dtype=np.uint8, channel_first=False)
    except OSError as error:
        raise FrameError(f"{key!r}: {value} cannot be read: {error}", key=key) from error
