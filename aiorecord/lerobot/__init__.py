"""LeRobot inside: what needs the real `lerobot` package (the extra ``lerobot``).

Names are imported when they are first used: importing this package imports neither lerobot nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..installed import install_hint

if TYPE_CHECKING:
    from .dataset import AsyncLeRobotDataset, enable_async_saving
    from .devices import Devices, make_devices
    from .installed import install, uninstall
    from .processors import Processors
    from .saver import AsyncEpisodeSaver

_HOMES = {
    "AsyncEpisodeSaver": "saver",
    "AsyncLeRobotDataset": "dataset",
    "Devices": "devices",
    "Processors": "processors",
    "enable_async_saving": "dataset",
    "install": "installed",
    "make_devices": "devices",
    "uninstall": "installed",
}
"""Public names and the modules they live in."""

__all__ = [
    "AsyncEpisodeSaver",
    "AsyncLeRobotDataset",
    "Devices",
    "Processors",
    "enable_async_saving",
    "install",
    "make_devices",
    "uninstall",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name != "lerobot":
            raise
        raise ModuleNotFoundError(
            f"aiorecord.lerobot.{name} needs the extra lerobot. Install it: {install_hint('lerobot')}",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
