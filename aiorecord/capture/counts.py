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
        ticked: frames were recorded at ticks; else nobody knows which were late.
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
    """What was counted of each camera, but for its frames: what is new in it is worth writing down."""
    found = [camera.status() for camera in cameras.values()]
    return [(status.spilled, status.late, status.repeated, status.stale) for status in found]


def encoder_errors(cameras: Mapping[str, CameraCapture]) -> dict[str, AiorecordError]:
    """What stopped capture encoders, by feature key; frames were spilled from there on."""
    found = {key: camera.encoder_error for key, camera in cameras.items()}
    return {key: error for key, error in found.items() if error is not None}
