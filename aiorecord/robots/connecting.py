"""Connects a robot and its teleoperator, and disconnects both whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import SourceError
from ..printable import get_logger
from ..system.uncancellable import UncancellableTask, finished
from .guarding.device_reports import layers
from .guarding.guard import RELEASE_S, Guard, release
from .protocols import Robot, Teleoperator

logger = get_logger(__name__)


@asynccontextmanager
async def connected(robot: Robot, teleop: Teleoperator | None) -> AsyncIterator[None]:
    """Connect both; disconnect both at the end, whatever fails and whoever is cancelled.

    The teleoperator is connected first and disconnected last, so that the robot does not wait idle (lerobot's
    order). Drivers may calibrate while they connect, and ask questions on the terminal.

    Raises:
        SourceError: one of them failed, or does not return from `disconnect`. Errors in disconnecting are
            added as notes to an error before them.
    """
    begun: dict[str, Robot | Teleoperator] = {}
    try:
        if teleop is not None:
            begun["teleop"] = teleop
            await teleop.connect()
        begun["robot"] = robot
        await robot.connect()
        yield
    except BaseException as error:
        _add_notes(error, await _disconnect(begun))
        raise
    if problems := await _disconnect(begun):
        _add_notes(problems[0], problems[1:])
        raise problems[0]


def _add_notes(error: BaseException, problems: list[Exception]) -> None:
    for problem in problems:
        error.add_note(f"And while disconnecting: {problem}")


async def _disconnect(devices: dict[str, Robot | Teleoperator]) -> list[Exception]:
    """Disconnect each, last first, also if the caller is cancelled meanwhile; returns the errors."""
    task = UncancellableTask(_disconnect_each(devices), name="aiorecord-disconnect")
    try:
        return await finished(task)
    except asyncio.CancelledError:
        for problem in task.result() if task.done() else ():
            logger.warning("While disconnecting: %s", problem)
        raise


async def _disconnect_each(devices: dict[str, Robot | Teleoperator]) -> list[Exception]:
    problems: list[Exception] = []
    for source, device in reversed(devices.items()):
        try:
            if any(isinstance(layer, Guard) for layer in layers(device)):
                await device.disconnect()  # it has time limits of its own
            elif not await release(device, source):
                raise SourceError(
                    f"The {source} {device.name!r} does not disconnect within {RELEASE_S:g} s.",
                    source=source,
                    call="disconnect",
                )
        except Exception as error:  # noqa: BLE001 - the other device must be released too
            problems.append(error)
    return problems
