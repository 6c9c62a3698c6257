"""Two videos say that they hold one episode: copies are as good as one, anything else is set aside."""

from __future__ import annotations

import shutil

import pytest
from damaged import FRONT, codes, copy, record
from helpers import FEATURES, rows_of

from aiorecord.check.repair.repair_dataset import repair_dataset


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two loose episodes of one length."""
    return record(tmp_path_factory.mktemp("whole") / "set", FEATURES, (6, 6), pack=False)


@pytest.mark.parametrize("same", [True, False], ids=["copy", "other frames"])
def test_a_second_video_of_an_episode(same, whole, tmp_path, repairs_in_shared_pool):
    root = copy(whole, tmp_path / "set")
    want = rows_of(root)
    first, second = sorted(root.glob(f"videos/{FRONT}/*/*.mp4"))
    ids = [path.read_bytes().split(b'"episodes":[["')[1].split(b'"')[0] for path in (first, second)]
    content = first.read_bytes() if same else second.read_bytes().replace(ids[1], ids[0])
    third = second.with_name("file-007.mp4")
    third.write_bytes(content)
    shutil.rmtree(root / "meta/episodes")
    plan = repair_dataset(root, dry_run=True).plan
    result = repair_dataset(root, accept_loss=plan.loses)
    assert result.after.ok, result.as_dict()
    assert codes(root) == set()
    assert not third.exists()
    if same:
        assert (plan.loses, rows_of(root)) == (False, want)
        return
    assert "with different frames" in plan.lost[0]
    assert third.name in plan.lost[0]
    assert [row["observation.state"] for row in rows_of(root)] == [
        row["observation.state"] for row in want if row["episode_index"] == 1
    ]
    assert len(list(result.aside.rglob("*.mp4"))) == 2
