"""The order in which lerobot writes pairs rows and videos only where no other reading is left."""

from dataclasses import replace
from pathlib import Path

import pytest

from aiorecord.check.readers.model import Run
from aiorecord.check.readers.video_frames import VideoPart
from aiorecord.check.repair.repair_plan import Candidate
from aiorecord.check.repair.video_order import places_by_order
from aiorecord.dataset.format.layout import FIRST_LOOSE_CHUNK, FileIndex
from aiorecord.media.evidence import Evidence, Named

LENGTHS = (20, 16, 16, 24)
"""Two data files and two videos, which do not end with the same episode."""


def rows():
    found, first = [], 0
    for number, length in enumerate(LENGTHS):
        run = Run(number, 0, length, first, True, True, (0,))
        found.append(Candidate(run, Path("data"), FileIndex(0, number // 2)))
        first += length
    return found


def video(frames, **changes):
    return replace(VideoPart(readable=True, frames=frames, on_grid=True), **changes)


def videos():
    return {FileIndex(0, 0): video(sum(LENGTHS[:3])), FileIndex(0, 1): video(LENGTHS[3])}


def places(candidates, parts):
    return places_by_order(candidates, parts, fps=10, chunks_size=1000)


def test_a_dataset_of_which_nothing_is_missing():
    found = places(rows(), videos())
    assert [(p.index.file, p.start_s, p.end_s) for p in found] == [
        (0, 0.0, 2.0),
        (0, 2.0, 3.6),
        (0, 3.6, 5.2),
        (1, 0.0, 2.4),
    ]


def change(candidates, number, **changes):
    run = {k: v for k, v in changes.items() if k in Run.__dataclass_fields__}
    rest = {k: v for k, v in changes.items() if k not in run}
    candidates[number] = replace(candidates[number], run=replace(candidates[number].run, **run), **rest)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda c, v: c.pop(0), id="first rows missing"),
        pytest.param(lambda c, v: c.pop(1), id="rows missing between"),
        pytest.param(lambda c, v: c.pop(), id="last rows missing"),
        pytest.param(lambda c, v: v.pop(FileIndex(0, 0)), id="first video missing"),
        pytest.param(lambda c, v: v.pop(FileIndex(0, 1)), id="last video missing"),
        pytest.param(lambda c, v: (c.pop(), v.update({FileIndex(0, 1): video(9)})), id="other lengths"),
        pytest.param(lambda c, v: v.update({FileIndex(0, 1): None}), id="a video is not read"),
        pytest.param(lambda c, v: v.update({FileIndex(0, 1): video(24, on_grid=False)}), id="a hole"),
        pytest.param(
            lambda c, v: v.update({FileIndex(0, 0): video(50), FileIndex(0, 1): video(26)}),
            id="a video ends within an episode",
        ),
        pytest.param(
            lambda c, v: v.update({FileIndex(0, 2): v.pop(FileIndex(0, 1))}), id="a number is left out"
        ),
        pytest.param(
            lambda c, v: v.update({FileIndex(FIRST_LOOSE_CHUNK, 0): v.pop(FileIndex(0, 1))}), id="loose"
        ),
        pytest.param(
            lambda c, v: [change(c, k, data=FileIndex(0, 2)) for k in (2, 3)], id="a data file is left out"
        ),
        pytest.param(lambda c, v: change(c, 2, counted=False), id="rows are not counted"),
        pytest.param(lambda c, v: change(c, 2, first=99), id="the index has a gap"),
        pytest.param(lambda c, v: change(c, 2, problem="its images cannot be used"), id="bad rows"),
        pytest.param(lambda c, v: change(c, 2, named=Named("a", 16)), id="rows with a name"),
        pytest.param(
            lambda c, v: v.update(
                {FileIndex(0, 1): video(24, evidence=Evidence((Named("a", 24),), "front"))}
            ),
            id="a video with a name",
        ),
        pytest.param(lambda c, v: c.clear(), id="no rows"),
        pytest.param(lambda c, v: v.clear(), id="no videos"),
    ],
)
def test_whatever_leaves_another_reading_pairs_nothing(damage):
    candidates, parts = rows(), videos()
    damage(candidates, parts)
    assert places(candidates, parts) is None
