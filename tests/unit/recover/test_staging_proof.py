"""Nothing of staging is taken for its end, or for sound, without proof."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from judged import recover, tree_hash

from aiorecord.capture.budget import ByteBudget
from aiorecord.capture.episode import EpisodeCapture
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig
from aiorecord.encoding.camera_encoding import EncodeJob, encode_camera
from aiorecord.encoding.encoded import EncodedEpisode
from aiorecord.errors import DamageError
from aiorecord.features import Schema
from aiorecord.staging.checksum_owner import owner_seed
from aiorecord.staging.checksums import CheckedFile, checked_chunks, sums_path
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.histograms import HISTOGRAM_BYTES
from aiorecord.staging.row_columns import rows_schema
from aiorecord.staging.rows import read_rows
from aiorecord.staging.sealed_json import read_sealed, write_sealed
from aiorecord.staging.staged_file import Extent, StagedFile
from aiorecord.staging.synced import SYNCED, SyncedLog
from aiorecord.staging.whole_frames import soundness

FRONT, STATE = "observation.images.front", "observation.state"
FPS, FRAMES = 30, 8
SCHEMA = Schema(
    {
        STATE: {"dtype": "float32", "shape": (2,), "names": None},
        FRONT: {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]},
    }
)
ENCODER = RGBEncoderConfig(vcodec="h264", preset="ultrafast")


def capture(root, *, live, ended=True, offset=0):
    """Record an episode of `FRAMES` frames; one that has not ended is as a kill after a second leaves it."""
    taken = EpisodeCapture.prepare(
        Staging(root),
        schema=SCHEMA,
        fps=FPS,
        rgb_encoder=ENCODER,
        depth_encoder=DepthEncoderConfig(),
        budget=ByteBudget(),
        live=[FRONT] if live else [],
    )
    for index in range(FRAMES):
        image = np.full((48, 64, 3), 20 * index + offset, np.uint8)
        row = {STATE: np.array([index, offset], np.float32), FRONT: image}
        taken.add_frame(SCHEMA.check(row), "task", index)
    folder = taken.finish()
    if not ended:
        durable = [
            folder.ROWS,
            folder.manifest.cameras[FRONT].file,
            folder.manifest.cameras[FRONT].histograms,
        ]
        sizes = {name: (folder.path / name).stat().st_size for name in durable}
        sizes[folder.ROWS] -= 8  # the end of the stream, which an fsync in between does not see
        (folder.path / SYNCED).unlink(missing_ok=True)
        log = SyncedLog(folder.path)
        log.note(sizes)
        log.close()
        folder.manifest.state, folder.manifest.length = "recording", None
        folder.save()
    return folder


@pytest.fixture(params=["live", "lossless"])
def kind(request):
    return request.param


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "set"
    DatasetWriter.create(root, schema=SCHEMA, fps=FPS)
    return root


@pytest.mark.parametrize("part", ["frames", "hist", "sums", "rows", "manifest"])
def test_a_read_error_leaves_the_episode_and_the_others_go_on(root, kind, part, monkeypatch, capsys):
    other = capture(root, live=kind == "live")
    folder = capture(root, live=kind == "live", ended=False)
    camera = folder.manifest.cameras[FRONT]
    name = {
        "frames": camera.file,
        "hist": camera.histograms,
        "sums": f"{camera.histograms}.crc",
        "rows": folder.ROWS,
        "manifest": folder.MANIFEST,
    }[part]
    before = tree_hash(folder.path)
    real = StagedFile.open.__func__

    def open_(cls, path, extent=None):
        file = real(cls, path, extent)
        if file is not None and path.name == name and path.parent == folder.path:
            os.close(file._descriptor)
            file._descriptor = os.open(folder.path, os.O_RDONLY)  # reading a folder is EISDIR: an error
        return file

    with monkeypatch.context() as patch:
        patch.setattr(StagedFile, "open", classmethod(open_))
        code, report = recover(root, capsys=capsys)
    assert code == 3
    assert report["undetermined"] == [folder.id]
    assert "nothing was changed" in report["episodes"][1]["note"]
    assert tree_hash(folder.path) == before
    assert not other.path.exists()
    code, report = recover(root, capsys=capsys)
    assert code == 0
    assert (report["total_episodes"], report["total_frames"]) == (2, 2 * FRAMES)


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "killed"])
def test_a_flipped_bit_anywhere_is_damage_and_stays(root, kind, ended, capsys):
    whole = capture(root, live=kind == "live", ended=ended)
    names = sorted(path.name for path in whole.path.iterdir() if path.name not in ("synced.log",))
    sizes = {name: (whole.path / name).stat().st_size for name in names}
    for name in names:
        for share in (0.1, 0.6):
            copy = root.with_name(f"{name}-{share}")
            shutil.copytree(root, copy)
            path = copy / ".aiorecord/episodes" / whole.id
            flip(path / name, int(sizes[name] * share))
            before = tree_hash(path)
            code, report = recover(copy, capsys=capsys)
            left = path.exists()
            # What is flipped is padding that no one reads, or it is noticed.
            assert (code, left) in ((1, True), (0, False)), (name, share, report)
            if left:
                assert report["total_frames"] == 0
                assert {e["found"] for e in report["episodes"]} <= {"damaged", "unreadable"}
                if not ended:
                    assert tree_hash(path) == before
            else:
                assert report["total_frames"] == FRAMES, (name, share)
                assert name == whole.ROWS


def test_captures_swapped_between_episodes_are_damage(root, kind, capsys):
    first, second = (capture(root, live=kind == "live", offset=offset) for offset in (0, 7))
    for name in {path.name for path in first.path.iterdir()} - {first.MANIFEST, first.ROWS, "synced.log"}:
        one, other = first.path / name, second.path / name
        one.rename(first.path / "aside")
        other.rename(one)
        (first.path / "aside").rename(other)
    code, report = recover(root, capsys=capsys)
    assert code == 1
    assert sorted(report["damaged"]) == [first.id, second.id]


def test_an_encoded_video_with_a_flipped_bit_is_encoded_again(root, capsys):
    folder = capture(root, live=False)
    encoded = encode_camera(EncodeJob(folder.path, FRONT))
    EncodedEpisode({FRONT: encoded}).save(folder)
    video = folder.path / encoded.file
    sound = video.read_bytes()
    flip(video, len(sound) // 3)
    code, _ = recover(root, "--no-pack", capsys=capsys)
    assert code == 0
    [stored] = root.glob("videos/*/*/*.mp4")
    assert stored.read_bytes() == sound


def test_a_lost_file_is_damage(root, kind, capsys):
    folder = capture(root, live=kind == "live")
    (folder.path / folder.manifest.cameras[FRONT].file).unlink()
    code, report = recover(root, capsys=capsys)
    assert (code, report["damaged"]) == (1, [folder.id])
    assert folder.path.exists()


def test_staging_of_version_1_has_no_checksums_and_is_recovered(root, kind, capsys):
    folder = capture(root, live=kind == "live")
    data = json.loads((folder.path / folder.MANIFEST).read_text())
    del data["crc32"]
    (folder.path / folder.MANIFEST).write_text(json.dumps(data | {"version": 1}))
    for path in folder.path.glob("*.crc"):
        path.unlink()
    (folder.path / "synced.log").unlink(missing_ok=True)
    code, report = recover(root, capsys=capsys)
    assert (code, report["total_frames"]) == (0, FRAMES)


def test_a_torn_last_append_is_no_damage(tmp_path):
    file = CheckedFile(tmp_path / "a.mkv")
    file.append(b"one")
    file.append(b"two")
    file.close()
    with (tmp_path / "a.mkv").open("ab") as more:
        more.write(b"without a checksum")
    extent = Extent()
    assert list(checked_chunks(file.path, extent, checked=True)) == [b"one", b"two"]
    assert (extent.end, extent.fault) == (6, None)
    flip(sums_path(file.path), 20)
    assert list(checked_chunks(file.path, extent, checked=True)) == [b"one"]
    assert extent.fault is not None


def test_a_sparse_file_takes_no_memory(root):
    folder = capture(root, live=False, ended=False)
    camera = folder.manifest.cameras[FRONT]
    for name in (camera.histograms, folder.ROWS, camera.file):
        with (folder.path / name).open("r+b") as file:
            file.truncate(4 << 30)
    tracemalloc.start()
    found = soundness(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.counts == {"rows": FRAMES, FRONT: FRAMES}
    assert peak < 64 << 20


def test_compressed_rows_are_not_unpacked(tmp_path):
    schema, count = rows_schema(SCHEMA), 1_000_000
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * count, np.float32)), 2),
        pa.array([""] * count),
        pa.array(np.zeros(count, np.int64)),
    ]
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    path = tmp_path / "rows.arrows"
    with path.open("wb") as file, pa.ipc.new_stream(file, schema, options=options) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    peak = pool.max_memory()
    assert read_rows(path, SCHEMA).num_rows == 0
    assert pa.total_allocated_bytes() - before < 1 << 20
    assert pool.max_memory() == peak


def test_a_manifest_may_not_ask_for_all_memory(root):
    folder = capture(root, live=False)
    data = read_sealed(folder.path / folder.MANIFEST)
    for key, shape in ((STATE, [10**9]), (FRONT, [10**5, 10**4, 3])):
        features = data["features"] | {key: data["features"][key] | {"shape": shape}}
        camera = data["cameras"][FRONT]
        if key == FRONT:
            camera = camera | {"height": shape[0], "width": shape[1]}
        write_sealed(folder.path / folder.MANIFEST, data | {"features": features, "cameras": {FRONT: camera}})
        with pytest.raises(ValueError, match=r"can be stored|more"):
            EpisodeFolder.load(folder.path)


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("pipe", "link", "."):
        with pytest.raises(DamageError):
            StagedFile.open(tmp_path / name)
    assert StagedFile.open(tmp_path / "none") is None


def test_a_checksum_names_its_episode(tmp_path):
    path = tmp_path / "000001-0123abcd"
    path.mkdir()
    assert owner_seed(path / "x") != owner_seed(path / "y") != 0
    assert owner_seed(tmp_path / "x") == 0
    write_sealed(path / "x.json", {"a": 1})
    assert read_sealed(path / "x.json") == {"a": 1}
    (path / "x.json").rename(path / "y.json")
    with pytest.raises(DamageError):
        read_sealed(path / "y.json")


def test_histograms_are_of_one_size(root):
    folder = capture(root, live=False)
    assert (folder.path / f"{FRONT}.hist").stat().st_size == FRAMES * HISTOGRAM_BYTES
