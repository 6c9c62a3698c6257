"""Whatever features, frames, lengths and tasks: recorded is read back, or refused with a clear error."""

from __future__ import annotations

import json
import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from generated import ANY_TEXT, EPISODES, FEATURES, HEALTH, KEYS, PHASES, frame_of, record, same
from helpers import episodes_of, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

import aiorecord
from aiorecord.dataset.format.tables import read_tasks
from aiorecord.features import DEFAULT_FEATURES, NUMERIC_DTYPES, RESERVED_KEYS, Schema
from aiorecord.media.video_file import count_packets
from aiorecord.staging.rows import RowsJournal, read_rows

POOL = ThreadPoolExecutor(2, "kept by the tests")


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
@settings(max_examples=20, deadline=None, suppress_health_check=HEALTH, phases=PHASES, derandomize=True)
@given(
    features=FEATURES,
    episodes=EPISODES,
    megabytes=st.sampled_from([1e-6, 0.002, 100]),
)
async def test_what_is_recorded_is_read_back(features, episodes, megabytes):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        await record(root, features, episodes, megabytes, POOL)
        rows, described = rows_of(root), episodes_of(root)
        info = json.loads((root / "meta/info.json").read_text())
        tasks = {number: task for task, number in read_tasks(root).items()}
        assert info["total_frames"] == len(rows) == sum(length for _, length in episodes)
        assert [e["length"] for e in described] == [length for _, length in episodes]
        assert [e["tasks"] for e in described] == [[task] for task, _ in episodes]
        columns = {k: spec for k, spec in features.items() if spec["dtype"] not in ("video", "image")}
        start = 0
        for number, (task, length) in enumerate(episodes):
            for k in range(length):
                row, given_frame = rows[start + k], frame_of(features, number, k)
                assert tasks[row["task_index"]] == task
                assert (row["episode_index"], row["frame_index"]) == (number, k)
                for key, spec in columns.items():
                    assert same(row[key], given_frame[key], spec), (key, spec, row[key])
            start += length
        for key, spec in features.items():
            if spec["dtype"] == "video":
                videos = list((root / "videos" / key).glob("*/*.mp4"))
                assert sum(map(count_packets, videos)) == len(rows)
                assert len(videos) == (len(episodes) if megabytes < 1e-3 else len(videos))
        assert not (root / ".aiorecord").exists()


@settings(max_examples=300, deadline=None, suppress_health_check=HEALTH, derandomize=True)
@given(
    key=KEYS | ANY_TEXT | st.sampled_from(sorted(RESERVED_KEYS)),
    spec=st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(
                [*NUMERIC_DTYPES, "string", "video", "image", "complex64", "object", "", None, 3]
            ),
            "shape": st.lists(st.integers(-2, 10**10) | st.floats() | st.none(), max_size=7)
            | st.text()
            | st.none(),
            "names": st.none() | st.lists(st.text()) | st.integers(),
            "info": st.none() | st.integers() | st.text() | st.dictionaries(st.text(), st.booleans()),
        },
    ),
)
def test_any_feature_dict_is_taken_or_refused(key, spec):
    try:
        schema = Schema({key: spec})
        feature = schema[key]
    except aiorecord.FeatureError as error:
        assert str(error)
    except KeyError:
        assert key in DEFAULT_FEATURES
    else:
        json.dumps(schema.as_dict(), default=str).encode(errors="strict")
        assert math.prod(feature.shape) >= 1


@settings(max_examples=150, deadline=None, suppress_health_check=HEALTH, derandomize=True)
@given(task=ANY_TEXT, note=ANY_TEXT)
def test_any_text_is_journaled_or_refused(task, note):
    schema = Schema({"note": {"dtype": "string", "shape": (1,), "names": None}})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.arrows"
        journal = RowsJournal(path, schema)
        try:
            journal.append({"note": note}, task, 1)
        except aiorecord.FrameError:
            assert any(0xD800 <= ord(c) <= 0xDFFF for c in task + note)
            journal.abandon()
            return
        journal.close()
        assert read_rows(path, schema).to_pylist() == [{"note": note, "task": task, "time_ns": 1}]
