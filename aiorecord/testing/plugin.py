"""Fixtures for pytest, which loads this module by itself where aiorecord is installed.

It imports nothing before a fixture is asked for. The fixtures need no plugin for asyncio: what they give is
used in async tests, whichever plugin runs these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..clock import FakeClock
    from ..recording.recorder import Recorder
    from .controlled_encoder import ControlledEncoder
    from .fake_devices import NumberedRobot, NumberedTeleoperator


@pytest.fixture
def aiorecord_clock() -> FakeClock:
    """A `FakeClock` whose waits end at once."""
    from ..clock import FakeClock

    return FakeClock(auto=True)


@pytest.fixture
def aiorecord_robot() -> NumberedRobot:
    """A `NumberedRobot` with three joints and a camera named ``front``."""
    from .fake_devices import NumberedRobot

    return NumberedRobot()


@pytest.fixture
def aiorecord_teleoperator() -> NumberedTeleoperator:
    """A `NumberedTeleoperator` for `aiorecord_robot`."""
    from .fake_devices import NumberedTeleoperator

    return NumberedTeleoperator()


@pytest.fixture
def aiorecord_encoder() -> Iterator[ControlledEncoder]:
    """A `ControlledEncoder` that encodes at once until told otherwise; its threads end with the test."""
    from .controlled_encoder import ControlledEncoder

    with ControlledEncoder() as encoder:
        yield encoder


@pytest.fixture
def aiorecord_root(tmp_path: Path) -> Path:
    """The folder, not there yet, of the dataset that `aiorecord_recorder` records."""
    return tmp_path / "dataset"


@pytest.fixture
def aiorecord_recorder(
    aiorecord_root: Path, aiorecord_clock: FakeClock, aiorecord_robot: NumberedRobot
) -> Callable[..., Recorder]:
    """Makes recorders on `aiorecord_root`, by default for `aiorecord_robot` and on `aiorecord_clock`.

    The call takes the options of `aiorecord.testing.recorder_for`; use what it returns with ``async with``.
    """
    from .recorders import recorder_for

    def make(features: dict[str, Any] | None = None, **options: Any) -> Recorder:
        chosen = {"clock": aiorecord_clock, **options}
        return recorder_for(aiorecord_root, features or aiorecord_robot.features, **chosen)

    return make
