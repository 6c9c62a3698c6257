"""Robots and teleoperators that fail on a schedule, to test how a recording program reacts.

    robot = FaultyRobot(SimRobot(), [Fault("front", "none", at=30, calls=15), Fault("robot", "hang", at=90)])

On the command line: ``--robot.faults='[{source: front, kind: none, at: 30, calls: 15}]'``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, SourceError
from .guarding.device_wrapper import RobotWrapper, TeleoperatorWrapper, Wrapper
from .guarding.source_policy import short
from .protocols import Robot, Teleoperator, Values

CALL_KINDS = ("raise", "hang", "disconnect", "returns_none")
VALUE_KINDS = ("none", "missing", "shape", "dtype", "nan", "repeat")
SOURCES = {"robot": "get_observation", "robot.send_action": "send_action", "teleop": "get_action"}


@dataclass
class Fault:
    """A failure that begins at one call and lasts for some.

    Attributes:
        source: ``robot``, ``robot.send_action`` or ``teleop`` for the whole call; else a value in an
            observation or action: ``front`` or ``observation.images.front``, ``observation.state``,
            ``action``.
        kind: for a call: ``raise``; ``hang`` (it returns when it is cancelled); ``disconnect`` (it raises
            until the device is connected again, which fails ``calls`` times); ``returns_none``. For a value:
            ``none``, ``missing``, ``shape``, ``dtype``, ``nan``, or ``repeat`` (the previous value again).
        at: number of the call at which it begins, from 0, since the program began.
        calls: how many calls it lasts.

    Raises:
        ConfigError: there is no such kind, or a number is out of range.
    """

    source: str = "robot"
    kind: str = "raise"
    at: int = 0
    calls: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        kinds = CALL_KINDS if self.source in SOURCES else VALUE_KINDS
        if self.kind not in kinds:
            raise ConfigError(
                f"A fault of {self.source!r} is one of {', '.join(kinds)}, not {self.kind!r}.",
                option="faults",
            )
        if self.at < 0 or self.calls < 1:
            raise ConfigError("A fault begins at call 0 or later and lasts 1 or more.", option="faults")

    def is_due(self, number: int) -> bool:
        """Whether it affects the call of this number."""
        return self.at <= number < self.at + self.calls


class _Faulty[D: Robot | Teleoperator](Wrapper[D]):
    """Base class of `FaultyRobot` and `FaultyTeleoperator`."""

    _sources: tuple[str, ...]

    def __init__(self, inner: D, faults: Sequence[Fault]) -> None:
        super().__init__(inner)
        for fault in faults:
            if fault.source in SOURCES and fault.source not in self._sources:
                raise ConfigError(
                    f"This device has no {fault.source!r}; it has {', '.join(self._sources)}.",
                    option="faults",
                )
        self._faults = list(faults)
        self._calls = dict.fromkeys(self._sources, 0)
        self._before: Values = {}
        self._unplugged: Fault | None = None
        self._refusals = 0

    async def connect(self) -> None:
        """Connect the device.

        Raises:
            SourceError: it is unplugged.
        """
        if self._unplugged is not None and self._refusals > 0:
            self._refusals -= 1
            raise _error(self._unplugged.source, "connect")
        self._unplugged = None
        await super().connect()

    async def _call(self, source: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Make a call, unless it must fail, hang or return None.

        Raises:
            SourceError: on schedule.
        """
        number = self._calls[source]
        self._calls[source] += 1
        if self._unplugged is not None:
            raise _error(source, SOURCES[source])
        fault = next((f for f in self._faults if f.source == source and f.is_due(number)), None)
        if fault is None:
            return await function(*args)
        if fault.kind == "disconnect":
            self._faults.remove(fault)
            self._unplugged, self._refusals = fault, fault.calls
        if fault.kind == "hang":
            await asyncio.get_running_loop().create_future()
        if fault.kind == "returns_none":
            return None
        raise _error(source, SOURCES[source])

    async def _read(self, source: str, function: Callable[[], Awaitable[Values]]) -> Any:
        """As `_call`; the values that are due to be spoiled are."""
        number = self._calls[source]
        values = await self._call(source, function)
        if values is None:
            return None
        result = dict(values)
        for fault in self._faults:
            if fault.source in SOURCES or not fault.is_due(number):
                continue
            for key in values:
                if fault.source in (key, short(key)):
                    _spoil(fault.kind, key, result, self._before)
        self._before = values
        return result


class FaultyRobot(_Faulty[Robot], RobotWrapper):
    """A robot that fails on schedule.

    Args:
        inner: the robot.
        faults: what fails, and when.

    Raises:
        ConfigError: a fault that this device cannot have.
    """

    _sources = ("robot", "robot.send_action")

    async def get_observation(self) -> Any:
        """The device's observation, with the scheduled faults.

        Raises:
            SourceError: on schedule.
        """
        return await self._read("robot", self.inner.get_observation)

    async def send_action(self, action: Values) -> Any:
        """Send an action, or fail to.

        Raises:
            SourceError: on schedule.
        """
        return await self._call("robot.send_action", self.inner.send_action, action)


class FaultyTeleoperator(_Faulty[Teleoperator], TeleoperatorWrapper):
    """A teleoperator that fails on schedule; arguments and errors as of `FaultyRobot`."""

    _sources = ("teleop",)

    async def get_action(self) -> Any:
        """The device's action, with the scheduled faults.

        Raises:
            SourceError: on schedule.
        """
        return await self._read("teleop", self.inner.get_action)


def _error(source: str, call: str) -> SourceError:
    return SourceError(f"{call}() fails on schedule.", source=source, call=call)


def _spoil(kind: str, key: str, values: Values, before: Values) -> None:
    import numpy as np

    value = np.asarray(values[key])
    if kind == "none":
        values[key] = None
    elif kind == "missing":
        del values[key]
    elif kind == "shape":
        values[key] = value[..., :1][:1]
    elif kind == "dtype":
        values[key] = value.astype(np.complex128)
    elif kind == "nan":
        values[key] = np.full(value.shape, np.nan, np.float32)
    else:
        values[key] = before.get(key, values[key])
