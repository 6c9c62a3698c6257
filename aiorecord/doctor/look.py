"""Looking at everything, part by part. A part that fails is a finding; the others are still looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from . import devices, disk, permissions, speed, versions
from .findings import Finding, Level

type Part = Callable[[], Iterator[Finding]]


def look(folder: Path, *, fast: bool = False) -> Iterator[Finding]:
    """Look at this machine. Blocking; takes some seconds, less than one with `fast`.

    Args:
        folder: where datasets are to be recorded.
        fast: do not measure how fast codecs and the disk are.

    Yields:
        What was found, section by section.
    """
    parts: dict[str, Part] = {
        "versions": versions.packages,
        "machine": versions.machine,
        "permissions": permissions.permissions,
        "cameras": devices.cameras,
        "ports": devices.ports,
        "memory": disk.memory,
        "disk": partial(disk.space, folder),
    }
    if not fast:
        parts |= {"speed": partial(disk.speed, folder), "codecs": speed.codecs}
    for name, part in parts.items():
        try:
            yield from part()
        except Exception as error:  # noqa: BLE001 - whatever a machine refuses is what is looked for
            yield Finding(
                name,
                name,
                f"could not be looked at: {type(error).__name__}: {error}",
                Level.WARN,
                "Put this line into a report of the fault.",
            )
