"""Recorders for tests: cheap encodes, a clock that does not wait, a folder that goes away."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ..clock import FakeClock
from ..encoders import RGBEncoderConfig
from ..recording.recorder import Recorder

QUICK_ENCODER = RGBEncoderConfig(vcodec="h264", crf=18, preset="ultrafast")
"""A codec that costs little, for tests that are not about codecs."""


def recorder_for(
    root: Path, features: Mapping[str, Any], *, fps: int = 30, repo_id: str = "test/dataset", **options: Any
) -> Recorder:
    """A recorder, not yet opened, whose ticks come as fast as they are served, with a cheap codec.

    Args:
        root: the dataset's folder, which must not exist unless ``resume=True`` is among the options.
        features: LeRobot's feature dict, as `NumberedRobot.features`.
        fps: frames per second.
        repo_id: name of the dataset.
        **options: those of `aiorecord.Recorder`; they come before what is chosen here.

    Returns:
        The recorder, to be used with ``async with``.

    Raises:
        ConfigError: an option is wrong.
    """
    chosen: dict[str, Any] = {
        "clock": FakeClock(auto=True),
        "rgb_encoder": QUICK_ENCODER,
        "encode_workers": 1,
    }
    return Recorder(repo_id, root=root, fps=fps, features=dict(features), **{**chosen, **options})


@asynccontextmanager
async def temporary_recorder(features: Mapping[str, Any], **options: Any) -> AsyncIterator[Recorder]:
    """A recorder on a folder that is deleted when the block is left, however it is left.

    Look at the dataset inside the block, after ``await recorder.drain()``.

    Args:
        features: LeRobot's feature dict, as `NumberedRobot.features`.
        **options: those of `recorder_for`.

    Yields:
        The open recorder.
    """
    with tempfile.TemporaryDirectory(prefix="aiorecord-testing-") as folder:
        async with recorder_for(Path(folder) / "dataset", features, **options) as recorder:
            yield recorder
