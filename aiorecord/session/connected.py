"""A context manager that connects a robot and its teleoperator, and disconnects them at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..robots.protocols import Robot, Teleoperator
from ..system.uncancellable import UncancellableTask, finished


@asynccontextmanager
async def connected(robot: Robot, teleop: Teleoperator) -> AsyncIterator[None]:
    """Connect both, teleoperator first; disconnect both on the way out, robot first (lerobot's order).

    Both are disconnected in any case, also when connecting failed.

    Raises:
        SourceError: one of them failed. An error while disconnecting is added as a note to one before it.
    """
    devices: tuple[Teleoperator | Robot, ...] = (teleop, robot)
    started: list[Teleoperator | Robot] = []
    try:
        for device in devices:
            started.append(device)
            await device.connect()
        yield
    except BaseException as error:
        for problem in await _let_go(started):
            error.add_note(f"And while disconnecting: {problem}")
        raise
    for problem in await _let_go(started):
        raise problem


async def _let_go(devices: list[Teleoperator | Robot]) -> list[Exception]:
    """Disconnect each, also if the caller is cancelled meanwhile. The guards limit how long that takes."""
    return await finished(UncancellableTask(_disconnect(devices), name="aiorecord-disconnect"))


async def _disconnect(devices: list[Teleoperator | Robot]) -> list[Exception]:
    """Disconnect each, last first; returns the errors."""
    problems: list[Exception] = []
    for device in reversed(devices):
        try:
            await device.disconnect()
        except Exception as error:  # noqa: BLE001 - the other devices must be released too
            problems.append(error)
    return problems
