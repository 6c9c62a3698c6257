"""The data that a viewer shows for one tick, and the interface of its destinations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class View:
    """What is shown of one tick. Nothing in it is copied.

    Attributes:
        observation: what the robot saw, keyed as in a frame, or flat.
        action: what was asked of it, likewise.
        features: the dataset's feature dict.
    """

    observation: Mapping[str, Any]
    action: Mapping[str, Any]
    features: Mapping[str, Mapping[str, Any]]


class Sink(Protocol):
    """Where views go. All methods are called from the viewer's thread, and may block.

    Attributes:
        hint: after `open`, what has to be done to see something, or None.
    """

    hint: str | None

    def open(self) -> str | None:
        """Connect.

        Returns:
            Why nothing will be seen, None when all is well.

        Raises:
            AiorecordError: it cannot be opened.
        """
        ...

    def show(self, view: View) -> None:
        """Show a view."""
        ...

    def close(self) -> None:
        """Send what is left, within a second or two, and disconnect."""
        ...

    def abandon(self) -> None:
        """The sink is stuck in a call: see to it that the process can end. Called from another thread."""
        ...
