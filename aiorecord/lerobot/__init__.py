"""Everything that needs the `lerobot` package (the extra ``lerobot``).

Names are imported when they are first used: importing this package imports neither lerobot nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system.installation import install_hint
from ..system.lazy_names import lazy_names

if TYPE_CHECKING:
    from .drivers.lerobot_devices import Devices, make_devices
    from .drivers.processors import Processors
    from .dropin.install import install, uninstall
    from .dropin.lerobot_dataset import AsyncLeRobotDataset, enable_async_saving
    from .dropin.sync_saver import AsyncEpisodeSaver
else:

    def _explain(name: str, error: ModuleNotFoundError) -> str | None:
        if error.name != "lerobot":
            return None
        return f"aiorecord.lerobot.{name} needs the extra lerobot. Install it: {install_hint('lerobot')}"

    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "drivers.lerobot_devices": "Devices make_devices",
            "drivers.processors": "Processors",
            "dropin.install": "install uninstall",
            "dropin.lerobot_dataset": "AsyncEpisodeSaver AsyncLeRobotDataset enable_async_saving",
        },
        explain=_explain,
    )

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
