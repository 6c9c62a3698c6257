"""A journal that no packing of the dataset wrote is refused and left, and nothing is changed."""

from __future__ import annotations

import json
import shutil

import pytest
from faults import Killed, dying_after
from staged import VIDEO, check_dataset, commit

from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.exchange import pack_journal
from aiorecord.dataset.packing.pack import pack
from aiorecord.errors import DatasetError
from aiorecord.features import Schema

FRONT = "observation.images.front"
CONTENTS = [(0, 3), (1, 3), (2, 4), (3, 2)]
TOKEN = "ab12"
MARKER = f".pack-{TOKEN}.aiorecord-tmp"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A dataset with a packed file and loose ones; and the same with a packing that was just decided."""
    root = tmp_path_factory.mktemp("forged") / "plain"
    writer = DatasetWriter.create(root, fps=30, schema=Schema(VIDEO))
    for content in CONTENTS[:2]:
        commit(writer, *content)
    pack(writer)
    for content in CONTENTS[2:]:
        commit(writer, *content)
    return root


@pytest.fixture(scope="module")
def decided(prepared):
    for changes in range(1000):
        root = prepared.with_name("decided")
        shutil.copytree(prepared, root)
        writer = DatasetWriter.open(root)
        with pytest.MonkeyPatch.context() as patch, dying_after(changes, patch), pytest.raises(Killed):
            pack(writer)
        if pack_journal.is_decided(root):
            return root
        shutil.rmtree(root)
    raise AssertionError("no packing was decided")


def content(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def assert_refused(root):
    before = content(root)
    with pytest.raises(DatasetError):
        DatasetWriter.open(root)
    assert content(root) == before
    check_dataset(root, CONTENTS)


def forge(root, journal, files=()):
    folder = root / ".aiorecord/pack"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    text = {"token": TOKEN, "moves": {}, "folders": {}, "removed": []} | journal
    (folder / "journal.json").write_text(json.dumps(text))


PACKED = f"videos/{FRONT}/chunk-000/file-000.mp4"
LOOSE = f"videos/{FRONT}/chunk-900/file-000.mp4"
FOLDERS = {"data": "data", "episodes": "meta/episodes"}
EMPTY = [(f"data/{MARKER}", b""), (f"episodes/{MARKER}", b"")]


@pytest.mark.parametrize(
    ("journal", "files"),
    [
        ({"removed": ["meta/info.json"]}, []),
        ({"removed": ["meta/stats.json"]}, []),
        ({"removed": ["meta/tasks.parquet"]}, []),
        ({"removed": ["meta/aiorecord/episodes.jsonl"]}, []),
        ({"removed": [PACKED]}, []),
        ({"removed": [LOOSE]}, []),
        ({"folders": FOLDERS}, EMPTY),
        ({"folders": {"episodes": "meta/episodes"}}, EMPTY),
        ({"folders": {"data": "data"}}, EMPTY),
        ({"folders": FOLDERS}, []),
        ({"moves": {"meta/info.json": "meta/info.json"}}, [("meta/info.json", b"{}")]),
        ({"moves": {"meta/tasks.parquet": "meta/tasks.parquet"}}, [("meta/tasks.parquet", b"x")]),
        ({"moves": {f"videos/{FRONT}-0.mp4": PACKED}}, [(f"videos/{FRONT}-0.mp4", b"x")]),
        (
            {"moves": {"aside": ".aiorecord-aside-1"}, "removed": ["meta/stats.json"]},
            [("aside/meta/stats.json", b"{}")],
        ),
    ],
    ids=str,
)
def test_forged(prepared, tmp_path, journal, files):
    root = shutil.copytree(prepared, tmp_path / "set")
    forge(root, journal, files)
    assert_refused(root)


@pytest.mark.parametrize(
    "change",
    [
        lambda j: j["removed"].append("meta/stats.json"),
        lambda j: j["removed"].append(PACKED),
        lambda j: j["removed"].append(f"videos/{FRONT}/chunk-005/file-000.mp4"),
        lambda j: j["folders"].pop("data"),
        lambda j: j["folders"].pop("episodes"),
        lambda j: j.update(token="cd34"),
        lambda j: j["moves"].update({f"videos/{FRONT}-0.mp4": LOOSE}),
    ],
    ids=["stats", "a video in use", "a video of nobody", "no data", "no metadata", "token", "elsewhere"],
)
def test_a_real_one_that_was_edited(decided, tmp_path, change):
    root = shutil.copytree(decided, tmp_path / "set")
    extra = root / f"videos/{FRONT}/chunk-005/file-000.mp4"
    extra.parent.mkdir()
    extra.write_bytes(b"precious")
    path = root / ".aiorecord/pack/journal.json"
    journal = json.loads(path.read_text())
    change(journal)
    path.write_text(json.dumps(journal))
    assert_refused(root)


def test_a_video_that_is_no_continuation(decided, tmp_path):
    root = shutil.copytree(decided, tmp_path / "set")
    journal = json.loads((root / ".aiorecord/pack/journal.json").read_text())
    (source,) = [source for source, target in journal["moves"].items() if target == PACKED]
    other = DatasetWriter.create(tmp_path / "other", fps=30, schema=Schema(VIDEO))
    commit(other, 9, sum(length for _, length in CONTENTS))
    shutil.copyfile(tmp_path / "other" / LOOSE, root / ".aiorecord/pack" / source)
    assert_refused(root)


@pytest.mark.parametrize("contents", [[(7, 4), (6, 3), (5, 3)], [(7, 3), (6, 3), (5, 4), (4, 2)]])
def test_a_packing_of_another_dataset(decided, tmp_path, contents):
    other = DatasetWriter.create(tmp_path / "other", fps=30, schema=Schema(VIDEO))
    for item in contents:
        commit(other, *item)
    (tmp_path / "other/.aiorecord").mkdir(exist_ok=True)
    shutil.copytree(decided / ".aiorecord/pack", tmp_path / "other/.aiorecord/pack")
    with pytest.raises(DatasetError, match="packing of this dataset"):
        DatasetWriter.open(tmp_path / "other")
    check_dataset(tmp_path / "other", contents)


def test_the_real_one_is_carried_out(decided, tmp_path):
    root = shutil.copytree(decided, tmp_path / "set")
    DatasetWriter.open(root)
    check_dataset(root, CONTENTS)
    assert not (root / LOOSE).exists()
