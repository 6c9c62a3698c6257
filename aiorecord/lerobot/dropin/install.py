"""Adds the proposal's six methods to lerobot's own `LeRobotDataset`, until they are removed again.

::

    import aiorecord.lerobot

    aiorecord.lerobot.install()
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from lerobot.datasets import LeRobotDataset

from .lerobot_dataset import AsyncLeRobotDataset

METHODS = (
    "enable_async_saving",
    "save_episode_async",
    "get_async_save_status",
    "wait_for_async_saves",
    "get_async_save_results",
    "disable_async_saving",
)
"""Of `AsyncLeRobotDataset`. They work on a dataset that lerobot writes too: the first turns it into one."""

_lock = threading.Lock()
_installed: list[Installation] = []
_before: dict[str, Any] = {}
"""The attributes that the class had under the methods' names before; empty if none."""


class Installation:
    """The result of `install`, which can be undone; as a context manager it is undone at the block's end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the methods from the class, if no other installation is left. Idempotent.

        A dataset that saves asynchronously already keeps doing so: it is an `AsyncLeRobotDataset`.
        """
        with _lock:
            if self in _installed:
                _installed.remove(self)
                if not _installed:
                    _restore()


def install() -> Installation:
    """Add the proposal's methods to lerobot's `LeRobotDataset`, in this process, until they are removed.

    They are ``enable_async_saving``, ``save_episode_async``, ``get_async_save_status``,
    ``wait_for_async_saves``, ``get_async_save_results`` and ``disable_async_saving``, as
    `AsyncLeRobotDataset` has them. Nothing else of lerobot is changed: a dataset is written by lerobot until
    ``enable_async_saving`` is called on it, which does what `aiorecord.lerobot.enable_async_saving` does.

    Returns:
        An object to undo it: ``with install():``, `Installation.remove`, or `uninstall`.
    """
    installation = Installation()
    with _lock:
        if not _installed:
            own = vars(LeRobotDataset)
            _before.update({name: own[name] for name in METHODS if name in own})
            for name in METHODS:
                setattr(LeRobotDataset, name, vars(AsyncLeRobotDataset)[name])
        _installed.append(installation)
    return installation


def uninstall() -> None:
    """Undo every `install`. Does nothing if there was none."""
    with _lock:
        if _installed:
            _installed.clear()
            _restore()


def _restore() -> None:
    for name in METHODS:
        if name in _before:
            setattr(LeRobotDataset, name, _before[name])
        else:
            delattr(LeRobotDataset, name)
    _before.clear()
