"""Rows and videos are paired by evidence alone; what may be readable is lost only with consent."""

from __future__ import annotations

import os
import shutil

import pyarrow.parquet as pq
import pytest
from damaged import FRONT, codes, content, copy, pool, record
from helpers import FEATURES, rows_of

from aiorecord.check.check_dataset import Check
from aiorecord.check.repair.repair_dataset import repair_dataset

pytestmark = pytest.mark.usefixtures("repairs_in_shared_pool")


@pytest.fixture(scope="module")
def equal(tmp_path_factory):
    """Three loose episodes of one length."""
    return record(tmp_path_factory.mktemp("equal") / "set", FEATURES, (8, 8, 8), pack=False)


def swap(root):
    one, two = sorted(root.glob(f"videos/{FRONT}/*/*.mp4"))[:2]
    os.rename(one, one.with_name("x"))
    os.rename(two, one)
    os.rename(one.with_name("x"), two)


def test_exchanged_videos_are_seen_and_put_right(equal, tmp_path):
    root = copy(equal, tmp_path / "set")
    rows = rows_of(root)
    swap(root)
    assert "video-other-episode" in codes(root)
    result = repair_dataset(root)
    assert result.after.ok, result.as_dict()
    assert (result.lost, rows_of(root)) == ({}, rows)


def test_a_missing_data_file_pairs_nothing_anew(equal, tmp_path):
    root = copy(equal, tmp_path / "set")
    shutil.rmtree(root / "meta/episodes")
    sorted(root.glob("data/*/*.parquet"))[1].unlink()
    before = content(root)
    plans = []
    result = repair_dataset(root, on_plan=plans.append)
    assert result.refused
    assert plans == [result.plan]
    assert result.plan.not_paired
    assert content(root) == before
    assert not repair_dataset(root, dry_run=True, accept_loss=True).refused
    assert content(root) == before
    assert repair_dataset(root, accept_loss=True).after.ok
    assert len(rows_of(root)) == 16
    assert codes(root) == set()


def test_rows_of_another_episode_and_stale_evidence(equal, tmp_path):
    root = copy(equal, tmp_path / "set")
    one, two = sorted(root.glob("data/*/*.parquet"))[:2]
    metadata = pq.read_schema(two).metadata
    pq.write_table(pq.read_table(one).replace_schema_metadata(metadata), one)
    assert "rows-other-episode" in codes(root)
    pq.write_table(pq.read_table(two).slice(0, 7), two)
    assert "evidence-stale" in Check(root, pool(), 1).run().report.codes
