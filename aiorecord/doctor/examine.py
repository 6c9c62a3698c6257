"""Runs all checks of the machine. A check that fails is reported as a finding; the others still run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from . import codec_speed, device_checks, disk_checks, permission_checks, version_checks
from .diagnosis import Finding, Level


def look(folder: Path, *, fast: bool = False) -> Iterator[Finding]:
    """Examine this machine. Blocking; takes some seconds, less than one with `fast`.

    Args:
        folder: where datasets are to be recorded.
        fast: do not measure how fast codecs and the disk are.

    Yields:
        The findings, section by section.
    """
    sections: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": version_checks.packages,
        "machine": version_checks.machine,
        "permissions": permission_checks.permissions,
        "cameras": device_checks.cameras,
        "ports": device_checks.ports,
        "memory": disk_checks.memory,
        "disk": partial(disk_checks.disk, folder, fast=fast),
    }
    if not fast:
        sections["codecs"] = codec_speed.codecs
    for section, check in sections.items():
        try:
            for finding in check():
                yield replace(finding, section=section)
        except Exception as error:  # noqa: BLE001 - whatever a machine refuses is what is looked for
            text = f"could not be examined: {type(error).__name__}: {error}"
            advice = "Put this line into a bug report."
            yield Finding(section, text, Level.WARN, advice, section=section)
