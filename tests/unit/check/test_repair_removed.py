"""One or two files of a dataset are gone: a repair does what it said beforehand, and pairs nothing anew."""

from __future__ import annotations

import itertools
import random
import re
import shutil

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged import FRONT, codes, content, copy, data_file, edit_json, info_path, record
from helpers import FEATURES, FPS, episodes_of, make_frame, rows_of

from aiorecord.check.repair.repair_dataset import repair_dataset
from aiorecord.dataset.format.info_json import read_info
from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.staging.folder import Staging
from aiorecord.staging.manifest import Camera, Manifest

pytestmark = pytest.mark.usefixtures("repairs_in_shared_pool")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two packed episodes and two loose ones, of which lengths say nothing."""

    def later(features, k, episode):
        return make_frame(k, episode + 2)

    root = record(tmp_path_factory.mktemp("whole") / "set", FEATURES, (6, 6), robot_type="arm")
    return record(root, FEATURES, (6, 6), later, pack=False, resume=True)


def seen(root) -> dict[tuple, bytes]:
    """The picture of each row, by what the row says of itself."""
    rows, found = rows_of(root), {}
    for episode in episodes_of(root):
        place = [episode[f"videos/{FRONT}/{name}_index"] for name in ("chunk", "file")]
        with av.open(str(root / f"videos/{FRONT}/chunk-{place[0]:03}/file-{place[1]:03}.mp4")) as container:
            pictures = [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]
        first = round(episode[f"videos/{FRONT}/from_timestamp"] * FPS)
        mine = [row for row in rows if row["episode_index"] == episode["episode_index"]]
        found |= {tuple(row["observation.state"]): pictures[first + k] for k, row in enumerate(mine)}
    return found


PARTS = ("meta/info.json", "meta/tasks.parquet", "meta/stats.json", "meta/episodes", "data", "videos")


def cases():
    """Every part alone; every part with a lost info.json; a seeded sample of the other pairs."""
    chance = random.Random(13)
    others = list(itertools.combinations_with_replacement(PARTS[1:], 2))
    return [(p,) for p in PARTS] + [(PARTS[0], p) for p in PARTS[1:]] + chance.sample(others, 7)


@pytest.mark.parametrize("gone", cases(), ids="+".join)
def test_what_is_left_is_put_together_again(gone, whole, tmp_path):
    root, want, chance = copy(whole, tmp_path / "set"), seen(whole), random.Random(str(gone))
    info = read_info(whole)
    for part in gone:
        files = [root / part] if (root / part).is_file() else list((root / part).rglob("file-*"))
        chance.choice(sorted(files) or [root / "none"]).unlink(missing_ok=True)
    before = content(root)
    plan = repair_dataset(root, dry_run=True).plan
    assert content(root) == before
    result = repair_dataset(root, accept_loss=plan.loses)
    assert result.after.ok, result.as_dict()
    assert (result.plan.as_dict(), result.refused) == (plan.as_dict(), False)
    now = seen(root)
    assert now.items() <= want.items()
    again = read_info(root)
    assert again.features == info.features
    assert (again.fps, again.robot_type) == (FPS, "arm")
    kept = plan.frames if plan.episodes is not None else len(want)
    assert (len(now), again.total_frames) == (kept, kept)
    if not {"data", "videos"} & set(gone):
        assert (now, plan.loses) == (want, False)
    assert {row["task"] for row in pq.read_table(root / "meta/tasks.parquet").to_pylist()} <= {
        "Task 0",
        "Task 1",
    }


def test_without_meta_the_whole_dataset_is_found_again(whole, tmp_path):
    root = copy(whole, tmp_path / "set")
    want = seen(root)
    shutil.rmtree(root / "meta")
    result = repair_dataset(root)
    assert result.after.ok, result.as_dict()
    assert any("from the copy in data/" in step for step in result.plan.steps)
    assert seen(root) == want


def test_a_broken_info_goes_aside_and_one_of_another_version_stays(whole, tmp_path):
    root = copy(whole, tmp_path / "set")
    info_path(root).write_text("{")
    result = repair_dataset(root)
    assert result.after.ok
    assert (result.aside / "meta/info.json").read_text() == "{"
    edit_json(info_path(root), lambda data: data.update(codebase_version="v2.1"))
    before = content(root)
    result = repair_dataset(root)
    assert "another version" in result.plan.steps[0]
    assert content(root) == before


def without_evidence(root):
    """As another program writes a dataset: its files say nothing of themselves."""
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({}), path)
    for path in root.glob("videos/*/*/*.mp4"):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"aiorecord/1 ", b"somebodys/1 "))


def test_a_dataset_of_others_gets_what_columns_and_videos_tell(whole, tmp_path):
    root = copy(whole, tmp_path / "set")
    without_evidence(root)
    want, info = seen(root), read_info(root)
    info_path(root).unlink()
    result = repair_dataset(root)
    assert result.after.ok, result.as_dict()
    assert any("left empty" in step for step in result.plan.steps)
    assert seen(root) == want
    again = read_info(root)
    assert (again.fps, again.robot_type, set(again.features)) == (FPS, None, set(info.features))
    for key, spec in info.features.items():
        assert [again.features[key][name] for name in ("dtype", "shape")] == [spec["dtype"], spec["shape"]]


@pytest.mark.parametrize("why", ["columns", "other", "grid"])
def test_what_no_file_tells_is_said_and_not_guessed(why, whole, tmp_path):
    root = copy(whole, tmp_path / "set")
    path = data_file(root)
    table = pq.read_table(path)
    if why == "other":  # the file of a dataset at another rate, which says so
        text = table.schema.metadata[b"aiorecord"].replace(b'"fps":%d' % FPS, b'"fps":%d' % (FPS + 1))
        text = re.sub(rb'"[0-9a-f]{32}"', b"null", text)
        table = table.replace_schema_metadata({**table.schema.metadata, b"aiorecord": text})
    else:
        without_evidence(root)
        table = pq.read_table(path)
        name = "observation.state" if why == "columns" else "timestamp"
        at = table.column_names.index(name)
        values = [[b"x"]] * len(table) if why == "columns" else [0.5] * len(table)
        type_ = pa.list_(pa.binary()) if why == "columns" else pa.float32()
        table = table.set_column(at, name, pa.array(values, type_))
    pq.write_table(table, path)
    info_path(root).unlink()
    before = content(root)
    result = repair_dataset(root, accept_loss=True)
    if why == "grid":  # the other files, and the videos, tell the rate; these rows are not on it
        assert result.after.ok
        return
    assert result.plan.steps[0].startswith("meta/info.json ")
    assert "info-missing" in result.after.codes
    assert content(root) == before


def test_staging_says_what_a_dataset_without_episodes_was(tmp_path, whole):
    root = copy(whole, tmp_path / "set")
    shutil.rmtree(root)
    camera = Camera("lossless", "front.frames", "yuv420p", 48, 64, "front.spill", "front.hist")
    manifest = Manifest(
        FPS,
        FEATURES,
        {FRONT: camera},
        RGBEncoderConfig(vcodec="h264"),
        DepthEncoderConfig(),
        robot_type="arm",
    )
    Staging(root).create(manifest)
    result = repair_dataset(root)
    assert read_info(root).robot_type == "arm", result.as_dict()
    assert read_info(root).total_episodes == 0
    assert "info-missing" not in codes(root)
