"""What files say of themselves: written by a commit, carried by packing, cut by a rollback."""

from __future__ import annotations

import json

import pytest
from helpers import FEATURES, FPS, H264, record_episode

from aiorecord import Recorder
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.format.tables import read_evidence
from aiorecord.media import evidence
from aiorecord.media.evidence import Evidence, Named, cut, first_rows, joined, parse
from aiorecord.media.video_file import read_evidence as read_video_evidence

FRONT = "observation.images.front"
LENGTHS = (9, 7, 8)


async def record(root, lengths=LENGTHS, **options):
    async with Recorder(
        "t/s",
        root=root,
        fps=FPS,
        features=FEATURES,
        rgb_encoder=H264,
        resume=root.exists(),
        **options,
    ) as recorder:
        for number, length in enumerate(lengths):
            await record_episode(recorder, length, number, f"Task {number}")


def said(root):
    """The evidence of every file, data and video."""
    data = [read_evidence(path) for path in sorted(root.glob("data/*/*.parquet"))]
    return data, [read_video_evidence(path) for path in sorted(root.glob(f"videos/{FRONT}/*/*.mp4"))]


@pytest.mark.parametrize("encode", ["deferred", "live"])
@pytest.mark.parametrize("pack", [False, True])
async def test_rows_and_videos_name_the_same_episodes(pack, encode, tmp_path):
    root = tmp_path / "set"
    await record(root, pack=pack, encode=encode)
    data, videos = said(root)
    assert len(data) == len(videos) == (1 if pack else len(LENGTHS))
    named = [episode for part in data for episode in part.episodes]
    assert named == [episode for part in videos for episode in part.episodes]
    assert [episode.length for episode in named] == list(LENGTHS)
    assert {episode.dataset for episode in named} == {evidence.read_dataset_id(root)}
    assert len({episode.id for episode in named}) == len(LENGTHS)
    assert {part.camera for part in videos} == {FRONT}
    tasks = {number: name for part in data for number, name in part.tasks.items()}
    assert tasks == {n: f"Task {n}" for n in range(len(LENGTHS))}
    info = json.loads((root / "meta/info.json").read_text())
    assert {**info, **data[-1].info} == info  # what does not change from commit to commit


async def test_packing_again_and_packing_what_has_none(tmp_path):
    root = tmp_path / "set"
    await record(root, pack=True)
    before, _ = said(root)
    video = next(root.glob(f"videos/{FRONT}/*/*.mp4"))
    data = video.read_bytes()  # of another writer: a text that is not ours
    video.write_bytes(data.replace(b"aiorecord/1", b"something/1"))
    await record(root, (5, 6, 7), pack=True)
    (part,), (film,) = said(root)
    assert part.episodes[: len(LENGTHS)] == before[0].episodes
    assert film.episodes == (Named(None, sum(LENGTHS)), *part.episodes[len(LENGTHS) :])
    assert film.fits(sum(LENGTHS) + 18, FRONT)


async def test_a_lost_id_is_taken_from_the_files(tmp_path):
    root = tmp_path / "set"
    await record(root, pack=True)
    known = evidence.read_dataset_id(root)
    (root / evidence.PATH).write_text("{")
    await record(root, (5,), pack=False)
    assert evidence.read_dataset_id(root) == known
    assert {e.dataset for part in (*said(root)[0], *said(root)[1]) for e in part.episodes} == {known}


async def test_a_dataset_without_an_id_gets_one_for_what_is_written_from_then_on(tmp_path):
    root = tmp_path / "set"
    await record(root, (5,), pack=False)
    (root / evidence.PATH).unlink()
    for path in root.glob("data/*/*.parquet"):
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata(None), path)
    await record(root, (6,), pack=False)
    data, videos = said(root)
    assert data[0] is None
    assert data[1].episodes == videos[1].episodes
    assert data[1].episodes[0].dataset == evidence.read_dataset_id(root) is not None


async def test_rollback_cuts_the_evidence_too(tmp_path):
    root = tmp_path / "set"
    await record(root, pack=True)
    (before,), _ = said(root)
    info = DatasetWriter.open(root).info
    from aiorecord.dataset.commit.rollback import _keep_data_rows

    _keep_data_rows(next(root.glob("data/*/*.parquet")), info.total_episodes - 1)
    (after,), _ = said(root)
    assert after.episodes == before.episodes[:-1]


A, B = Named("000001-aaaaaaaa", 3, "d"), Named("000002-bbbbbbbb", 4, "d")


def test_joining_and_cutting():
    one, two = Evidence((A,), "cam"), Evidence((B,), "cam")
    assert joined([(one, 3), (two, 4)], "cam") == Evidence((A, B), "cam")
    stale = joined([(one, 4), (two, 4)], "cam")  # it is not of a file of 4 frames
    assert stale == Evidence((Named(None, 4), B), "cam")
    assert joined([(one, 3), (None, 4)], "other") is None
    both = Evidence((A, B), "cam")
    assert cut(both, [(3, 4)]) == Evidence((B,), "cam")
    assert cut(both, [(2, 4)]) is None
    assert first_rows(both, 3) == Evidence((A,), "cam")
    assert first_rows(both, 5) is None
    assert not Evidence((A, A), "cam").fits(6, "cam")
    assert not both.fits(7, "other")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        b"\xff\xff",
        "aiorecord/1 ",
        "aiorecord/1 []",
        'aiorecord/1 {"episodes":[["../x",1,null]]}',
        'aiorecord/1 {"episodes":[["a",-1,null]]}',
        'aiorecord/1 {"episodes":[["a",true,null]]}',
        'aiorecord/1 {"episodes":[["a",1e308,null]]}',
        'aiorecord/1 {"episodes":[["a",1]],"info":3}',
        'aiorecord/1 {"episodes":[["a",1,null]],"tasks":{"x":"y"}}',
        "aiorecord/1 " + "[" * 100_000,
        'aiorecord/2 {"episodes":[]}',
    ],
)
def test_what_is_not_ours_is_no_evidence(text):
    assert parse(text) is None


def test_half_a_surrogate_pair():
    found = parse('aiorecord/1 {"episodes":[["a",1,null]],"tasks":{"0":"x\\ud800"}}')
    assert found is not None
    assert found.tasks[0].encode() == b"x?"
