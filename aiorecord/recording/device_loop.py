"""The one loop that drives a robot and its teleoperator tick by tick, and records what they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..clock import Ticker
from ..errors import EncodeError, SourceError, SourceLostError, StorageError
from ..robots.protocols import Robot, Teleoperator
from ..robots.step import control_step
from .device_frames import DeviceFrames


async def drive_devices(
    ticker: Ticker,
    robot: Robot,
    teleop: Teleoperator,
    features: Mapping[str, Mapping[str, Any]],
    frames: DeviceFrames | None,
    *,
    is_fatal: Callable[[SourceError], bool],
    on_frame: Callable[[dict[str, Any]], None] = lambda frame: None,
    on_tick: Callable[[], None] = lambda: None,
) -> SourceLostError | None:
    """Step a robot and its teleoperator at each tick, and record the frames.

    A source that is lost ends the ticks and the episode, which is kept. So does a disk or an encoder that
    takes no more frames: the frames before are kept.

    Args:
        ticker: the deadlines.
        robot: connected.
        teleop: connected.
        features: of the dataset.
        frames: of the episode; None records nothing.
        is_fatal: whether to raise an error of a source. With another error the step gives no frame.
        on_frame: takes each frame, after it was recorded.
        on_tick: called when a tick's work is done.

    Returns:
        The error by which a source was lost, None if none was.

    Raises:
        SourceError: it is fatal.
        FrameError: a frame does not fit the features.
        StorageError: the disk took not even the first frame.
        EncodeError: likewise an encoder.
    """
    lost: SourceLostError | None = None
    async for _ in ticker:
        try:
            frame = await control_step(robot, teleop, features)
        except SourceError as error:
            if is_fatal(error):
                raise
            if isinstance(error, SourceLostError):
                lost = error
                if frames is not None:
                    frames.episode.request_end(str(error))
                ticker.end()
            on_tick()
            continue
        if frames is not None:
            try:
                frames.add_frame(frame)
            except (StorageError, EncodeError):
                if not frames.episode.frames:
                    raise  # it would be the same with the next episode
                continue  # the ticker has ended
        on_frame(frame)
        on_tick()
    return lost
