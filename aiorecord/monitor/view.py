"""The data that a viewer shows for one tick, and the interface of its destinations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .entities import ACTION, OBSERVATION, Entity, entities


@dataclass(frozen=True)
class View:
    """The data of one tick for a viewer. Nothing in it is copied.

    Attributes:
        observation: the robot's observation, keyed as in a frame, or flat.
        action: the requested action, likewise.
        features: the dataset's feature dict.
    """

    observation: Mapping[str, Any]
    action: Mapping[str, Any]
    features: Mapping[str, Mapping[str, Any]]

    def entities(self) -> dict[str, list[Entity]]:
        """The entities of the observation and of the action, by side."""
        sides = {OBSERVATION: self.observation, ACTION: self.action}
        return {side: list(entities(side, values, self.features)) for side, values in sides.items()}


class Sink(Protocol):
    """A destination of views. All methods are called from the viewer's thread, and may block.

    Attributes:
        hint: after `open`, what the user must do to see something, or None.
    """

    hint: str | None

    def open(self) -> str | None:
        """Connect.

        Returns:
            Why nothing will be shown, None if it will.

        Raises:
            AiorecordError: it cannot be opened.
        """
        ...

    def show(self, view: View) -> None:
        """Show a view."""
        ...

    def close(self) -> None:
        """Send the remaining views, within a second or two, and disconnect."""
        ...

    def abandon(self) -> None:
        """Make sure that the process can end although a call is stuck. Called from another thread."""
        ...
