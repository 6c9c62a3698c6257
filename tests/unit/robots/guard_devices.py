"""Devices whose calls are scripted, for tests of the guards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from helpers import FEATURES, picture

from aiorecord.errors import SourceError

STATE, FRONT = "observation.state", "observation.images.front"
OBSERVED = {key: FEATURES[key] for key in (STATE, FRONT)}
ACTED = {"action": FEATURES["action"]}

type Fault = Callable[[Any], Any]


class Device:
    """Robot and teleoperator in one; `faults` maps a method to {call number: what happens to its value}."""

    name = "scripted"

    def __init__(self, **faults: dict[int, Fault | Exception | str]) -> None:
        self.faults = faults
        self.calls: dict[str, int] = {}
        self.sent: list[Any] = []
        self.inside = 0
        self.connects = self.disconnects = 0
        self.is_connected = False
        self.observation_features = OBSERVED
        self.action_features = ACTED
        self.release = asyncio.Event()
        self.buffer = np.zeros((48, 64, 3), np.uint8)

    async def connect(self) -> None:
        await self._call("connect", None)
        self.connects += 1
        self.is_connected = True

    async def disconnect(self) -> None:
        self.disconnects += 1
        self.is_connected = False

    async def get_observation(self) -> Any:
        n = self.calls.get("get_observation", 0)
        np.copyto(self.buffer, picture(n))  # as drivers do: the same memory every time
        return await self._call("get_observation", {STATE: np.full(3, n, np.float32), FRONT: self.buffer})

    async def get_action(self) -> Any:
        n = self.calls.get("get_action", 0)
        return await self._call("get_action", {"action": np.full(3, n, np.float32)})

    async def send_action(self, action: Any) -> Any:
        value = await self._call("send_action", action)
        self.sent.append(action)
        return value

    async def _call(self, call: str, value: Any) -> Any:
        assert self.inside == 0, "two calls at once"
        self.inside += 1
        try:
            n = self.calls[call] = self.calls.get(call, 0) + 1
            fault = self.faults.get(call, {}).get(n - 1)
            if isinstance(fault, Exception):
                raise fault
            if fault == "hang":
                await self.release.wait()
            elif fault == "hang deaf":  # swallows its cancellation
                while not self.release.is_set():
                    try:
                        await self.release.wait()
                    except asyncio.CancelledError:
                        continue
            elif callable(fault):
                return fault(value)
            return value
        finally:
            self.inside -= 1


def broken(call: str = "get_observation") -> SourceError:
    """What a driver raises."""
    return SourceError("cable", source="robot", call=call)


def without(key: str) -> Fault:
    """The value lacks a key."""
    return lambda value: {k: v for k, v in value.items() if k != key}


def instead(key: str, replacement: Any) -> Fault:
    """The value has something else under a key."""
    return lambda value: {**value, key: replacement}
