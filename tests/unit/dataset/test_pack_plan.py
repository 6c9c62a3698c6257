from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorecord.dataset.format.layout import FileIndex
from aiorecord.dataset.packing.pack_plan import Unit, plan_groups
from aiorecord.errors import DatasetError


def units(packed, loose):
    indices = [FileIndex(0, n) for n in range(len(packed))] + [FileIndex(900, n) for n in range(len(loose))]
    return [
        Unit(index, n, n + 1, size)
        for n, (index, size) in enumerate(zip(indices, [*packed, *loose], strict=True))
    ]


def plan(packed, loose, limit=100, joinable=lambda a, b: True, chunks_size=1000):
    found = plan_groups(units(packed, loose), limit=limit, chunks_size=chunks_size, joinable=joinable)
    return [(group.target.file, [unit.size for unit in group.units]) for group in found]


def test_nothing_loose():
    assert plan([10, 20], []) == []
    assert plan([], []) == []


def test_files_are_filled_to_below_the_limit():
    assert plan([], [40, 40, 40, 40, 10]) == [(0, [40, 40]), (1, [40, 40, 10])]
    assert plan([], [50, 50]) == [(0, [50]), (1, [50])]


def test_a_file_larger_than_the_limit_is_alone():
    assert plan([], [10, 500, 10]) == [(0, [10]), (1, [500]), (2, [10])]


def test_a_packed_file_is_taken_back_when_it_grows_by_half():
    assert plan([20], [10]) == [(0, [20, 10])]
    assert plan([21], [10]) == [(1, [10])]
    assert plan([90], [60]) == [(1, [60])]


def test_small_packed_files_do_not_pile_up():
    assert plan([80, 8, 4], [4]) == [(1, [8, 4, 4])]
    # The names of what was taken back are used in the next round.
    assert plan([80, 8, 4], [4, 90]) == [(1, [8, 4, 4])]


def test_what_cannot_be_joined_is_apart():
    apart = [{0, 1}, {2, 3}]

    def joinable(a, b):
        return {a.first, b.first} not in apart

    assert plan([10], [10, 10, 10, 10], joinable=joinable) == [(1, [10, 10]), (2, [10, 10])]


def test_numbers_roll_over():
    found = list(plan_groups(units([], [60] * 3), limit=100, chunks_size=2, joinable=lambda a, b: True))
    assert [group.target for group in found] == [(0, 0), (0, 1), (1, 0)]


def test_numbers_end():
    full = [Unit(FileIndex(899, 0), 0, 1, 99), Unit(FileIndex(900, 0), 1, 2, 10)]
    with pytest.raises(DatasetError):
        list(plan_groups(full, limit=100, chunks_size=1, joinable=lambda a, b: True))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 120), min_size=1, max_size=8), max_size=25))
def test_every_byte_is_written_a_bounded_number_of_times(sessions):
    """Sessions of loose files, each packed when it ends, in as many rounds as it takes."""
    limit = 100
    packed: list[list[int]] = []  # each file as the list of its episodes' sizes
    writes: dict[int, int] = {}
    number = 0
    for session in sessions:
        loose = [[size] for size in session]
        while loose:
            sizes = units([sum(f) for f in packed], [sum(f) for f in loose])
            group = next(plan_groups(sizes, limit=limit, chunks_size=1000, joinable=lambda a, b: True))
            taken = sum(not unit.index.is_loose for unit in group.units)
            added = len(group.units) - taken
            assert added >= 1
            assert group.target.file == len(packed) - taken
            assert group.size < limit or len(group.units) == 1
            merged = [size for f in packed[len(packed) - taken :] + loose[:added] for size in f]
            start = sum(len(f) for f in packed[: len(packed) - taken])
            for position in range(start, start + len(merged)):
                writes[position] = writes.get(position, 0) + 1
            packed = [*packed[: len(packed) - taken], merged]
            loose = loose[added:]
        number += len(session)
    assert sum(len(f) for f in packed) == number
    # A file grows by half or more each time it is written again, up to the limit: log(100) / log(1.5) < 12.
    assert max(writes.values(), default=0) <= 13
