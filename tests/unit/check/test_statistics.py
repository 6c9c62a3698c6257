"""Statistics that versions of lerobot write otherwise: a warning, and a repair that writes only them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged import FRONT, LENGTHS, codes, content, copy, edit_json, edit_table, episodes_file, pool
from faults import Killed, dying_after
from helpers import rows_of

from aiorecord.check.check_dataset import Check
from aiorecord.check.compare import MANY_PIXELS, depth_difference, image_difference, numeric_difference
from aiorecord.check.findings import NOTE
from aiorecord.check.repair import repair_dataset as repairing
from aiorecord.check.repair.repair_dataset import repair_dataset
from aiorecord.dataset.commit.lock import DatasetLock
from aiorecord.encoding.stats import QUANTILES, column_stats, depth_stats, histogram_stats
from aiorecord.errors import AiorecordError, DatasetLockedError

STILL = "observation.images.still"
STATS = "meta/stats.json"


pytestmark = pytest.mark.usefixtures("repairs_in_shared_pool")


def repair(root: Path, **options: Any):
    return repair_dataset(root, workers=1, **options)


def shifted(by: float) -> Callable[[list[Any]], list[Any]]:
    """Another value in the first row, nested as it was."""
    return lambda values: [(np.array(values[0]) + by).tolist(), *values[1:]]


def as_lerobot_leaves_it(root: Path) -> None:
    """Numbers from before a merge, other quantiles, sums of 32-bit floats."""
    edit_table(
        episodes_file(root),
        stats__index__min=shifted(100),
        stats__index__max=shifted(100),
        stats__action__q90=shifted(0.5),
        **{f"stats/{STILL}/std": shifted(0.008)},
    )
    edit_json(root / STATS, lambda stats: stats["task_index"].update(max=[7]))


def test_it_is_no_damage(everything: Path, tmp_path: Path) -> None:
    root = copy(everything, tmp_path / "set")
    as_lerobot_leaves_it(root)
    report = Check(root, pool(), 1).run().report
    assert report.codes == {"stats-stale", "stats-total"}, report.as_dict()
    assert report.exit_code == 0
    assert all("changes nothing else" in finding.hint for finding in report.findings)


def test_a_repair_writes_only_statistics(everything: Path, tmp_path: Path) -> None:
    root = copy(everything, tmp_path / "set")
    as_lerobot_leaves_it(root)
    before, table = content(root), pq.read_table(episodes_file(root))
    plan = repair(root, dry_run=True).plan
    assert "statistics of 1 episodes" in plan.steps[0]
    assert (plan.episodes, plan.lost) == (None, {})
    assert content(root) == before
    result = repair(root)
    assert {finding.code for finding in result.after.findings} == {"aside-folder"}, result.as_dict()
    written = {episodes_file(root).relative_to(root).as_posix(), STATS}
    after = content(root)
    aside = {f"{result.aside.name}/{name}": before[name] for name in written}
    assert after == before | {name: after[name] for name in written} | aside
    new, good = pq.read_table(episodes_file(root)), pq.read_table(episodes_file(everything))
    assert new.schema.equals(table.schema, check_metadata=True)
    same = [name for name in good.column_names if not name.startswith(f"stats/{STILL}/")]
    assert new.select(same).equals(good.select(same))
    assert repair(root).actions == []
    assert content(root) == after


def test_only_the_files_that_differ_are_written(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "set")
    first = episodes_file(root)
    second, stray = first.with_name("file-001.parquet"), first.with_name("notes.txt")
    table = pq.read_table(first)
    pq.write_table(table.slice(2), second)
    pq.write_table(table.slice(0, 2), first, row_group_size=1)
    stray.write_text("mine")
    edit_table(second, stats__index__mean=shifted(3))
    before = content(root)
    result = repair(root)
    assert codes(root) == set()
    changed = {name for name, data in content(root).items() if before.get(name) != data}
    second_name = second.relative_to(root).as_posix()
    assert changed - {second_name, STATS} == {f"{result.aside.name}/{name}" for name in (second_name, STATS)}


def test_statistics_of_a_feature_that_has_none(good: Path, tmp_path: Path) -> None:
    """As lerobot's tools leave them when a feature is added; of one that was removed they keep them."""
    root = copy(good, tmp_path / "set")
    path = episodes_file(root)
    table = pq.read_table(path)
    names = [name for name in table.column_names if name.startswith(("stats/action/", f"stats/{FRONT}/"))]
    old = table.column("stats/action/max")
    gone = table.drop_columns(names).append_column("stats/removed/max", old)
    gone = gone.append_column("stats/removed/min", old).append_column("stats/removed/mean", old)
    gone = gone.append_column("stats/removed/std", old)
    count = pa.chunked_array([pa.array([[n] for n in LENGTHS])])
    pq.write_table(gone.append_column("stats/removed/count", count), path)
    edit_json(root / STATS, lambda stats: stats.pop("action") and None)
    assert codes(root) == {"stats-stale"}
    assert repair(root).after.codes == {"aside-folder"}
    new = pq.read_table(path)
    same = [name for name in names if FRONT not in name]
    assert new.select(same).equals(table.select(same))


def test_statistics_that_cannot_be_added_up(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "set")
    edit_table(episodes_file(root), stats__index__std=lambda values: [[1.0, 2.0], *values[1:]])
    assert codes(root) == {"stats-stale", "stats-total"}
    assert repair(root).after.codes == {"aside-folder"}


def test_statistics_of_something_else_stay_an_error(everything: Path, tmp_path: Path) -> None:
    for number, key in enumerate(("action", STILL, FRONT)):
        root = copy(everything, tmp_path / str(number))
        names = [n for n in pq.read_schema(episodes_file(root)).names if n.startswith(f"stats/{key}/")]
        edit_table(episodes_file(root), **{name: lambda v: v[::-1] for name in names})
        if key != "action":  # the pictures of the episodes look alike
            edit_table(episodes_file(root), **{f"stats/{key}/mean": shifted(0.2)})
        report = Check(root, pool(), 1).run().report
        assert "stats-mismatch" in report.codes, key
        assert report.exit_code == 1


def test_never_beside_a_recorder(everything: Path, tmp_path: Path) -> None:
    root = copy(everything, tmp_path / "set")
    as_lerobot_leaves_it(root)
    before = content(root)
    with DatasetLock(root), pytest.raises(DatasetLockedError):
        repair(root)
    assert {name: data for name, data in content(root).items() if "lock" not in name} == before


@pytest.mark.leaves("aiorecord-check-")  # a killed process does not tidy up
def test_killed_anywhere_it_can_be_run_again(good: Path, tmp_path: Path, monkeypatch) -> None:
    stale = copy(good, tmp_path / "stale")
    edit_table(episodes_file(stale), stats__index__mean=shifted(3), stats__episode_index__max=shifted(1))
    edit_json(stale / STATS, lambda stats: stats["index"].update(mean=[7.0]))
    monkeypatch.setattr(repairing, "DatasetLock", contextlib.nullcontext)
    reference = copy(stale, tmp_path / "reference")
    with dying_after(None, monkeypatch) as faults:
        repair(reference)
    want = {name: data for name, data in content(reference).items() if "aside" not in name}
    for changes in range(0, faults.changes, max(1, faults.changes // 8)):  # each place costs two repairs
        root = copy(stale, tmp_path / str(changes))
        with dying_after(changes, monkeypatch), pytest.raises((Killed, AiorecordError)):
            repair(root)
        found = repair(root).after
        assert {f.code for f in found.findings if f.severity != NOTE} == set(), (changes, found.as_dict())
        now = {name: data for name, data in content(root).items() if "aside" not in name}
        assert now == want, changes
        shutil.rmtree(root)
    assert rows_of(reference) == rows_of(good)


def test_numbers() -> None:
    values = np.random.default_rng(1).normal(5, 1, (60, 3)).astype(np.float32)
    actual = column_stats(values)
    assert numeric_difference(actual, actual) is None
    stored = actual | {"q50": actual["q50"] + 1}
    assert numeric_difference(stored, actual).code == "stats-stale"
    assert numeric_difference(actual | {"mean": actual["mean"] * 1.001}, actual).code == "stats-stale"
    for name in ("min", "max", "mean", "std", "count"):
        gross = stored | {name: actual[name] + 1}
        assert numeric_difference(gross, actual).code == "stats-mismatch", name
        assert numeric_difference(gross, actual, "index").code == "stats-stale", name


def test_pictures() -> None:
    dark = np.random.default_rng(2).integers(0, 9_000, (4, 3, 256)).astype(np.uint32)
    dark[:, :, 100:] //= 50
    actual, other = histogram_stats(dark), histogram_stats(dark[:, :, ::-1])
    pixels = int(dark[:, 0].sum())
    assert pixels < MANY_PIXELS

    def judged(by: float, **options: Any) -> str | None:
        stored = actual | {"mean": actual["mean"] + by, "std": actual["std"] - by}
        found = image_difference(stored, actual, **{"lossy": False, "pixels": pixels, **options})
        return found and found.code

    assert judged(1.6e-3) is None  # what sums of 32-bit floats were seen to be off
    assert judged(0.02) == "stats-stale"
    assert judged(0.02, lossy=True) is None
    assert judged(0.2) == "stats-mismatch"
    # Sums of so many pixels say nothing, as long as what is no sum says that the pictures are these.
    for lossy in (False, True):
        many = {"lossy": lossy, "pixels": MANY_PIXELS + 1}
        assert judged(0.2, **many) == "stats-stale"
        assert image_difference(other, actual, **many).code == "stats-mismatch"
        bare = {name: value for name, value in other.items() if name not in QUANTILES}
        assert image_difference(bare, actual, **many).code == "stats-mismatch"


def test_depth() -> None:
    actual = depth_stats(np.random.default_rng(3).uniform(300, 4000, (5, 9, 9)).astype(np.float32))
    found = [
        depth_difference(actual | {"mean": actual["mean"] + by}, actual, lossy=False, limit=np.inf)
        for by in (4, 50, 500)
    ]
    assert [f and f.code for f in found] == [None, "stats-stale", "stats-mismatch"]
