"""Records the action that a robot reports as sent, instead of the requested action.

A record loop observes, asks the teleoperator, and acts. With these wrappers, asking the teleoperator sends
the action at once and returns what was sent, and the later act does nothing. The devices see the same calls
in the same order, and the loop records the action that was sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import SourceError, StateError
from ..protocols import Features, Robot, Teleoperator, Values
from .device_wrapper import RobotWrapper, TeleoperatorWrapper


class _SentRobot(RobotWrapper):
    """A robot whose actions are sent by its `_SentTeleoperator`."""

    async def send_action(self, action: Values) -> Values:
        """Do nothing: the action was sent when the teleoperator was asked.

        Returns:
            The action.
        """
        return action


class _SentTeleoperator(TeleoperatorWrapper):
    """A teleoperator that sends its action to the robot and returns what the robot reports as sent."""

    def __init__(self, teleop: Teleoperator, robot: Robot) -> None:
        super().__init__(teleop)
        self._robot = robot

    @property
    def action_features(self) -> Features:
        """The robot's if it declares them, since its actions are recorded; else the teleoperator's."""
        return self._robot.action_features or self.inner.action_features

    async def get_action(self) -> Values:
        """The action that the robot sent.

        Raises:
            SourceError: a driver failed, or the robot does not return what it sent.
            StateError: the robot is not connected.
        """
        if not self._robot.is_connected:
            raise StateError(f"The robot {self._robot.name!r} is not connected; its actions cannot be sent.")
        sent = await self._robot.send_action(await self.inner.get_action())
        if not isinstance(sent, Mapping):
            raise SourceError(
                f"The robot {self._robot.name!r} does not return the action it sent (send_action() returned "
                f"{type(sent).__name__}), so it cannot be recorded.",
                source="robot",
                call="send_action",
            )
        return dict(sent)


def recording_sent_action(robot: Robot, teleop: Teleoperator) -> tuple[Robot, Teleoperator]:
    """Wrap a robot and a teleoperator so that the recorded ``action`` is what `send_action` returned.

    Args:
        robot: the robot.
        teleop: the teleoperator; only to be used with this robot.
    """
    return _SentRobot(robot), _SentTeleoperator(teleop, robot)


def apart(robot: Robot, teleop: Teleoperator) -> tuple[Robot, Teleoperator] | None:
    """The two devices that `recording_sent_action` wrapped, None if these are not its wrappers."""
    if isinstance(robot, _SentRobot) and isinstance(teleop, _SentTeleoperator):
        return robot.inner, teleop.inner
    return None
