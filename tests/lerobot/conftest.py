"""What the real lerobot keeps for the process is let go after each test."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def no_decoder_is_kept():
    """lerobot keeps the videos open that it has read, for all its datasets."""
    yield
    if reading := sys.modules.get("lerobot.datasets.video_utils"):
        reading._default_decoder_cache.clear()
