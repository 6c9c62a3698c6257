from __future__ import annotations

import dataclasses
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import full_disk_at
from staged import EVERYTHING, TWO_VIDEOS, VECTORS, VIDEO, check_dataset, commit, stage, tree

from aiorecord.dataset.commit.writer import CommittedEpisode, DatasetWriter
from aiorecord.dataset.format import numbered_files
from aiorecord.dataset.format.episodes import read_ids
from aiorecord.dataset.format.tables import read_tasks
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.encoding.encoded import EncodedEpisode
from aiorecord.encoding.stats import STAT_NAMES
from aiorecord.errors import ConfigError, DatasetError, EncodeError, StateError, StorageError
from aiorecord.features import Schema
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.rows import RowsJournal

DEPTH = {
    **VECTORS,
    "observation.images.depth": {
        "dtype": "video",
        "shape": (48, 64, 1),
        "names": ["height", "width", "channels"],
        "info": {"is_depth_map": True},
    },
}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "dataset"


def create(root, features=VIDEO, **options):
    return DatasetWriter.create(root, fps=30, schema=Schema(features), **options)


def info_of(root):
    return json.loads((root / "meta/info.json").read_text())


def test_a_new_dataset(root):
    writer = create(root, robot_type="so101", chunks_size=7)
    assert tree(root) == ["meta/aiorecord/dataset.json", "meta/info.json"]
    info = info_of(root)
    assert (info["total_episodes"], info["splits"], info["fps"]) == (0, {}, 30)
    assert (info["robot_type"], info["chunks_size"]) == ("so101", 7)
    assert list(info["features"]) == [
        *VIDEO,
        "timestamp",
        "frame_index",
        "episode_index",
        "index",
        "task_index",
    ]
    assert (writer.total_episodes, writer.total_frames, writer.info.fps, read_tasks(root)) == (0, 0, 30, {})
    check_dataset(root, [])


@pytest.mark.parametrize(
    "features", [VECTORS, TWO_VIDEOS, EVERYTHING], ids=["vectors", "videos", "everything"]
)
def test_episodes_are_there_once_committed(root, features):
    writer = create(root, features)
    contents = [(3, 5), (1, 1), (4, 7)]
    start = 0
    for index, (content, length) in enumerate(contents):
        committed = commit(writer, content, length)
        assert committed == CommittedEpisode(index, length, start, start + length, committed.bytes, [])
        start += length
        check_dataset(root, contents[: index + 1])
    written = [root / path for path in tree(root) if path.startswith(("data", "videos"))]
    assert committed.bytes == sum(path.stat().st_size for path in written if path.stem == "file-002")
    assert (writer.total_episodes, writer.total_frames) == (3, 13)


def test_files_are_loose_and_one_per_episode(root):
    writer = create(root)
    for episode in range(2):
        commit(writer, episode)
    assert tree(root) == [
        "data/chunk-900/file-000.parquet",
        "data/chunk-900/file-001.parquet",
        "meta/aiorecord/dataset.json",
        "meta/aiorecord/episodes.jsonl",
        "meta/episodes/chunk-900/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "videos/observation.images.front/chunk-900/file-000.mp4",
        "videos/observation.images.front/chunk-900/file-001.mp4",
    ]
    data = pq.ParquetFile(root / "data/chunk-900/file-001.parquet")
    with data:
        assert data.num_row_groups == 1
        assert data.metadata.row_group(0).column(0).compression == "SNAPPY"
        assert b"huggingface" in data.schema_arrow.metadata


def test_tasks_are_numbered_as_they_come(root):
    writer = create(root, VECTORS)
    commit(writer, 0, 4, tasks=["b", "b", "a", "b"])
    commit(writer, 1, 2, task="c")
    commit(writer, 2, 2, task="a")
    assert read_tasks(root) == {"b": 0, "a": 1, "c": 2}
    table = pq.read_table(root / "meta/episodes/chunk-900/file-000.parquet")
    assert table["tasks"].to_pylist() == [["b", "a"], ["c"], ["a"]]
    rows = [row for path in sorted(root.glob("data/*/*")) for row in pq.read_table(path).to_pylist()]
    assert [row["task_index"] for row in rows] == [0, 0, 1, 0, 2, 2, 1, 1]
    assert info_of(root)["total_tasks"] == 3


def test_info_describes_cameras_by_the_first_episode(root):
    writer = create(root)
    commit(writer, 0)
    commit(writer, 1, encoder=RGBEncoderConfig(vcodec="h264", crf=40, preset="ultrafast"))
    info = info_of(root)["features"]["observation.images.front"]["info"]
    assert (info["video.codec"], info["video.crf"], info["is_depth_map"]) == ("h264", 18, False)
    assert info_of(root)["splits"] == {"train": "0:2"}


def test_statistics_are_over_all_episodes(root):
    writer = create(root)
    for episode in range(3):
        commit(writer, episode, 4)
    stats = json.loads((root / "meta/stats.json").read_text())
    rows = np.array(
        [row for p in sorted(root.glob("data/*/*")) for row in pq.read_table(p)["action"].to_pylist()]
    )
    np.testing.assert_allclose(stats["action"]["mean"], rows.mean(axis=0))
    np.testing.assert_allclose(stats["action"]["std"], rows.std(axis=0), rtol=1e-4)
    assert stats["action"]["max"] == rows.max(axis=0).tolist()
    assert list(stats["observation.images.front"]) == list(STAT_NAMES)
    assert np.shape(stats["observation.images.front"]["q50"]) == (3, 1, 1)
    assert stats["timestamp"]["count"] == [12]


def test_a_reopened_dataset_goes_on(root):
    commit(create(root), 0, 3)
    writer = DatasetWriter.open(root, schema=Schema(VIDEO), fps=30)
    commit(writer, 1, 4)
    writer = DatasetWriter.open(root)
    commit(writer, 2, 5, task="Another")
    check_dataset(root, [(0, 3), (1, 4), (2, 5)])
    # A file of an earlier session is never touched.
    assert [path for path in tree(root) if path.startswith("meta/episodes")] == [
        f"meta/episodes/chunk-900/file-00{n}.parquet" for n in range(3)
    ]


def test_statistics_do_not_depend_on_reopening(root, tmp_path):
    once = create(root)
    for episode in range(4):
        commit(once, episode, 3 + episode)
    commit(create(tmp_path / "again"), 0, 3)
    for episode in range(1, 4):
        commit(DatasetWriter.open(tmp_path / "again"), episode, 3 + episode)
    a, b = (json.loads((r / "meta/stats.json").read_text()) for r in (root, tmp_path / "again"))
    for key in a:
        for name in STAT_NAMES:
            np.testing.assert_allclose(a[key][name], b[key][name], rtol=1e-12)


def test_nan_and_infinity_are_data_but_not_statistics(root):
    writer = create(root, VECTORS)
    folder, encoded = stage(root, 0, 4, features=VECTORS)
    folder.rows_path.unlink()
    journal = RowsJournal(folder.rows_path, Schema(VECTORS))
    for k in range(4):
        action = np.array([k, np.nan, np.inf if k == 2 else -k], np.float32)
        journal.append({"observation.state": np.zeros(3, np.float32), "action": action}, "t", k)
    journal.close()
    writer.commit(folder, encoded)
    stats = json.loads((root / "meta/stats.json").read_text())["action"]
    assert (stats["min"], stats["max"]) == ([0, 0, -3], [3, 0, 0])
    [action] = list(root.glob("data/*/*"))
    assert np.isinf(pq.read_table(action)["action"].to_pylist()[2][2])
    commit(writer, 1)


def test_videos_share_their_bytes_with_staging(root):
    writer = create(root)
    folder, encoded = stage(root)
    writer.commit(folder, encoded)
    staged = folder.path / "observation.images.front.mp4"
    final = root / "videos/observation.images.front/chunk-900/file-000.mp4"
    assert os.path.samefile(staged, final)


def test_without_hard_links_videos_are_copied(root, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    writer = create(root)
    monkeypatch.setattr(numbered_files.os, "link", refuse)
    commit(writer, 0)
    check_dataset(root, [(0, 5)])


def test_committing_twice_changes_nothing(root):
    writer = create(root)
    folder, encoded = stage(root)
    first = writer.commit(folder, encoded)
    for again in (writer, DatasetWriter.open(root)):
        assert again.commit(folder, encoded) == dataclasses.replace(first, bytes=0, flags=None)
        assert again.is_committed(folder) == 0
    check_dataset(root, [(0, 5)])


def test_an_intent_alone_is_no_commit(root):
    """Two episodes of the same length may have been about to get the same index."""
    writer = create(root)
    other, _ = stage(root, 7)
    folder, encoded = stage(root, 0)
    assert writer.is_committed(other) is None
    writer.commit(folder, encoded)
    shutil.copy(folder.path / EpisodeFolder.COMMIT, other.path / EpisodeFolder.COMMIT)
    for reader in (writer, DatasetWriter.open(root)):
        assert reader.is_committed(other) is None
        assert reader.is_committed(folder) == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"episode_index": "x"}'])
def test_a_broken_intent(root, text):
    writer = create(root)
    folder, encoded = stage(root)
    intent = folder.path / EpisodeFolder.COMMIT
    intent.write_text(text)
    assert writer.is_committed(folder) is None
    assert writer.commit(folder, encoded).episode_index == 0
    intent.write_text(text)
    assert writer.is_committed(folder) == 0
    assert writer.commit(folder, encoded).to_index == 5
    check_dataset(root, [(0, 5)])


class TestEpisodesThatDoNotFit:
    @pytest.fixture
    def writer(self, root):
        writer = create(root)
        commit(writer, 0)
        return writer

    @pytest.fixture(autouse=True)
    def unchanged(self, writer, root):
        yield
        check_dataset(root, [(0, 5)])
        commit(writer, 1, 2)
        check_dataset(root, [(0, 5), (1, 2)])

    def test_not_complete(self, writer, root):
        folder, encoded = stage(root)
        folder.manifest.state = "recording"
        with pytest.raises(StateError, match="not complete"):
            writer.commit(folder, encoded)

    def test_empty(self, writer, root):
        folder, encoded = stage(root)
        folder.manifest.length = 0
        with pytest.raises(DatasetError, match="no frames"):
            writer.commit(folder, encoded)

    def test_other_features_and_rate(self, writer, root):
        folder, encoded = stage(root, features=TWO_VIDEOS, fps=25)
        with pytest.raises(DatasetError, match=r"(?s)fps: 30.*wrist"):
            writer.commit(folder, encoded)

    def test_fewer_rows_than_frames(self, writer, root):
        folder, encoded = stage(root, length=5, rows=4)
        with pytest.raises(DatasetError, match="4 rows instead of 5"):
            writer.commit(folder, encoded)

    def test_fewer_frames_than_rows(self, writer, root):
        folder, encoded = stage(root)
        camera = dataclasses.replace(encoded.cameras["observation.images.front"], frames=4)
        with pytest.raises(EncodeError, match="4 frames for 5 rows"):
            writer.commit(folder, EncodedEpisode({camera.key: camera}))

    def test_a_camera_that_is_not_encoded(self, writer, root):
        folder, _ = stage(root)
        with pytest.raises(EncodeError, match="not encoded"):
            writer.commit(folder, EncodedEpisode({}))

    def test_a_missing_video(self, writer, root):
        folder, encoded = stage(root)
        (folder.path / "observation.images.front.mp4").unlink()
        with pytest.raises(EncodeError, match="missing"):
            writer.commit(folder, encoded)

    def test_no_rows(self, writer, root):
        folder, encoded = stage(root)
        folder.rows_path.unlink()
        with pytest.raises((StorageError, DatasetError)):
            writer.commit(folder, encoded)


def test_more_rows_than_the_episode_keeps(root):
    """A salvaged episode is as long as its shortest camera."""
    writer = create(root)
    folder, encoded = stage(root, 0, 5, rows=9)
    writer.commit(folder, encoded)
    check_dataset(root, [(0, 5)])


def test_images_must_be_as_many_as_rows(root):
    features = {**VECTORS, "still": EVERYTHING["observation.images.still"]}
    writer = create(root, features)
    folder, encoded = stage(root, 0, 5, features=features)
    shorter, _ = stage(root, 0, 4, features=features)
    shutil.copy(shorter.path / "still.png.arrow", folder.path / "still.png.arrow")
    with pytest.raises(EncodeError, match="is not what was encoded"):
        writer.commit(folder, encoded)


def test_depth_unit_is_that_of_the_first_episode(root):
    writer = create(root, DEPTH)
    commit(writer, 0, 4, features=DEPTH, depth_unit="mm")
    before = json.loads((root / "meta/stats.json").read_text())["observation.images.depth"]
    commit(writer, 0, 4, features=DEPTH, depth_unit="m")
    assert info_of(root)["features"]["observation.images.depth"]["info"]["depth_unit"] == "mm"
    after = json.loads((root / "meta/stats.json").read_text())["observation.images.depth"]
    assert after["max"][0][0][0] == before["max"][0][0][0] * 1000


def test_depth_images_of_two_units_cannot_be_mixed(root):
    features = {**DEPTH, "observation.images.depth": {**DEPTH["observation.images.depth"], "dtype": "image"}}
    writer = create(root, features)
    writer._info.features["observation.images.depth"]["info"]["depth_unit"] = "mm"
    writer._info.total_episodes = 1  # the first one says which unit it is
    folder, encoded = stage(root, 0, 4, features=features, depth_unit="m")
    with pytest.raises(DatasetError, match="depth in mm"):
        writer.commit(folder, encoded)


class TestCreate:
    def test_into_an_empty_folder(self, root):
        root.mkdir()
        create(root)

    def test_over_a_dataset(self, root):
        create(root)
        with pytest.raises(DatasetError, match="resume=True"):
            create(root)

    def test_over_something_else(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("")
        with pytest.raises(DatasetError, match=r"thesis\.tex"):
            create(root)
        assert tree(root) == ["thesis.tex"]

    def test_over_a_file(self, root):
        root.write_text("")
        with pytest.raises(DatasetError, match="is a file"):
            create(root)

    def test_over_unsaved_episodes(self, root):
        stage(root)
        with pytest.raises(DatasetError, match="unsaved episodes"):
            create(root)

    def test_beside_the_lock(self, root):
        (root / ".aiorecord").mkdir(parents=True)
        (root / ".aiorecord/lock").write_text("")
        create(root)

    @pytest.mark.parametrize("fps", [0, -30, 29.97, True])
    def test_a_rate_that_cannot_be(self, root, fps):
        with pytest.raises(ConfigError):
            DatasetWriter.create(root, fps=fps, schema=Schema(VIDEO))
        assert not root.exists()

    def test_removed_again_while_empty(self, root):
        create(root).remove_empty()
        assert tree(root) == []
        create(root)

    def test_not_removed_with_episodes(self, root):
        writer = create(root)
        folder, _ = stage(root)
        writer.remove_empty()
        assert "meta/info.json" in tree(root)
        folder.remove()
        commit(writer, 0)
        with pytest.raises(StateError, match="1 episodes"):
            writer.remove_empty()


class TestOpen:
    def test_no_dataset(self, root):
        with pytest.raises(DatasetError, match="not a dataset"):
            DatasetWriter.open(root)
        assert not root.exists()

    def test_what_does_not_match(self, root):
        commit(create(root), 0)
        before = tree(root)
        with pytest.raises(DatasetError, match=r"(?s)fps.*wrist"):
            DatasetWriter.open(root, schema=Schema(TWO_VIDEOS), fps=25)
        assert tree(root) == before

    def test_leftovers_are_removed(self, root):
        writer = create(root)
        for episode in range(2):
            commit(writer, episode, 4)
        good = {path: (root / path).read_bytes() for path in tree(root)}
        commit(writer, 2, 3, task="New")
        for name in ("meta/info.json",):
            (root / name).write_bytes(good[name])
        (root / "data/chunk-900/.file-009.parquet.123.aiorecord-tmp").write_bytes(b"half")
        (root / ".pack-x.aiorecord-tmp").write_bytes(b"")
        (root / "videos/observation.images.front/chunk-901").mkdir()
        (root / "videos/observation.images.front/chunk-901/file-000.mp4").write_bytes(b"no video")
        writer = DatasetWriter.open(root)
        assert tree(root) == sorted(good)
        check_dataset(root, [(0, 4), (1, 4)])
        assert read_tasks(root) == {"Pick": 0}
        commit(writer, 3, 2, task="Other")
        check_dataset(root, [(0, 4), (1, 4), (3, 2)])

    def test_everything_of_a_first_commit_is_removed(self, root):
        writer = create(root)
        empty = (root / "meta/info.json").read_bytes()
        commit(writer, 0)
        (root / "meta/info.json").write_bytes(empty)
        DatasetWriter.open(root)
        assert tree(root) == ["meta/aiorecord/dataset.json", "meta/info.json"]

    def test_statistics_are_computed_anew(self, root):
        writer = create(root)
        for episode in range(3):
            commit(writer, episode, 4)
        path = root / "meta/stats.json"
        good = json.loads(path.read_text())
        for broken in (
            b"",
            b"{}",
            b"[]",
            json.dumps(good | {"index": {**good["index"], "count": [1]}}).encode(),
        ):
            path.write_bytes(broken)
            DatasetWriter.open(root)
            again = json.loads(path.read_text())
            assert again.keys() == good.keys()
            for key in good:
                for name in STAT_NAMES:
                    np.testing.assert_allclose(again[key][name], good[key][name], rtol=1e-12)

    @pytest.mark.parametrize("lost", ["meta/episodes/chunk-900/file-000.parquet", "meta/tasks.parquet"])
    def test_metadata_that_is_missing(self, root, lost):
        commit(create(root), 0)
        (root / lost).unlink()
        with pytest.raises(DatasetError, match="counts 1"):
            DatasetWriter.open(root)

    def test_metadata_that_does_not_add_up(self, root):
        commit(create(root), 0)
        info = info_of(root) | {"total_frames": 4}
        (root / "meta/info.json").write_text(json.dumps(info))
        with pytest.raises(DatasetError, match="counts 4"):
            DatasetWriter.open(root)

    def test_metadata_without_a_footer(self, root):
        """What lerobot leaves when it is killed."""
        commit(create(root), 0)
        path = root / "meta/episodes/chunk-900/file-000.parquet"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DatasetError, match="cannot be read"):
            DatasetWriter.open(root)

    def test_tasks_in_use_are_kept_whatever_is_counted(self, root):
        commit(create(root), 0, task="a")
        info = info_of(root) | {"total_tasks": 0}
        (root / "meta/info.json").write_text(json.dumps(info))
        DatasetWriter.open(root)
        assert read_tasks(root) == {"a": 0}


def test_the_disk_is_full_for_a_moment(root, monkeypatch):
    """Whatever step fails, the dataset stays as it is, and the episode can be committed afterwards."""
    contents: list[tuple[int, int]] = []
    writer = create(root)
    change = 0
    while True:
        folder, encoded = stage(root, change, 2, task=f"Task {change}")
        with full_disk_at(change, monkeypatch) as faults:
            try:
                writer.commit(folder, encoded)
            except StorageError:
                assert faults.struck
                visible = json.loads((root / "meta/info.json").read_text())["total_episodes"]
                check_dataset(root, [*contents, (change, 2)][:visible])
        if not faults.struck:
            break
        writer.commit(folder, encoded)
        folder.remove()
        contents.append((change, 2))
        check_dataset(root, contents)
        change += 1
    assert change > 12
    assert not list(root.rglob("*aiorecord-tmp"))


def test_ids_of_committed_episodes_are_kept(root):
    writer = create(root)
    folder, encoded = stage(root)
    writer.commit(folder, encoded)
    assert read_ids(root / "meta/episodes/chunk-900/file-000.parquet") == {0: folder.id}
    assert [path.name for path in Staging(root).episode_paths()] == [folder.id]


def test_rows_of_a_mixed_data_file_are_cut(root):
    """lerobot keeps many episodes in a file; those that do not count are cut off its end."""
    writer = create(root, VECTORS)
    for episode in range(3):
        commit(writer, episode, 4)
    good = (root / "meta/info.json").read_bytes()
    written = sorted(root.glob("data/*/*"))
    tables = [pq.read_table(path) for path in written]
    extra = tables[2].set_column(
        tables[2].schema.get_field_index("episode_index"), "episode_index", pa.array([3] * 4)
    )
    with pq.ParquetWriter(written[2], tables[2].schema) as out:
        out.write_table(tables[2])
        out.write_table(extra.cast(tables[2].schema))
    DatasetWriter.open(root)
    assert (root / "meta/info.json").read_bytes() == good
    check_dataset(root, [(episode, 4) for episode in range(3)])
