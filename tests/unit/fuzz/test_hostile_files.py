"""Files made to lead out of the dataset, or to ask for all memory."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import struct
import sys
import zlib
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from subject import DEPTH, FEATURES, FRONT, read_everything

from aiorecord.cli import main
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.exchange.pack_journal import roll_forward
from aiorecord.encoding.encoded import EncodedEpisode
from aiorecord.encoding.episode_encoding import EpisodeEncoding
from aiorecord.errors import DatasetError, StorageError
from aiorecord.features import Schema
from aiorecord.media.pixels import new_rgb_frame
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.raw import RawWriter, raw_indices, read_indexed
from aiorecord.staging.reader import count_frames, read_frames
from aiorecord.staging.records import RecordWriter, read_records
from aiorecord.staging.rows import count_rows, read_rows
from aiorecord.staging.sealed_json import SEAL, seal_of
from aiorecord.system import storage

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX links and pipes")


@pytest.fixture
def outside(tmp_path):
    """A folder that nothing may touch; checked at the end."""
    folder = tmp_path / "outside"
    (folder / "chunk-950").mkdir(parents=True)
    for name in ("precious", "manifest.json", "lock", "chunk-950/file-000.parquet", "x.aiorecord-tmp"):
        (folder / name).write_text("mine")
    before = tree(folder)
    yield folder
    assert tree(folder) == before


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def staged(root: Path, number: int) -> Path:
    """Folder of the n-th staged episode: 0 is encoded, 1 was interrupted, 2 was interrupted with spills."""
    return Staging(root).episode_paths()[number]


def edit(path: Path, change) -> None:
    """Change a JSON file by hand, by one who knows of its checksum."""
    data = json.loads(path.read_bytes())
    change(data)
    if SEAL in data:
        data[SEAL] = seal_of(path, data)
    path.write_text(json.dumps(data))


def is_refused(path: Path, match: str | None = None) -> None:
    with pytest.raises(DatasetError, match=match):
        EpisodeFolder.load(path)


NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "name",
    ["meta/info.json", "meta/stats.json", "commit.json", "encoded.json", "manifest.json", "journal.json"],
)
@pytest.mark.parametrize(
    "content",
    [
        NESTED,
        '{"a":' * 100_000,
        "",
        "null",
        "[]",
        "{}",
        "9" * 10_000,
        "\ud800",
        b"\xff\xfe",
        '{"version": 1e999}',
    ],
    ids=["nested", "open", "empty", "null", "list", "object", "digits", "surrogate", "bytes", "infinity"],
)
def test_json_of_any_kind(dataset, name, content):
    path = dataset / name
    if name == "journal.json":
        path = dataset / ".aiorecord/pack/journal.json"
    elif "/" not in name:
        path = staged(dataset, 0) / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    read_everything(dataset)


def test_a_json_file_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "info.json"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        storage.read_json(path)


MANIFEST_EDITS = {
    "length": [10**12, -1, 0, 1.5, "7", True, None],
    "fps": [0, -30, 10**9, 29.97, "30", None, True],
    "encoder_threads": [0, 10**6, "2", 1.5],
    "state": ["done", None, 1],
    "task": [1, None, ["x"]],
    "interrupted": ["yes", None],
    "features": [{}, [], None, {FRONT: {}}, {**FEATURES, "x": {"dtype": "float32", "shape": [10**12]}}],
    "cameras": [{}, [], None],
    "version": [0, 3, "1", None],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in MANIFEST_EDITS.items() for v in values])
def test_a_manifest_with_a_wrong_value(dataset, field, value):
    path = staged(dataset, 0)
    edit(path / "manifest.json", lambda data: data.__setitem__(field, value))
    is_refused(path)
    before = tree(path)
    read_everything(dataset)
    assert tree(path) == before


@pytest.mark.parametrize("field", ["file", "spill", "histograms"])
@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "C:x", ".hidden", "x" * 300),
        *("rows.arrows", "manifest.json", f"{FRONT}.mp4", f"{DEPTH}.raw", 3, None),
    ],
)
def test_file_names_that_leave_the_folder_or_are_used_twice(dataset, field, name):
    path = staged(dataset, 1)
    edit(path / "manifest.json", lambda data: data["cameras"][FRONT].__setitem__(field, name))
    is_refused(path)


@pytest.mark.parametrize(
    "change",
    [
        {"height": 10**9},
        {"width": -64},
        {"height": "48"},
        {"capture": "rawer"},
        {"capture": "raw"},
        {"frames": -1},
        {"spilled": 10**30},
        {"pix_fmt": 3},
        {"depth_unit": "furlong"},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_camera_with_a_wrong_value(dataset, change):
    path = staged(dataset, 1)
    edit(path / "manifest.json", lambda data: data["cameras"][FRONT].update(change))
    is_refused(path)


@pytest.mark.parametrize(
    "options",
    [
        {"x264-params": "pass=1:stats=/tmp/evil"},
        {"stats": "evil"},
        {"x265-params": "csv=evil.csv"},
        {"x264-params": "--dump-yuv=x"},
        {"passlogfile": "x"},
        [["stats", "x"]],
        {"x264-params": "pass=1:'stats'=evil"},
        {"x264-params": "st\\ats=evil:pass=1"},
        {"x264opts": "dump_yuv=evil"},
        {"flags": "+pass1"},
        {"x265-params": "pass=1"},
        {"svtav1-params": "stats=evil"},
        {"x264-params": {"stats": "evil"}},
    ],
    ids=str,
)
def test_encoder_options_that_write_files(dataset, options):
    path = staged(dataset, 1)
    edit(path / "manifest.json", lambda data: data["rgb_encoder"].__setitem__("extra_options", options))
    is_refused(path)


@posix
class TestLinks:
    def test_an_episode_folder(self, dataset, outside):
        path = staged(dataset, 1)
        moved = outside.parent / "episode"
        shutil.move(path, moved)
        path.symlink_to(moved)
        before = tree(moved)
        is_refused(path, "not a folder")
        assert "unreadable" in read_everything(dataset)
        assert main(["recover", str(dataset), "--dry-run"]) == 1
        assert path.is_symlink()
        assert tree(moved) == before

    @pytest.mark.parametrize(
        "name", ["rows.arrows", f"{FRONT}.frames", f"{DEPTH}.raw", "manifest.json", "more"]
    )
    def test_a_file_of_an_episode(self, dataset, outside, name):
        path = staged(dataset, 1)
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(outside / "precious")
        is_refused(path)
        assert "unreadable" in read_everything(dataset)

    def test_a_pipe_does_not_hang(self, dataset):
        path = staged(dataset, 1)
        (path / "rows.arrows").unlink()
        os.mkfifo(path / "rows.arrows")
        is_refused(path, "not a plain file")
        (dataset / "meta/info.json").unlink()
        os.mkfifo(dataset / "meta/info.json")
        with pytest.raises(DatasetError, match="not a file"):
            DatasetWriter.open(dataset)

    @pytest.mark.parametrize("place", [".aiorecord", ".aiorecord/episodes"])
    def test_the_staging_area(self, dataset, outside, place):
        shutil.rmtree(dataset / place)
        (dataset / place).symlink_to(outside)
        assert main(["recover", str(dataset)]) == 1
        assert main(["recover", str(dataset), "--dry-run"]) == 1
        with pytest.raises(StorageError, match="symbolic link"):
            Staging(dataset).episode_paths()

    def test_the_lock(self, dataset, outside):
        (dataset / ".aiorecord/lock").symlink_to(outside / "lock")
        assert main(["recover", str(dataset)]) == 1

    @pytest.mark.parametrize("place", ["meta", "data", "videos", "meta/episodes", f"videos/{FRONT}"])
    def test_a_folder_of_the_dataset(self, dataset, outside, place):
        moved = outside.parent / "moved"
        shutil.move(dataset / place, moved)
        (dataset / place).symlink_to(moved)
        before = tree(moved)
        assert main(["recover", str(dataset)]) == 1
        assert tree(moved) == before

    def test_a_chunk_that_would_be_rolled_back(self, dataset, outside):
        (dataset / "data/chunk-950").symlink_to(outside / "chunk-950")
        with pytest.raises(DatasetError, match="symbolic link"):
            DatasetWriter.open(dataset)

    def test_a_temporary_name(self, dataset, outside):
        for name in ("data", "meta"):
            (dataset / name / "x.aiorecord-tmp").symlink_to(outside)
        read_everything(dataset)
        assert not (dataset / "data/x.aiorecord-tmp").is_symlink()

    def test_removing_a_folder_that_is_a_link(self, tmp_path, outside):
        link = tmp_path / "link"
        link.symlink_to(outside)
        storage.remove_tree(link)
        assert not link.is_symlink()

    def test_links_in_a_folder_that_is_removed(self, tmp_path, outside):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/link").symlink_to(outside)
        storage.remove_tree(tmp_path / "folder")
        assert not (tmp_path / "folder").exists()

    def test_the_root_may_be_one(self, dataset):
        link = dataset.with_name("link")
        link.symlink_to(dataset)
        assert main(["recover", str(link), "--dry-run"]) in (0, 3)
        assert "rows" in read_everything(link)


class TestThePackJournal:
    @pytest.mark.parametrize(
        "change",
        [
            {"moves": {f"videos/{FRONT}-0.mp4": "../outside/evil"}},
            {"moves": {f"videos/{FRONT}-0.mp4": "/tmp/evil"}},
            {"moves": {f"videos/{FRONT}-0.mp4": "meta/info.json"}},
            {"moves": {f"videos/{FRONT}-0.mp4": "videos/../../chunk-000/file-000.mp4"}},
            {"moves": {f"videos/{FRONT}-0.mp4": "videos/a\0b/chunk-000/file-000.mp4"}},
            {"moves": {"../../meta/info.json": f"videos/{FRONT}/chunk-000/file-000.mp4"}},
            {"removed": ["../outside/precious"]},
            {"removed": ["meta/episodes"]},
            {"removed": ["data"]},
            {"folders": {"data": "../outside"}},
            {"folders": {"videos": "data"}},
            {"token": "../../x"},
            {"token": 3},
            {"moves": []},
            {"removed": [3]},
            {"surprise": 1},
        ],
        ids=str,
    )
    def test_that_names_something_else_changes_nothing(self, dataset, outside, change):
        journal = {"token": "ab12", "moves": {}, "folders": {}, "removed": []} | change
        (dataset / ".aiorecord/pack/journal.json").write_text(json.dumps(journal))
        before = tree(dataset)
        with pytest.raises(DatasetError, match="journal"):
            roll_forward(dataset)
        assert tree(dataset) == before

    def test_that_no_packing_of_the_dataset_wrote_is_left(self, dataset):
        target = f"videos/{FRONT}/chunk-000/file-000.mp4"
        journal = {"token": "ab12", "moves": {f"videos/{FRONT}-0.mp4": target}, "folders": {}, "removed": []}
        (dataset / ".aiorecord/pack/journal.json").write_text(json.dumps(journal))
        before = tree(dataset)
        with pytest.raises(DatasetError, match="packing of this dataset"):
            roll_forward(dataset)
        assert tree(dataset) == before


class TestEncodedJson:
    @pytest.mark.parametrize(
        "change",
        [
            {"file": "../../../outside/precious"},
            {"file": "/etc/passwd"},
            {"file": "manifest.json"},
            {"frames": 0},
            {"frames": "4"},
            {"stats": {}},
            {"info": []},
            {"key": "other"},
        ],
        ids=str,
    )
    def test_that_is_not_what_an_encode_writes_is_not_believed(self, dataset, change):
        path = staged(dataset, 0)
        edit(path / "encoded.json", lambda data: data["cameras"][FRONT].update(change))
        assert EncodedEpisode.load(EpisodeFolder.load(path)) is None

    @pytest.mark.parametrize("change", [{"dtype": "object"}, {"dtype": "O"}, {"values": ["1"] * 10**5}])
    def test_statistics_too(self, dataset, change):
        path = staged(dataset, 0)
        edit(path / "encoded.json", lambda data: data["cameras"][FRONT]["stats"]["mean"].update(change))
        assert EncodedEpisode.load(EpisodeFolder.load(path)) is None

    def test_a_video_that_changed_since_is_not_committed(self, dataset):
        """Same size, but frames are gone: it would be encoded again."""
        folder = EpisodeFolder.load(staged(dataset, 0))
        encoded = EncodedEpisode.load(folder)
        encoding = EpisodeEncoding(folder, executor=None)  # type: ignore[arg-type]
        assert encoding._is_whole(encoded)
        video = folder.path / f"{FRONT}.mp4"
        data = bytearray(video.read_bytes())
        data[len(data) // 3 :] = bytes(len(data) - len(data) // 3)
        video.write_bytes(data)
        assert not encoding._is_whole(encoded)


class TestTablesOfAnotherKind:
    @pytest.mark.parametrize("name", ["meta/tasks.parquet", "meta/episodes/chunk-900/file-000.parquet"])
    @pytest.mark.parametrize(
        "column",
        [
            pa.array([None, None, None]),
            pa.array(["a", "b", "c"]),
            pa.array([-5, 10**15, 3]),
            pa.array([[1]] * 3),
        ],
        ids=["nulls", "texts", "numbers", "lists"],
    )
    def test_columns(self, dataset, name, column):
        import pyarrow.parquet as pq

        table = pq.read_table(dataset / name)
        for place, field in enumerate(table.schema):
            changed = table.set_column(place, field.name, column.slice(0, table.num_rows))
            pq.write_table(changed.replace_schema_metadata(table.schema.metadata), dataset / name)
            read_everything(dataset)


class TestRawFrames:
    HEADER = struct.Struct("<QQ8sI4I")

    def record(self, *, size=10, dtype=b"|u1", ndim=2, shape=(2, 5, 0, 0), payload=None) -> bytes:
        """A record whose checksum is right, whatever it claims."""
        payload = pa.Codec("lz4_raw").compress(b"x" * 10, asbytes=True) if payload is None else payload
        header = self.HEADER.pack(0, size if size is not None else len(payload), dtype, ndim, *shape)
        return struct.pack("<4sI", b"AIRF", zlib.crc32(payload, zlib.crc32(header))) + header + payload

    @pytest.mark.parametrize(
        "claims",
        [
            {"size": 100 << 30},
            {"size": 2**64 - 1},
            {"size": None, "shape": (2**32 - 1,) * 4, "ndim": 4},
            {"size": None, "shape": (10**5, 10**6, 0, 0)},
            {"size": None, "dtype": b"|O"},
            {"size": None, "dtype": b"\xff\xfe"},
            {"size": None, "dtype": b"M8"},
            {"size": None, "ndim": 0},
            {"size": None, "ndim": 9},
            {"size": None, "shape": (0, 5, 0, 0)},
            {"size": None, "payload": b"\xff" * 20},
            {"size": None, "payload": b""},
        ],
        ids=str,
    )
    def test_claims_are_not_believed(self, tmp_path, claims):
        path = tmp_path / "x.raw"
        with closing(RawWriter(path)) as writer:
            writer.write(np.zeros((2, 5), np.uint8))
        with path.open("ab") as file:
            file.write(self.record(**claims))
        assert len(list(read_indexed(path))) == 1
        assert 1 <= len(list(raw_indices(path))) <= 2

    def test_frames_of_another_size_end_the_camera(self, dataset):
        folder = EpisodeFolder.load(staged(dataset, 1))
        raw = folder.path / folder.manifest.cameras[DEPTH].file
        raw.unlink()
        with closing(RawWriter(raw)) as writer:
            writer.write(np.zeros((48, 64), np.uint16))
            writer.write(np.zeros((4800, 64), np.uint16))
        assert len(list(read_frames(folder, DEPTH))) == 1


class TestArrowStreams:
    @pytest.mark.parametrize("place", ["schema", "batch"])
    @pytest.mark.parametrize("length", [2**31 - 1, 2**30, -5])
    def test_absurd_lengths(self, dataset, place, length):
        path = staged(dataset, 1) / "rows.arrows"
        data = bytearray(path.read_bytes())
        at = 0 if place == "schema" else data.index(b"\xff\xff\xff\xff", 8)
        data[at + 4 : at + 8] = struct.pack("<i", length)
        path.write_bytes(data)
        assert read_rows(path, Schema(FEATURES)).num_rows == 0
        assert count_rows(path) == 0

    def test_a_sparse_terabyte(self, dataset):
        path = staged(dataset, 1) / "rows.arrows"
        with path.open("r+b") as file:
            file.truncate(1 << 40)
        assert read_rows(path, Schema(FEATURES)).num_rows == 8

    def test_every_truncation_has_the_rows_before_it(self, dataset):
        path = staged(dataset, 1) / "rows.arrows"
        data = path.read_bytes()
        rows = []
        for length in range(0, len(data), 13):
            path.write_bytes(data[:length])
            rows.append(read_rows(path, Schema(FEATURES)).num_rows)
        assert rows == sorted(rows)
        assert set(rows) <= {0, 8}


class TestFrames:
    @pytest.mark.parametrize("size", [(4096, 2160), (128, 48)])
    def test_absurd_dimensions_of_a_live_capture_are_no_frames(self, dataset, size):
        folder = EpisodeFolder.load(staged(dataset, 1))
        folder.manifest.cameras[FRONT].capture = "live"
        path = folder.path / folder.manifest.cameras[FRONT].file
        with av.open(str(path), "w", format="matroska") as container:
            stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            container.mux(stream.encode(av.VideoFrame(*size, "yuv420p")))
            container.mux(stream.encode(None))
        assert count_frames(folder, FRONT) == 0
        assert not list(read_frames(folder, FRONT))

    def test_every_truncation_is_counted_as_it_reads(self, dataset):
        folder = EpisodeFolder.load(staged(dataset, 1))
        path = folder.path / folder.manifest.cameras[FRONT].file
        data = path.read_bytes()
        counts = []
        for length in range(0, len(data), len(data) // 60):
            path.write_bytes(data[:length])
            counts.append(count_frames(folder, FRONT))
            assert counts[-1] == sum(1 for _ in read_frames(folder, FRONT))
        assert counts == sorted(counts)
        assert counts[-1] >= 7


def test_text_that_could_not_be_written_again(dataset):
    """Half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
    path = staged(dataset, 1)
    edit(path / "manifest.json", lambda data: data.update(task="\ud800", version=1))
    data = json.loads((path / "manifest.json").read_bytes())
    del data[SEAL]  # version 1 had none
    (path / "manifest.json").write_text(json.dumps(data))
    assert EpisodeFolder.load(path).manifest.task == "?"
    assert "unreadable" not in read_everything(dataset)


def test_frames_that_are_not_where_they_say_end_the_camera(dataset):
    folder = EpisodeFolder.load(staged(dataset, 1))
    path = folder.path / folder.manifest.cameras[FRONT].file
    records = list(read_records(path))
    path.unlink()
    with closing(RecordWriter(path)) as file:
        for record in [records[0], *records[2:]]:  # whole and sound, but one is gone
            file.append_record(record.index, record.kind, record.shape, record.payload)
    assert count_frames(folder, FRONT) == 1 == sum(1 for _ in read_frames(folder, FRONT))
    read_everything(dataset)


@pytest.mark.parametrize("payload", [b"", b"MAGY", b"\0" * 1000, b"MAGY" + b"\xff" * 1000])
def test_a_sound_record_with_no_picture_in_it_ends_the_camera(dataset, payload):
    folder = EpisodeFolder.load(staged(dataset, 1))
    path = folder.path / folder.manifest.cameras[FRONT].file
    first, *_ = list(read_records(path))
    path.unlink()
    with closing(RecordWriter(path)) as file:
        file.append_record(0, first.kind, first.shape, first.payload)
        file.append_record(1, first.kind, first.shape, payload)
    assert len(list(read_frames(folder, FRONT))) == 1
    read_everything(dataset)


def test_a_picture_of_another_size_in_a_record_ends_the_camera(dataset):
    folder = EpisodeFolder.load(staged(dataset, 1))
    camera = folder.manifest.cameras[FRONT]
    path = folder.path / camera.file
    first, *_ = list(read_records(path))
    wide = dataclasses.replace(camera, width=4 * camera.width)
    writer = LosslessWriter(path.with_name("wide"), wide, 30)
    frame, pixels = new_rgb_frame(wide.height, wide.width)
    pixels[:] = 7
    writer.write(frame)
    writer.close()
    (large,) = read_records(path.with_name("wide"))
    path.with_name("wide").unlink()
    path.unlink()
    with closing(RecordWriter(path)) as file:
        file.append_record(0, first.kind, first.shape, first.payload)
        file.append_record(1, first.kind, first.shape, large.payload)
    assert len(list(read_frames(folder, FRONT))) == 1
    read_everything(dataset)


def test_a_power_loss_may_leave_histograms_of_zeros(dataset):
    from aiorecord.staging.reader import read_histograms

    folder = EpisodeFolder.load(staged(dataset, 1))
    path = folder.path / folder.manifest.cameras[FRONT].histograms
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
    assert len(list(read_histograms(folder, FRONT))) == 4


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pickled",)


def test_nothing_is_unpickled(prepared, dataset, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in [p.relative_to(prepared) for p in prepared.rglob("*") if p.is_file() and p.suffix != ".mp4"]:
        shutil.rmtree(dataset)
        shutil.copytree(prepared, dataset)
        path = dataset / name
        path.write_bytes(pickle.dumps(Bomb()))
        read_everything(dataset)
    assert not (tmp_path / "pickled").exists()
