"""Adds the proposal's six methods to lerobot's own `LeRobotDataset`, until they are removed again.

::

    import aiorecord.lerobot

    aiorecord.lerobot.install()
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from lerobot.datasets import LeRobotDataset

from .attach import replace_writer
from .lerobot_dataset import save_in_foreground
from .sync_saver import IDLE_STATUS

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
            _before.update({name: own[name] for name in _METHODS if name in own})
            for name, method in _METHODS.items():
                setattr(LeRobotDataset, name, method)
        _installed.append(installation)
    return installation


def uninstall() -> None:
    """Undo every `install`. Does nothing if there was none."""
    with _lock:
        if _installed:
            _installed.clear()
            _restore()


def _restore() -> None:
    for name in _METHODS:
        if name in _before:
            setattr(LeRobotDataset, name, _before[name])
        else:
            delattr(LeRobotDataset, name)
    _before.clear()


# For datasets that lerobot writes. The first method turns one into an `AsyncLeRobotDataset`, which has its
# own.


def _enable_async_saving(
    self: LeRobotDataset, max_queue_size: int = 10, save_timeout: float | None = 300.0
) -> None:
    """Enable `save_episode_async`, and let aiorecord write the dataset.

    See `aiorecord.lerobot.AsyncLeRobotDataset.enable_async_saving`.
    """
    replace_writer(self).enable_async_saving(max_queue_size, save_timeout)


def _save_episode_async(
    self: LeRobotDataset, episode_buffer: Mapping[str, Any] | None = None, priority: int = 0
) -> bool:
    """Save the running episode, in the foreground: asynchronous saving is not enabled. Returns True."""
    return save_in_foreground(self, episode_buffer)


def _get_async_save_status(self: LeRobotDataset) -> dict[str, Any]:
    """Return the counts and health: all zero, nothing runs."""
    return {**IDLE_STATUS, "async_saving_enabled": False}


def _wait_for_async_saves(self: LeRobotDataset, timeout: float | None = None) -> bool:
    """Return True: no save is pending."""
    return True


def _get_async_save_results(self: LeRobotDataset) -> list[dict[str, Any]]:
    """Return no results: nothing was saved asynchronously."""
    return []


def _disable_async_saving(
    self: LeRobotDataset, wait_for_completion: bool = True, timeout: float | None = None
) -> None:
    """Do nothing: asynchronous saving is not enabled."""


_METHODS = {
    "enable_async_saving": _enable_async_saving,
    "save_episode_async": _save_episode_async,
    "get_async_save_status": _get_async_save_status,
    "wait_for_async_saves": _wait_for_async_saves,
    "get_async_save_results": _get_async_save_results,
    "disable_async_saving": _disable_async_saving,
}
for _name, _method in _METHODS.items():
    _method.__name__, _method.__qualname__ = _name, f"LeRobotDataset.{_name}"
