"""Base classes of devices that wrap another device: they pass every call on, and subclasses override some.

The wrapped device is the attribute ``inner``; see `aiorecord.robots.guarding.device_reports.layers`.
"""

from __future__ import annotations

from ..protocols import Features, Robot, Teleoperator, Values


class Wrapper[D: Robot | Teleoperator]:
    """Base class of wrappers around a robot or a teleoperator.

    Args:
        inner: the device that is wrapped.
    """

    def __init__(self, inner: D) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        """The device's own."""
        return self.inner.name

    @property
    def is_connected(self) -> bool:
        """Whether the device says that it is connected."""
        return self.inner.is_connected

    @property
    def action_features(self) -> Features:
        """The device's own."""
        return self.inner.action_features

    async def connect(self) -> None:
        """Connect the device; as its own `connect`."""
        await self.inner.connect()

    async def disconnect(self) -> None:
        """Disconnect the device; as its own `disconnect`."""
        await self.inner.disconnect()


class RobotWrapper(Wrapper[Robot]):
    """A robot that wraps another."""

    @property
    def observation_features(self) -> Features:
        """The device's own."""
        return self.inner.observation_features

    async def get_observation(self) -> Values:
        """The device's observation."""
        return await self.inner.get_observation()

    async def send_action(self, action: Values) -> Values:
        """Send an action to the device; as its own `send_action`."""
        return await self.inner.send_action(action)


class TeleoperatorWrapper(Wrapper[Teleoperator]):
    """A teleoperator that wraps another."""

    async def get_action(self) -> Values:
        """The device's action."""
        return await self.inner.get_action()
