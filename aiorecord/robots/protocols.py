"""The interfaces of robots and teleoperators, awaited or blocking.

Features are LeRobot *dataset* feature dicts, keyed as recorded, and observations and actions are dicts with
those keys::

    robot.observation_features   {"observation.state": {"dtype": "float32", "shape": (6,), "names": [...]},
                                  "observation.images.front": {"dtype": "video", "shape": (480, 640, 3), ...}}
    teleoperator.action_features {"action": {"dtype": "float32", "shape": (6,), "names": [...]}}

so that ``{**observation, **action}`` is a frame and ``{**robot.observation_features,
**teleoperator.action_features}`` a feature dict. LeRobot's flat hardware style (``{"shoulder_pan.pos": float,
"front": (480, 640, 3)}``) is accepted as well: `aiorecord.robots.schema` turns either into the former.

What a method raises reaches the record loop as it is; `aiorecord.robots.blocking.threaded` and the robots of
this package raise `SourceError`.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

type Features = dict[str, Any]
"""LeRobot's feature dict (key to ``{"dtype", "shape", "names"}``), or its flat hardware style."""

type Values = dict[str, Any]
"""An observation or an action, keyed like the features that describe it."""


class Described(Protocol):
    """The properties of every device."""

    @property
    def name(self) -> str:
        """The device's type; a robot's is stored as ``robot_type`` in the dataset."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether ``connect`` succeeded and ``disconnect`` was not called since."""
        ...

    @property
    def action_features(self) -> Features:
        """The features of an action, sent or returned. Must not touch the hardware."""
        ...


class Device(Described, Protocol):
    """A robot or a teleoperator, driven from the event loop."""

    async def connect(self) -> None:
        """Open the hardware. If it raises or is cancelled, `disconnect` is still called."""
        ...

    async def disconnect(self) -> None:
        """Release the hardware. Idempotent, and safe after a `connect` that failed."""
        ...


@runtime_checkable
class Robot(Device, Protocol):
    """A robot driven from the event loop. Its methods are never called concurrently."""

    @property
    def observation_features(self) -> Features:
        """The features of `get_observation`'s result. Known before `connect`."""
        ...

    async def get_observation(self) -> Values:
        """The newest observation. Arrays in it belong to the caller until the next call at least."""
        ...

    async def send_action(self, action: Values) -> Values:
        """Move towards an action.

        Returns:
            The action actually sent, for instance clipped to the joint limits.
        """
        ...


@runtime_checkable
class Teleoperator(Device, Protocol):
    """A source of actions driven from the event loop. Its methods are never called concurrently."""

    async def get_action(self) -> Values:
        """The action that the operator requests now."""
        ...


class BlockingDevice(Described, Protocol):
    """A robot or a teleoperator with plain methods."""

    def connect(self) -> None:
        """As `Device.connect`."""
        ...

    def disconnect(self) -> None:
        """As `Device.disconnect`; it may raise when it is not connected."""
        ...


@runtime_checkable
class BlockingRobot(BlockingDevice, Protocol):
    """A robot with plain methods, such as every LeRobot driver; see `ThreadedRobot`."""

    @property
    def observation_features(self) -> Features:
        """As `Robot.observation_features`; must not touch the hardware."""
        ...

    def get_observation(self) -> Values:
        """As `Robot.get_observation`."""
        ...

    def send_action(self, action: Values, /) -> Values:
        """As `Robot.send_action`."""
        ...


@runtime_checkable
class BlockingTeleoperator(BlockingDevice, Protocol):
    """A teleoperator with plain methods; see `ThreadedTeleoperator`."""

    def get_action(self) -> Values:
        """As `Teleoperator.get_action`."""
        ...
