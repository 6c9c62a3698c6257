"""The quality record's lines: plain data, strict about what it reads."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorecord.clock import FakeClock, Lateness, Tick, Ticker
from aiorecord.errors import ConfigError
from aiorecord.quality import CameraQuality, EpisodeQuality, QualityLimits, json_facts, stored_facts, versions

FRONT = "observation.images.front"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(sorted(EpisodeQuality.__dataclass_fields__))


def record(**changes):
    values = {
        "episode_index": 3,
        "episode_id": "000003-aa",
        "length": 60,
        "tasks": ["Heb den Würfel auf"],
        "fps": 30,
        "effective_fps": 29.99,
        "cameras": {FRONT: CameraQuality(60, repeated=2, stale=None, longest_freeze_s=0.066667)},
        "facts": {"lights": "dim"},
    }
    return EpisodeQuality(**(values | changes))


def test_a_line_reads_back_as_it_was():
    line = record().to_line()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert EpisodeQuality.parse(line) == record()


def test_names_that_a_later_version_adds_are_left_out():
    data = json.loads(record().to_line())
    data["colour_balance"] = 1
    data["cameras"][FRONT]["sharpness"] = 2
    assert EpisodeQuality.parse(json.dumps(data).encode()) == record()


def test_another_version_is_refused():
    data = json.loads(record().to_line()) | {"version": 2}
    with pytest.raises(ValueError, match="version 2"):
        EpisodeQuality.parse(json.dumps(data).encode())


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, json_values, max_size=4))
def test_whatever_a_line_holds_it_is_read_or_refused_with_a_reason(changes):
    data = json.loads(record().to_line()) | changes
    try:
        read = EpisodeQuality.parse(json.dumps(data).encode())
    except ValueError as error:
        assert str(error)
    else:
        assert all(isinstance(value, CameraQuality) for value in read.cameras.values())
        assert read.effective_fps is None or math.isfinite(read.effective_fps)


@given(st.binary(max_size=60))
def test_whatever_bytes_a_line_holds(data):
    with pytest.raises(ValueError):  # noqa: PT011 - which one does not matter
        EpisodeQuality.parse(data)


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000])
def test_lines_made_to_break_a_parser(line):
    with pytest.raises(ValueError):  # noqa: PT011
        EpisodeQuality.parse(line)


@pytest.mark.parametrize(
    ("limits", "late_ms", "repeated", "flags"),
    [
        (QualityLimits(), 900, 900, 0),
        (QualityLimits(max_late_ms=20), 20, 900, 0),
        (QualityLimits(max_late_ms=20), 20.1, 0, 1),
        (QualityLimits(max_repeats=0), 0, 0, 0),
        (QualityLimits(max_repeats=0), 0, 1, 1),
        (QualityLimits(max_repeats=0), 0, None, 0),
        (QualityLimits(20, 3), 21, 4, 2),
    ],
)
def test_limits(limits, late_ms, repeated, flags):
    found = limits.flags({"worst_ms": late_ms}, {FRONT: CameraQuality(9, repeated=repeated)})
    assert len(found) == flags
    if repeated == 4:
        assert found == [
            "a tick was 21.0 ms late, the limit is 20 ms",
            "front repeated 4 frames, the limit is 3",
        ]


@pytest.mark.parametrize("limit", [{"max_late_ms": -1}, {"max_repeats": -1}, {"max_late_ms": math.nan}])
def test_limits_that_make_no_sense(limit):
    with pytest.raises(ConfigError, match="must be 0 or more"):
        QualityLimits(**limit)


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}, b"bytes", "\ud800"])
def test_facts_that_json_cannot_hold(value):
    with pytest.raises(ConfigError, match="JSON-ready"):
        json_facts({"fact": value})


def test_facts_that_are_too_large():
    with pytest.raises(ConfigError, match="more than"):
        json_facts({"log": "x" * 70_000})


@pytest.mark.parametrize("value", [None, 3, [], {"a": math.nan}, {"a": "\ud800"}])
def test_facts_on_disk_that_cannot_be_written_again_are_dropped(value):
    assert stored_facts(value) == {}


def test_facts_are_copied():
    lights = ["left"]
    facts = json_facts({"lights": lights})
    lights.append("right")
    assert facts == {"lights": ["left"]}


def test_versions_name_what_recorded():
    assert {"aiorecord", "python", "av", "ffmpeg"} <= set(versions())


async def test_a_stall_counts_from_the_first_deadline_it_missed():
    """Ticks skipped by a loop that stood still are late too, however late the next one is."""

    clock = FakeClock(auto=True)
    ticker = Ticker(clock, 10, 2)
    async for tick in ticker:
        if tick.index == 4:
            clock.advance(0.75)  # tick 5 to 11 are missed
    summary = ticker.lateness.summary()
    assert summary["missed"] == 6
    assert summary["max_ms"] == pytest.approx(50)
    assert summary["worst_ms"] == pytest.approx(650)


def test_ticks_of_several_loops_are_one_recording():
    parts = []
    for late_ns in (1_000_000, 9_000_000):
        part = Lateness()
        part.add(Tick(0, 0, late_ns, missed=1), 40_000_000 + late_ns)
        parts.append(part)
    summary = Lateness.merged(parts).summary()
    assert (summary["ticks"], summary["late"], summary["missed"]) == (2, 1, 2)
    assert (summary["max_ms"], summary["worst_ms"]) == (9, 49)
    assert parts[1].newest_is_late()
    assert not parts[0].newest_is_late()
    assert not Lateness.merged([]).newest_is_late()
