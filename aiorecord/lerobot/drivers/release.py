"""Disconnects a lerobot device, whatever state it is in.

`disconnect` of most lerobot drivers refuses when one part is missing (an unplugged camera makes the robot
"not connected"), and stops at the first part that fails. The motors then keep their torque. So the remaining
parts are released one by one: torque off if the configuration asks for it, ports closed, cameras stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ...printable import get_logger

logger = get_logger(__name__)


def disconnect(device: Any) -> None:
    """Disconnect a lerobot robot or teleoperator, including parts that its own `disconnect` leaves connected.

    Does nothing to a device that is not connected at all.

    Raises:
        Exception: the device's error, or that of the first part that could not be released; the others were.
    """
    from lerobot.utils.errors import DeviceNotConnectedError

    refusal: Exception | None = None
    problem: Exception | None = None
    try:
        device.disconnect()
    except DeviceNotConnectedError as error:
        refusal = error
    except Exception as error:  # noqa: BLE001 - raised below, after the parts were released
        problem = error
    released, errors = _release_parts(device)
    if released:
        logger.warning(
            "%s did not disconnect as a whole (%s); released one by one: %s.",
            device,
            problem or refusal or "its parts were still connected",
            ", ".join(released),
        )
    problem = problem or (errors[0] if errors else None)
    if problem is not None:
        for other in errors:
            if other is not problem:
                problem.add_note(f"and: {other}")
        raise problem


def _release_parts(device: Any) -> tuple[list[str], list[Exception]]:
    """Release every part that is connected; returns what was released and what failed."""
    released: list[str] = []
    errors: list[Exception] = []

    def attempt(what: str, release: Callable[[], Any]) -> bool:
        try:
            release()
        except Exception as error:  # noqa: BLE001 - the other parts must be released too
            error.add_note(f"({what})")
            errors.append(error)
            return False
        return True

    for name, part, torque_off in _connected_parts(device, ""):
        release = part.disconnect
        if _is_bus(part):
            for motor in part.motors if torque_off else ():
                # A motor that does not answer must not keep the others powered.
                attempt(f"the torque of {name}.{motor}", partial(part.disable_torque, motor))
            release = partial(part.disconnect, False)
        if attempt(name, release):
            released.append(name)
    return released, errors


def _connected_parts(device: Any, prefix: str) -> Iterator[tuple[str, Any, bool]]:
    """Buses first, then cameras, of the device and of the devices it is made of."""
    from lerobot.cameras.camera import Camera
    from lerobot.robots import Robot
    from lerobot.teleoperators import Teleoperator

    torque_off = bool(getattr(getattr(device, "config", None), "disable_torque_on_disconnect", True))
    parts = [(prefix + name, part) for name, part in _flattened(vars(device))]
    seen: set[int] = set()
    for name, part in sorted(parts, key=lambda named: isinstance(named[1], Camera)):
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Robot | Teleoperator):
            yield from _connected_parts(part, f"{name}.")
        elif _is_bus(part):
            if part.is_connected:
                yield name, part, torque_off
        elif isinstance(part, Camera) and (part.is_connected or getattr(part, "thread", None) is not None):
            # An unplugged camera is not connected, but its thread goes on trying.
            yield name, part, torque_off


def _flattened(values: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", part) for key, part in value.items())
        else:
            yield str(name), value


def _is_bus(part: Any) -> bool:
    from lerobot.motors.motors_bus import MotorsBusBase

    return isinstance(part, MotorsBusBase)
