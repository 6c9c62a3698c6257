"""A live capture becomes the very video that a direct encode makes; what it cannot take is joined to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from live import FEATURES, KEY, add, captured, coded, decoded, picture, prepare

from aiorecord.capture import camera as camera_module
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.dataset.recovery.salvage import ready, salvage
from aiorecord.encoders import RGBEncoderConfig
from aiorecord.encoding import live_copy
from aiorecord.encoding.camera_encoding import EncodeJob, direct_encode, encode_camera
from aiorecord.encoding.encoded import EncodedCamera
from aiorecord.encoding.stats import histogram_stats, sample_indices
from aiorecord.errors import CodecUnavailableError, DamageError, EncodeError
from aiorecord.features import Schema
from aiorecord.media.encoder import default_threads
from aiorecord.media.video_file import verify_video
from aiorecord.staging import live, matroska_file
from aiorecord.staging.checksums import CheckedFile
from aiorecord.staging.folder import EpisodeFolder, Staging
from aiorecord.staging.histograms import histogram
from aiorecord.staging.live import LiveWriter, whole_frames
from aiorecord.staging.reader import count_frames, read_frames
from aiorecord.system.thread_capabilities import unprivileged_threads

H264 = RGBEncoderConfig(vcodec="h264")
REORDERING = RGBEncoderConfig(vcodec="h264", g=12)
AV1 = RGBEncoderConfig()
CHILD = Path(__file__).with_name("live_child.py")


def encode(folder: EpisodeFolder) -> EncodedCamera:
    return encode_camera(EncodeJob(folder.path, KEY))


def direct(path: Path, first: int, last: int, encoder: RGBEncoderConfig, fps: int = 30) -> Path:
    frames = [picture(k) for k in range(first, last)]
    direct_encode(frames, path, encoder, fps, default_threads(encoder, 1))
    return path


@pytest.mark.parametrize(
    "encoder",
    [H264, REORDERING, AV1, RGBEncoderConfig(vcodec="hevc", g=10)],
    ids=["h264", "b", "av1", "hevc"],
)
@pytest.mark.parametrize("fps", [30, 7, 240])
def test_packets_are_those_of_a_direct_encode(tmp_path, encoder, fps):
    folder = captured(tmp_path, 40, encoder, fps)
    assert folder.manifest.cameras[KEY].capture == "live"
    result = encode(folder)
    video = folder.path / result.file
    verify_video(video, 40, fps)
    assert coded(video, fps) == coded(direct(tmp_path / "direct.mp4", 0, 40, encoder, fps), fps)


def test_it_is_also_what_a_deferred_encode_makes_of_it(tmp_path):
    live = captured(tmp_path / "live", 30, H264)
    deferred = captured(tmp_path / "deferred", 30, H264, live=())
    assert deferred.manifest.cameras[KEY].capture == "lossless"
    ours, theirs = encode(live), encode(deferred)
    assert coded(live.path / ours.file, 30) == coded(deferred.path / theirs.file, 30)
    assert ours.info == theirs.info
    for name, value in theirs.stats.items():  # of the original pixels, both
        np.testing.assert_array_equal(ours.stats[name], value)


def test_a_finished_live_capture_is_copied_not_decoded(tmp_path, monkeypatch):
    folder = captured(tmp_path, 20, H264)

    def no(*args, **options):
        raise AssertionError("nothing is to be decoded or encoded")

    monkeypatch.setattr(matroska_file.LiveCapture, "decoded", no)
    monkeypatch.setattr(live_copy, "VideoOutput", no)
    assert encode(folder).frames == 20


class Gated(LiveWriter):
    """An encoder that stops at a frame until the spill has begun."""

    at = 0
    gate = threading.Event()

    def write(self, frame):
        if self._encoder.frames == self.at:
            assert self.gate.wait(60)
        super().write(frame)


@pytest.mark.parametrize("encoder", [H264, REORDERING], ids=["h264", "b"])
@pytest.mark.parametrize("at", [0, 17])
def test_an_encoder_that_fails_costs_no_frame(tmp_path, monkeypatch, encoder, at):
    """What it held back never comes; it was kept in memory."""

    class Failing(LiveWriter):
        def write(self, frame):
            if self._encoder.frames == at:
                raise EncodeError("the encoder broke")
            super().write(frame)

        def close(self):
            self._container.close()
            CheckedFile.close(self)
            raise EncodeError("it is still broken")

    monkeypatch.setattr(live, "LiveWriter", Failing)
    folder = captured(tmp_path, 30, encoder)
    camera = folder.manifest.cameras[KEY]
    assert camera.frames is not None
    assert camera.frames <= at
    assert camera.frames + camera.spilled == folder.manifest.length == 30
    assert "broke" in folder.manifest.quality["capture_encoder_failed"][KEY]
    assert count_frames(folder, KEY) == 30
    video = folder.path / encode(folder).file
    verify_video(video, 30, 30)
    for k, frame in enumerate(decoded(video)):
        assert np.abs(frame.astype(int) - picture(k)).mean() < 25, k


def spill(capture, gate):
    """Let the encoder go on once the spill has begun, and wait until there is room for the next frame."""
    camera = capture._cameras[KEY]
    if camera._queue.spilling:
        gate.set()
        pause, deadline = threading.Event(), time.monotonic() + 60
        while camera._queue.account.waiting and time.monotonic() < deadline:
            pause.wait(0.001)


@pytest.mark.parametrize("encoder", [H264, REORDERING], ids=["h264", "b"])
@pytest.mark.parametrize("at", [0, 7])
def test_what_the_encoder_cannot_take_is_encoded_likewise_and_joined(tmp_path, monkeypatch, encoder, at):
    gate = threading.Event()
    writer = type("Writer", (Gated,), {"at": at, "gate": gate})
    monkeypatch.setattr(live, "LiveWriter", writer)
    capture = prepare(tmp_path, encoder, limit=10 * picture(0).nbytes)
    for k in range(30):
        add(capture, k)
        spill(capture, gate)
    folder = capture.finish()
    camera = folder.manifest.cameras[KEY]
    assert camera.spilled > 0
    assert camera.frames is not None
    assert camera.frames + camera.spilled == 30
    result = encode(folder)
    video = folder.path / result.file
    verify_video(video, 30, 30)
    head = direct(tmp_path / "head.mp4", 0, camera.frames, encoder) if camera.frames else None
    tail = direct(tmp_path / "tail.mp4", camera.frames, 30, encoder)
    packets = [p[0] for part in (head, tail) if part is not None for p in coded(part, 30)[0]]
    assert [p[0] for p in coded(video, 30)[0]] == packets
    for k, frame in enumerate(decoded(video)):
        assert np.abs(frame.astype(int) - picture(k)).mean() < 25, k
        assert np.abs(frame.astype(int) - picture(k + 1)).mean() > 40
    assert not [p for p in folder.path.iterdir() if "tmp" in p.name]


def test_statistics_of_spilled_frames_count(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(live, "LiveWriter", type("W", (Gated,), {"at": 3, "gate": gate}))
    capture = prepare(tmp_path, H264, limit=4 * picture(0).nbytes)
    for k in range(12):
        add(capture, k)
        spill(capture, gate)
    stats = encode(capture.finish()).stats
    expected = histogram_stats(np.stack([histogram(picture(k)) for k in sample_indices(12)]))
    for name, value in expected.items():
        np.testing.assert_array_equal(stats[name], value)


@pytest.mark.parametrize("encoder", ["h264", "b", "libsvtav1"])
def test_a_killed_live_capture_is_kept_but_for_what_the_encoder_held(tmp_path, encoder):
    fps = 30
    writer = DatasetWriter.create(tmp_path / "set", fps=fps, schema=Schema(FEATURES), robot_type=None)
    with subprocess.Popen(
        [sys.executable, str(CHILD), str(tmp_path / "set"), encoder, "100"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        given, held = map(int, child.stdout.readline().split())
        child.kill()
    (path,) = Staging(tmp_path / "set").episode_paths()
    folder = EpisodeFolder.load(path)
    assert folder.manifest.state == "recording"
    count = count_frames(folder, KEY)
    # Two packets at most were in the cluster being written; a frame whose predecessors are lost goes too.
    reordered = 4 if encoder == "b" else 0
    assert given - held - 2 - reordered <= count <= given - held
    found = salvage(writer, Staging(tmp_path / "set"))
    (folder,) = ready(found)
    assert folder.manifest.length == count
    result = encode(folder)
    assert result.frames == count
    verify_video(folder.path / result.file, count, fps)
    for k, frame in enumerate(decoded(folder.path / result.file)):
        assert np.abs(frame.astype(int) - picture(k)).mean() < 40, k


@pytest.mark.parametrize("encoder", [H264, REORDERING], ids=["h264", "b"])
def test_a_file_cut_at_any_byte_is_saved_as_far_as_it_goes(tmp_path, encoder):
    folder = captured(tmp_path, 24, encoder)
    whole = (folder.path / folder.manifest.cameras[KEY].file).read_bytes()
    reference = decoded(direct(tmp_path / "direct.mp4", 0, 24, encoder))
    counts = set()
    for cut in range(len(whole), 0, -max(1, len(whole) // 29)):
        (folder.path / folder.manifest.cameras[KEY].file).write_bytes(whole[:cut])
        folder.manifest.state, folder.manifest.length = "recording", None
        folder.manifest.cameras[KEY].frames = None
        count = count_frames(folder, KEY)
        counts.add(count)
        assert sum(1 for _ in read_frames(folder, KEY)) == count
        if not count:
            continue
        folder.manifest.state, folder.manifest.length = "complete", count
        folder.save()
        result = encode(folder)
        verify_video(folder.path / result.file, count, 30)
        for ours, theirs in zip(decoded(folder.path / result.file), reference, strict=False):
            np.testing.assert_array_equal(ours, theirs)
    assert len(counts) > 10
    assert max(counts) == 24


def test_a_tail_of_zeros_is_not_counted(tmp_path):
    folder = captured(tmp_path, 24, H264)
    path = folder.path / folder.manifest.cameras[KEY].file
    size = path.stat().st_size
    with path.open("r+b") as file:  # as after a power loss: the size is there, the content is not
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    folder.manifest.state, folder.manifest.length = "recording", None
    assert 6 <= count_frames(folder, KEY) <= 14


@pytest.mark.parametrize("length", [1, 5, 8, 11])
def test_fewer_rows_than_frames_keeps_every_row(tmp_path, length):
    """Rows end where they reached the disk; with reordered frames that is no place to cut packets at."""
    folder = captured(tmp_path, 24, REORDERING)
    folder.manifest.length = length
    folder.save()
    result = encode(folder)
    assert result.frames == length
    verify_video(folder.path / result.file, length, 30)
    for k, frame in enumerate(decoded(folder.path / result.file)):
        assert np.abs(frame.astype(int) - picture(k)).mean() < 40, k


def test_without_histograms_the_statistics_are_of_the_video(tmp_path):
    folder = captured(tmp_path, 12, H264)
    (folder.path / f"{KEY}.hist").unlink()
    stats = encode(folder).stats
    assert stats["count"].tolist() == [12]
    np.testing.assert_allclose(
        stats["mean"].ravel(), np.mean([picture(k) for k in range(12)], axis=(0, 1, 2)) / 255, atol=0.05
    )


def test_lost_packets_are_an_error(tmp_path):
    folder = captured(tmp_path, 24, H264)
    path = folder.path / folder.manifest.cameras[KEY].file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DamageError):
        encode(folder)
    assert not (folder.path / f"{KEY}.mp4").exists()


def test_an_encoder_that_does_not_open_is_said_and_leaves_nothing(tmp_path):
    before = threading.enumerate()
    with pytest.raises(CodecUnavailableError, match="live capture"):
        prepare(tmp_path, RGBEncoderConfig(vcodec="h264", pix_fmt="gray12le"))
    assert Staging(tmp_path).episode_paths() == []
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("aiorecord")]


def test_the_codec_is_open_before_the_first_frame(tmp_path):
    capture = prepare(tmp_path, H264)
    writer = capture._cameras[KEY]._writer
    assert isinstance(writer, LiveWriter)
    assert writer._encoder._stream is not None
    assert writer._encoder._stream.codec_context.is_open
    capture.discard()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have their own nice value on Linux")
def test_encoder_threads_give_way_to_the_loop(tmp_path):
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    before = set(os.listdir("/proc/self/task"))
    capture = prepare(tmp_path, AV1)
    add(capture, 0)
    started = set(os.listdir("/proc/self/task")) - before
    journal = capture._journal.thread.native_id
    lowered = [os.getpriority(os.PRIO_PROCESS, int(t)) for t in started if int(t) != journal]
    assert len(lowered) >= 4
    assert min(lowered) >= max(mine, camera_module.SPILL_NICE)
    assert {os.sched_getscheduler(int(t)) for t in started} == {os.SCHED_OTHER}
    capture.discard()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a policy for each thread")
def test_a_library_cannot_make_real_time_threads_in_the_block():
    before, fifo = os.sched_getscheduler(0), os.sched_param(99)

    def choose():
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, fifo)
        except PermissionError:
            return False
        os.sched_setscheduler(0, before, os.sched_param(0))
        return True

    may = choose()
    with ThreadPoolExecutor(1) as threads:
        with unprivileged_threads():
            assert not choose()
            assert not threads.submit(choose).result(), "nor in a thread that was started in it"
        assert choose() == may, "the caller has its capability again"
    with pytest.raises(ZeroDivisionError), unprivileged_threads():
        raise ZeroDivisionError
    assert choose() == may
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize(
    ("numbers", "limit", "expected"),
    [
        ([], None, 0),
        ([0, 1, 2], None, 3),
        ([0, 1, 2], 2, 2),
        ([0, 4, 2, 1, 3], None, 5),
        ([0, 4, 2, 1], None, 1),
        ([0, 4, 2, 1, 3, 5], 3, 1),
        ([1, 0], 1, 0),
        ([1, 2], None, 0),
        ([0, 1, 1, 2], None, 2),
        ([0, -1, 1], None, 1),
        ([0, *range(10, 2000)], None, 1),
    ],
)
def test_whole_frames(numbers, limit, expected):
    assert whole_frames(numbers, limit) == expected
