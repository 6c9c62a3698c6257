"""Everything that needs the `lerobot` package (the extra ``lerobot``).

Names are imported when they are first used: importing this package imports neither lerobot nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..system.installation import install_hint

if TYPE_CHECKING:
    from .drivers.lerobot_devices import Devices, make_devices
    from .drivers.processors import Processors
    from .dropin.install import install, uninstall
    from .dropin.lerobot_dataset import AsyncLeRobotDataset, enable_async_saving
    from .dropin.sync_saver import AsyncEpisodeSaver

_HOMES = {
    "AsyncEpisodeSaver": "dropin.lerobot_dataset",
    "AsyncLeRobotDataset": "dropin.lerobot_dataset",
    "Devices": "drivers.lerobot_devices",
    "Processors": "drivers.processors",
    "enable_async_saving": "dropin.lerobot_dataset",
    "install": "dropin.install",
    "make_devices": "drivers.lerobot_devices",
    "uninstall": "dropin.install",
}
"""Public names and their modules."""

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
