"""Collects what each camera of an episode counted, for the episode's quality record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..errors import AiorecordError
from ..quality import CameraQuality
from .camera import CameraCapture


def camera_facts(cameras: Mapping[str, CameraCapture], *, ticked: bool) -> dict[str, Any]:
    """The `CameraQuality` of each camera so far, JSON-ready, by feature key.

    Args:
        cameras: by feature key.
        ticked: frames were recorded at ticks; otherwise it is not known which were late.
    """
    facts: dict[str, Any] = {}
    for key, camera in cameras.items():
        status = camera.status()
        facts[key] = asdict(
            CameraQuality(
                captured=status.captured,
                spilled=status.spilled,
                late=status.late if ticked else None,
                repeated=status.repeated,
                stale=status.stale,
                lost=status.lost,
                longest_freeze_s=round(status.longest_freeze_s, 6),
            )
        )
    return facts


def marks(cameras: Mapping[str, CameraCapture]) -> list[tuple[int | None, ...]]:
    """The counts of each camera except its frames; if they change, the manifest is saved again."""
    found = [camera.status() for camera in cameras.values()]
    return [(status.spilled, status.late, status.repeated, status.stale) for status in found]


def encoder_errors(cameras: Mapping[str, CameraCapture]) -> dict[str, AiorecordError]:
    """The errors that stopped capture encoders, by feature key; later frames were spilled."""
    found = {key: camera.encoder_error for key, camera in cameras.items()}
    return {key: error for key, error in found.items() if error is not None}
