"""The benchmark's lerobot side really records with lerobot."""

import dataclasses

import pytest

from aiorecord.bench.cell import Cell
from aiorecord.bench.runner import measure

SMALL = Cell(cameras=2, width=64, height=48, codec="h264", episodes=2, seconds=0.4)


@pytest.mark.parametrize("system", ["lerobot-streaming", "lerobot-png"])
def test_lerobot_records_the_same_cell(system):
    result = measure(system, dataclasses.replace(SMALL))
    assert result.error is None
    assert result.rows > 0
    assert result.rows % 2 == 0
    assert result.lost == 0  # small pictures: even its streaming encoder keeps up
    assert len(result.late_ms) == len(result.tick_s) == result.rows // 2
    assert len(result.dead_s) == 1
    assert "lerobot" in result.versions
