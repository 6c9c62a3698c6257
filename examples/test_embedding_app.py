"""Test a program that records: numbered frames, a clock that does not wait, an encoder that waits or fails.

    uv run --group test pytest examples/test_embedding_app.py

The fixtures come with aiorecord. The tests are coroutines, which pytest-asyncio runs.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import aiorecord
from aiorecord.testing import ControlledEncoder, NumberedRobot, NumberedTeleoperator, assert_whole

pytestmark = pytest.mark.asyncio


class Demonstrations:
    """The program under test: it records takes of one task and notes what became of each."""

    def __init__(
        self, recorder: aiorecord.Recorder, robot: aiorecord.Robot, teleop: aiorecord.Teleoperator
    ) -> None:
        self.recorder, self.robot, self.teleop = recorder, robot, teleop
        self.saved: list[int | None] = []
        self.failed: list[aiorecord.EpisodeSave] = []

    async def take(self, seconds: float) -> asyncio.Task[None]:
        """Record one take; returns the task that waits for its save."""
        async with self.recorder.episode("Stack the cubes") as episode:
            async for _ in self.recorder.ticks(seconds):
                frame = await aiorecord.control_step(self.robot, self.teleop, self.recorder.features)
                episode.add_frame(frame)
        return asyncio.create_task(self._follow(episode.save), name="follow a save")

    async def _follow(self, save: aiorecord.EpisodeSave) -> None:
        try:
            self.saved.append((await save).episode_index)
        except aiorecord.SaveError:
            self.failed.append(save)


async def test_takes_become_episodes(
    aiorecord_recorder: Callable[..., aiorecord.Recorder],
    aiorecord_robot: NumberedRobot,
    aiorecord_teleoperator: NumberedTeleoperator,
    aiorecord_root: Path,
) -> None:
    async with aiorecord_recorder() as recorder:
        program = Demonstrations(recorder, aiorecord_robot, aiorecord_teleoperator)
        await asyncio.gather(await program.take(seconds=0.5), await program.take(seconds=1))
    assert program.saved == [0, 1]
    assert [int(action["action"][0]) for action in aiorecord_robot.sent] == list(range(45))
    assert_whole(aiorecord_root, lengths=[15, 30])


async def test_the_next_take_does_not_wait_for_the_encoder(
    aiorecord_recorder: Callable[..., aiorecord.Recorder],
    aiorecord_robot: NumberedRobot,
    aiorecord_teleoperator: NumberedTeleoperator,
    aiorecord_encoder: ControlledEncoder,
) -> None:
    aiorecord_encoder.hold()
    async with aiorecord_recorder(encode_executor=aiorecord_encoder, encode="deferred") as recorder:
        program = Demonstrations(recorder, aiorecord_robot, aiorecord_teleoperator)
        takes = [await program.take(seconds=0.5), await program.take(seconds=0.5)]
        assert program.saved == []
        aiorecord_encoder.let()
        await asyncio.gather(*takes)
    assert program.saved == [0, 1]


async def test_a_save_that_failed_can_be_begun_again(
    aiorecord_recorder: Callable[..., aiorecord.Recorder],
    aiorecord_robot: NumberedRobot,
    aiorecord_teleoperator: NumberedTeleoperator,
    aiorecord_encoder: ControlledEncoder,
    aiorecord_root: Path,
) -> None:
    aiorecord_encoder.fail_next(2)  # after the first failure the recorder encodes again by itself
    async with aiorecord_recorder(encode_executor=aiorecord_encoder, encode="deferred") as recorder:
        program = Demonstrations(recorder, aiorecord_robot, aiorecord_teleoperator)
        await (await program.take(seconds=0.5))
        [failed] = program.failed
        failed.retry()
        await failed
    assert_whole(aiorecord_root, lengths=[15])
