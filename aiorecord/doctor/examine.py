"""Runs all checks of the machine. A check that fails is reported as a finding; the others still run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from . import codec_speed, device_checks, disk_checks, permission_checks, version_checks
from .diagnosis import Finding, Level

type Part = Callable[[], Iterator[Finding]]


def look(folder: Path, *, fast: bool = False) -> Iterator[Finding]:
    """Examine this machine. Blocking; takes some seconds, less than one with `fast`.

    Args:
        folder: where datasets are to be recorded.
        fast: do not measure how fast codecs and the disk are.

    Yields:
        The findings, section by section.
    """
    parts: dict[str, Part] = {
        "versions": version_checks.packages,
        "machine": version_checks.machine,
        "permissions": permission_checks.permissions,
        "cameras": device_checks.cameras,
        "ports": device_checks.ports,
        "memory": disk_checks.memory,
        "disk": partial(disk_checks.space, folder),
    }
    if not fast:
        parts |= {"speed": partial(disk_checks.speed, folder), "codecs": codec_speed.codecs}
    for name, part in parts.items():
        try:
            yield from part()
        except Exception as error:  # noqa: BLE001 - whatever a machine refuses is what is looked for
            yield Finding(
                name,
                name,
                f"could not be examined: {type(error).__name__}: {error}",
                Level.WARN,
                "Put this line into a bug report.",
            )
