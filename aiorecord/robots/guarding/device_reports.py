"""Optional reports of a robot or teleoperator about itself, also through wrappers around it.

A device may offer the following; nothing of it is required:

- ``frame_times_ns() -> Mapping[str, int]``: when each camera took its image of the newest observation, in
  nanoseconds on any scale of that camera's own, keyed like the observation. Cameras whose time is not known
  for certain are left out. It is called on the event loop after `get_observation`, and must be quick.
- ``new_images: bool``: True promises that every image it returns is new and never changed again, so that it
  is recorded without a copy.
- ``new_timings() -> dict[str, CallTiming]``: how long driver methods took since its previous call, see
  `ThreadedRobot`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ...features import Schema
from ..protocols import Robot, Teleoperator
from ..schema import ACTION, IMAGES

_WRAPPED = ("inner", "blocking")


def layers(device: Any) -> Iterator[Any]:
    """Yield a device, then the device it wraps (as ``inner`` or ``blocking``), and so on."""
    seen: list[Any] = []
    while device is not None and not any(device is other for other in seen):
        seen.append(device)
        yield device
        device = next(
            (inner for name in _WRAPPED if (inner := getattr(device, name, None)) is not None), None
        )


def frame_times(robot: Robot, features: Mapping[str, Any]) -> Callable[[], dict[str, int]] | None:
    """A function that returns when the images of the newest observation were taken, by feature key.

    Args:
        robot: the robot.
        features: of the dataset; times of other keys are left out.

    Returns:
        None if the robot does not know.
    """
    tell = next((d.frame_times_ns for d in layers(robot) if hasattr(d, "frame_times_ns")), None)
    if tell is None:
        return None

    def times() -> dict[str, int]:
        found: dict[str, int] = {}
        for name, time_ns in tell().items():
            key = name if name in features else f"{IMAGES}{name}"
            if key in features:
                found[key] = time_ns
        return found

    return times


def gives_new_images(device: Any) -> bool:
    """Whether the images of a device may be kept without a copy."""
    return next((bool(d.new_images) for d in layers(device) if hasattr(d, "new_images")), False)


def must_copy(robot: Robot, teleop: Teleoperator, schema: Schema) -> bool:
    """Whether the images of a frame must be copied, because a device may write into them again."""
    asked = any(key.startswith(ACTION) for key in schema.cameras)
    return not (gives_new_images(robot) and (not asked or gives_new_images(teleop)))


def new_call_times(robot: Robot, teleop: Teleoperator) -> dict[str, dict[str, float | int]]:
    """How long driver calls took since the previous call, by ``robot.<method>`` and ``teleop.<method>``.

    Returns:
        ``count, p50_ms, p99_ms, max_ms`` of each; empty if nothing measures them.
    """
    found: dict[str, dict[str, float | int]] = {}
    for source, device in (("robot", robot), ("teleop", teleop)):
        for layer in layers(device):
            if hasattr(layer, "new_timings"):
                for call, timing in layer.new_timings().items():
                    found[f"{source}.{call}"] = {k: round(v, 3) for k, v in asdict(timing).items()}
    return found
