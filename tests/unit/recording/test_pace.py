"""An episode that was not recorded at the dataset's rate is flagged, however the application paced itself."""

import json
import logging

import pytest
from helpers import FPS, STATES, make_frame

from aiorecord import OFFLINE, FakeClock, QualityLimits, Recorder
from aiorecord.check.check_dataset import check_dataset
from aiorecord.cli import main as aiorecord_main
from aiorecord.dataset.format import quality_log
from aiorecord.quality import Pace, PaceCounter

PERIOD_S = 1 / FPS


def paced(rate: float, frames: int = 90, gap_s: float = 0.0) -> Pace:
    counter = PaceCounter(FPS)
    for k in range(frames):
        counter.add(round((k / rate + (gap_s if k > frames // 2 else 0)) * 1e9))
    return counter.pace()


@pytest.mark.parametrize(
    ("pace", "ticks", "expected"),
    [
        (paced(30), False, []),
        (paced(29), False, []),
        (paced(28), False, ["it was recorded at 28.00 fps"]),
        (paced(15), False, ["it was recorded at 15.00 fps", "89 of 179 deadlines"]),
        (paced(30, 300, gap_s=0.26), False, ["8 of 308 deadlines", "no frame came for 0.29 s"]),
        (paced(45), False, ["it was recorded at 45.00 fps"]),
        (paced(300), False, []),  # a conversion, as fast as it goes
        (paced(300), True, ["it was recorded at 300.00 fps"]),  # in real time, so much too fast
        (paced(30, 1), True, []),
        (paced(20, 2), True, []),  # half a frame late
    ],
)
def test_default_limits(pace, ticks, expected):
    lateness = {"ticks": pace.frames, "missed": 0, "worst_ms": 0} if ticks else {}
    flags = QualityLimits().flags(lateness, {}, pace=pace, fps=FPS)
    assert [flag.startswith(text) for flag, text in zip(flags, expected, strict=True)] == [True] * len(flags)
    assert OFFLINE.flags(lateness, {}, pace=pace, fps=FPS) == []


@pytest.mark.parametrize("by_ticks", [True, False])
@pytest.mark.parametrize("slow", [True, False])
async def test_it_is_said_everywhere(tmp_path, caplog, capsys, by_ticks, slow):
    root = tmp_path / "set"

    async def main():
        clock = FakeClock(auto=True)
        async with Recorder(
            "t/s", root=root, fps=FPS, features=STATES, clock=clock, min_free_gb=0
        ) as recorder:
            async with recorder.episode("T") as episode:
                if by_ticks:
                    async for tick in recorder.ticks(2):
                        episode.add_frame(make_frame(tick.index, features=STATES))
                        clock.advance(0.05 if slow else 0.0)
                else:
                    for k in range(40):
                        episode.add_frame(make_frame(k, features=STATES))
                        clock.advance(2 * PERIOD_S if slow else PERIOD_S)
                live = recorder.get_status().flags
            return live, await episode.save

    with caplog.at_level(logging.WARNING):
        live, result = await main()
    [record] = quality_log.read(root)[0].values()
    capsys.readouterr()
    aiorecord_main(["info", str(root), "--json"])
    info = json.loads(capsys.readouterr().out)
    assert bool(record.flags) is slow
    assert ("is flagged" in caplog.text) is slow
    assert bool(info["episodes"][0]["quality"]["flags"]) is slow
    assert (check_dataset(root, fast=True, workers=1).codes == {"episode-flagged"}) is slow
    assert bool(live) is slow
    assert result.flags == record.flags
