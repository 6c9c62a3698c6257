"""Fakes and assertions for the tests of a program that records with aiorecord.

`FakeClock` makes a recording of an hour take as long as its work. `NumberedRobot`, `NumberedTeleoperator` and
`NumberedCamera` number their frames, so that a test can tell which is where. `temporary_recorder` records
into a folder that is deleted afterwards, `ControlledEncoder` encodes when the test lets it, or fails, and
`assert_whole` fails for a dataset that is not complete and consistent.

Nothing here imports pytest. pytest loads `aiorecord.testing.plugin` by itself; it contains the fixtures.
"""

from __future__ import annotations

from ..clock import FakeClock
from .controlled_encoder import ControlledEncoder
from .datasets import assert_whole, episode_lengths
from .fake_devices import NumberedCamera, NumberedRobot, NumberedTeleoperator, frame_number, numbered_image
from .recorders import QUICK_ENCODER, recorder_for, temporary_recorder

__all__ = [
    "QUICK_ENCODER",
    "ControlledEncoder",
    "FakeClock",
    "NumberedCamera",
    "NumberedRobot",
    "NumberedTeleoperator",
    "assert_whole",
    "episode_lengths",
    "frame_number",
    "numbered_image",
    "recorder_for",
    "temporary_recorder",
]
