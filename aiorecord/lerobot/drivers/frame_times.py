"""Finds out when lerobot's cameras took the images of an observation.

Cameras of lerobot 0.6.1 read in a thread of their own and keep the newest frame with its arrival time
(`latest_frame` and `latest_timestamp` under `frame_lock`, see `lerobot/cameras/opencv/camera_opencv.py`; the
RealSense keeps a newest colour frame and a newest depth frame). A robot's observation holds that same array.
So the time of an image is known for certain while it is still the newest frame, and the same array twice is
the same image, whatever the clock says.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

_NS_PER_S = 1_000_000_000
_NEWEST = ("latest_frame", "latest_color_frame", "latest_depth_frame")


class CameraTimes:
    """Follows the cameras of a lerobot robot.

    Args:
        robot: the robot; without ``cameras`` there are no times.
    """

    def __init__(self, robot: Any) -> None:
        self._robot = robot
        self._seen: dict[str, tuple[Any, int | None]] = {}
        self.times_ns: dict[str, int] = {}
        """Image times of the newest observation, by camera. Replaced as a whole: any thread may read it."""

    def observed(self, observation: Mapping[str, Any]) -> None:
        """Store the times of an observation, in the thread that has just made it."""
        times: dict[str, int] = {}
        seen: dict[str, tuple[Any, int | None]] = {}
        cameras = getattr(self._robot, "cameras", None)
        named = cameras.items() if isinstance(cameras, Mapping) else ()
        for name, camera in ((n, c) for key, c in named for n in (key, f"{key}_depth")):
            image = observation.get(name)
            if image is None:
                continue
            before, time_ns = self._seen.get(name, (None, None))
            if image is not before or time_ns is None:
                time_ns = _time_of(camera, image)
            seen[name] = (image, time_ns)
            if time_ns is not None:
                times[name] = time_ns
        self._seen, self.times_ns = seen, times


def _time_of(camera: Any, image: Any) -> int | None:
    """When the camera took the image; None if there is a newer one, or if the camera has no times."""
    lock = getattr(camera, "frame_lock", None)
    with lock if lock is not None else threading.Lock():
        time_s = getattr(camera, "latest_timestamp", None)
        if time_s is None or not any(getattr(camera, name, None) is image for name in _NEWEST):
            return None
    return int(float(time_s) * _NS_PER_S)
