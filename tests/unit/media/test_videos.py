from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from aiorecord.encoders import DepthEncoderConfig, RGBEncoderConfig, VideoEncoderConfig
from aiorecord.errors import CodecUnavailableError, EncodeError, StorageError
from aiorecord.media.codecs import check_encoder
from aiorecord.media.remux import concat_videos, same_stream
from aiorecord.media.video_file import VideoOutput, count_packets, probe_video, verify_video

AV1 = RGBEncoderConfig()
H264 = RGBEncoderConfig(vcodec="h264", g=None)  # its defaults have B-frames
HEVC = RGBEncoderConfig(vcodec="hevc", g=None)
linux = pytest.mark.skipif(sys.platform != "linux", reason="a Linux facility")


def picture(seed: int, width: int = 64, height: int = 48) -> av.VideoFrame:
    """A drifting pattern with noise: enough for encoders to reorder frames."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 12, (height, width, 3))
    shades = np.stack([x * 3 + seed * 2, y * 4 + seed, x + y - seed], axis=-1) % 200
    return av.VideoFrame.from_ndarray((shades + noise).astype(np.uint8), format="rgb24")


def make(
    path: Path,
    frames: int,
    encoder: VideoEncoderConfig = H264,
    fps: int = 30,
    first: int = 0,
    width: int = 64,
) -> Path:
    with VideoOutput(path, encoder, width, 48, fps) as output:
        for k in range(frames):
            output.add(picture(first + k, width))
    assert output.frames == frames
    return path


def timing(path: Path) -> tuple[list[Fraction], list[int]]:
    """Presentation times in seconds in decoding order, and decoding timestamps."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert stream.time_base is not None
        return [p.pts * stream.time_base for p in packets], [p.dts for p in packets if p.dts is not None]


def pixels(paths: Sequence[Path]) -> list[bytes]:
    out = []
    for path in paths:
        with av.open(str(path)) as container:
            out += [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]
    return out


@pytest.mark.parametrize("encoder", [AV1, H264, HEVC], ids=lambda e: e.vcodec)
@pytest.mark.parametrize(("fps", "frames"), [(30, 30), (29, 7), (1, 2), (240, 1), (50, 3)])
def test_frames_are_on_the_exact_grid(
    tmp_path: Path, encoder: VideoEncoderConfig, fps: int, frames: int
) -> None:
    path = make(tmp_path / "a.mp4", frames, encoder, fps)
    verify_video(path, frames, fps)
    assert count_packets(path) == frames
    shown, decoded = timing(path)
    assert sorted(shown) == [Fraction(k, fps) for k in range(frames)]
    assert decoded == sorted(set(decoded))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == fps, "lerobot's default reader finds frames by it"
        assert [frame.pts * frame.time_base for frame in container.decode(stream)] == sorted(shown)


@pytest.mark.parametrize("encoder", [HEVC, DepthEncoderConfig()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("frames", [1, 2])
def test_videos_shorter_than_the_look_ahead(tmp_path: Path, encoder: VideoEncoderConfig, frames: int) -> None:
    for _ in range(50):  # x265's own decoding timestamps were random here, and failed one time in fifty
        verify_video(make(tmp_path / "a.mp4", frames, encoder), frames, 30)
        assert timing(tmp_path / "a.mp4")[1][0] == 0


def test_b_frames_are_really_tested(tmp_path: Path) -> None:
    for encoder in (H264, HEVC):
        shown, _ = timing(make(tmp_path / "a.mp4", 12, encoder))
        assert shown != sorted(shown)


def test_what_a_frame_remembers_of_its_past_is_ignored(tmp_path: Path) -> None:
    made = make(tmp_path / "a.mp4", 8, RGBEncoderConfig(vcodec="h264", g=1))
    encoder = RGBEncoderConfig(vcodec="h264", g=100)
    with VideoOutput(tmp_path / "b.mp4", encoder, 64, 48, 30) as output, av.open(str(made)) as container:
        for frame in container.decode(video=0):
            output.add(frame)
    with av.open(str(tmp_path / "b.mp4")) as container:
        keyframes = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert keyframes == [True] + [False] * 7


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(EncodeError, match="32x48"),
        VideoOutput(tmp_path / "a.mp4", H264, 64, 48, 30) as output,
    ):
        output.add(picture(0, 32))


@pytest.mark.parametrize("threads", [1, 2, None])
def test_threads_do_not_change_av1(tmp_path: Path, threads: int | None) -> None:
    paths = []
    for number, count in enumerate((1, threads)):
        paths.append(tmp_path / f"{number}.mp4")
        with VideoOutput(paths[-1], AV1, 128, 96, 30, count) as output:
            for k in range(10):
                output.add(picture(k, 128, 96))
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("encoder", "size"),
    [
        (RGBEncoderConfig(vcodec="libsvtav1", pix_fmt="yuv444p"), (64, 48)),
        (RGBEncoderConfig(vcodec="h264", pix_fmt="gray12le"), (64, 48)),
        (RGBEncoderConfig(vcodec="hevc", extra_options={"x265-params": "bframes=100"}), (64, 48)),
        (RGBEncoderConfig(vcodec="hevc"), (2, 2)),
        (RGBEncoderConfig(vcodec="hevc_nvenc"), (64, 48)),
        (RGBEncoderConfig(vcodec="h264_vaapi"), (64, 48)),
        (DepthEncoderConfig(pix_fmt="gray10le"), (64, 48)),
    ],
)
def test_an_encoder_that_cannot_work_says_what_to_do(
    tmp_path: Path, encoder: VideoEncoderConfig, size: tuple[int, int]
) -> None:
    with pytest.raises(CodecUnavailableError, match=r"vcodec|it takes|needs") as caught:
        check_encoder(encoder, *size, 30)
    assert caught.value.codec == encoder.vcodec
    if not encoder.is_depth:
        with pytest.raises(CodecUnavailableError):
            VideoOutput(tmp_path / "a.mp4", encoder, *size, 30)


@pytest.mark.parametrize("encoder", [AV1, H264, HEVC, DepthEncoderConfig()], ids=lambda e: e.vcodec)
def test_an_encoder_that_works_is_named(encoder: VideoEncoderConfig) -> None:
    assert check_encoder(encoder, 64, 48, 30, threads=1) == encoder.vcodec


def test_auto_is_resolved_by_encoding() -> None:
    name = check_encoder(RGBEncoderConfig(vcodec="auto"), 320, 240, 30)
    assert check_encoder(RGBEncoderConfig(vcodec=name), 320, 240, 30) == name


@linux
def test_encoders_leave_no_real_time_thread(tmp_path: Path) -> None:
    def policies() -> set[int]:
        return {os.sched_getscheduler(int(entry)) for entry in os.listdir("/proc/self/task")}

    check_encoder(AV1, 64, 48, 30)
    with VideoOutput(tmp_path / "a.mp4", AV1, 64, 48, 30) as output:
        output.add(picture(0))
        assert len(os.listdir("/proc/self/task")) > 5, "SVT-AV1's threads are there"
        assert policies() == {os.SCHED_OTHER}
    assert policies() == {os.SCHED_OTHER}


def test_encoders_are_silent_but_for_errors(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from aiorecord.encoders import RGBEncoderConfig, DepthEncoderConfig\n"
        "from aiorecord.media.codecs import check_encoder\n"
        "for encoder in (RGBEncoderConfig(), RGBEncoderConfig(vcodec='h264'), DepthEncoderConfig()):\n"
        "    check_encoder(encoder, 64, 48, 30)\n"
        "print('-', file=sys.stderr, flush=True)\n"
        "bad = RGBEncoderConfig(vcodec='hevc', extra_options={'x265-params': 'bframes=100'})\n"
        "try: check_encoder(bad, 64, 48, 30)\n"
        "except Exception: pass\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "SVT_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    before, after = done.stderr.split("-\n")
    assert before == ""
    assert "x265 [error]: max consecutive bframe count" in after


def test_the_users_own_log_level_wins(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = RGBEncoderConfig(vcodec="hevc", extra_options={"x265-params": "log-level=info"})
    check_encoder(encoder, 64, 48, 30)
    assert "x265 [info]" in capfd.readouterr().err


def test_probe_tells_what_info_json_needs(tmp_path: Path) -> None:
    info = probe_video(make(tmp_path / "a.mp4", 3, AV1, 25), AV1)
    assert info == {
        "video.height": 48,
        "video.width": 64,
        "video.codec": "av1",
        "video.pix_fmt": "yuv420p",
        "video.fps": 25,
        "video.channels": 3,
        "has_audio": False,
        "video.g": 2,
        "video.crf": 30,
        "video.preset": 12,
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
        "video.extra_options": {},
        "is_depth_map": False,
    }
    assert "video.g" not in probe_video(tmp_path / "a.mp4")


def remux(source: Path, output: Path, pts: list[int], *, keep: slice = slice(None), den: int = 30) -> Path:
    """Copy packets with other timestamps."""
    with av.open(str(source)) as container, av.open(str(output), "w", format="mp4") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        stream.time_base = Fraction(1, den)
        packets = [p for p in container.demux(video=0) if p.size][keep]
        for packet, value in zip(packets, pts, strict=True):
            packet.stream, packet.time_base = stream, Fraction(1, den)
            packet.pts = packet.dts = value
            out.mux(packet)
    return output


@pytest.mark.parametrize(
    ("pts", "keep", "den", "match"),
    [
        ([0, 1, 2, 3, 4], slice(5), 30, "holds 5 frames instead of 6"),
        ([0, 1, 2, 3, 5, 6], slice(6), 30, "frame 4 is missing"),
        ([0, 10, 20, 30, 41, 50], slice(6), 300, "off the grid"),
        ([0, 1, 2, 3, 4, 9000], slice(6), 30, "missing before frame 9000"),
        ([0, 1, 2, 3, 4, 5], slice(1, 7), 30, "keyframe"),
    ],
)
def test_a_video_that_lerobot_would_misread_is_found(
    tmp_path: Path, pts: list[int], keep: slice, den: int, match: str
) -> None:
    encoder = RGBEncoderConfig(vcodec="h264", g=100, extra_options={"bf": 0})
    good = make(tmp_path / "good.mp4", 8, encoder)
    verify_video(remux(good, tmp_path / "same.mp4", list(range(8))), 8, 30)
    bad = remux(good, tmp_path / "bad.mp4", pts, keep=keep, den=den)
    with pytest.raises(EncodeError, match=match):
        verify_video(bad, 6, 30)
    with pytest.raises(EncodeError, match=match if "instead" not in match else "cannot be joined|joined"):
        concat_videos([good, bad], tmp_path / "out.mp4", 30)
        raise EncodeError("joined")  # the first case is a sound video of five frames


def test_the_wrong_rate_is_off_the_grid(tmp_path: Path) -> None:
    with pytest.raises(EncodeError):
        verify_video(make(tmp_path / "a.mp4", 6, fps=30), 6, 25)


@pytest.mark.parametrize("size", [0, 20, 700, 1500])
def test_a_torn_file_is_found(tmp_path: Path, size: int) -> None:
    whole = make(tmp_path / "a.mp4", 10).read_bytes()
    assert size < len(whole)
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(whole[:size])
    with pytest.raises(EncodeError):
        verify_video(torn, 10, 30)


def test_no_video_and_no_file(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video " * 100)
    for function in (count_packets, probe_video):
        with pytest.raises(EncodeError):
            function(text)
        with pytest.raises(StorageError) as caught:
            function(tmp_path / "missing.mp4")
        assert caught.value.path == tmp_path / "missing.mp4"
    with pytest.raises(StorageError):
        VideoOutput(tmp_path / "no folder" / "a.mp4", H264, 64, 48, 30)


# PyAV (close_output) never closes a file whose header could not be written, which is empty then.
@pytest.mark.leaves("/dev/full")
@linux
def test_a_full_disk_is_a_storage_error() -> None:
    with (
        pytest.raises(StorageError, match="No space"),
        VideoOutput(Path("/dev/full"), H264, 256, 192, 30) as o,
    ):
        for k in range(60):
            noise = np.random.default_rng(k).integers(0, 255, (192, 256, 3), dtype=np.uint8)
            o.add(av.VideoFrame.from_ndarray(noise, format="rgb24"))


@pytest.mark.parametrize(
    "encoder", [AV1, H264, HEVC, DepthEncoderConfig()], ids=lambda e: type(e).__name__ + e.vcodec
)
@pytest.mark.parametrize("lengths", [(1,), (1, 2, 9), (9, 1, 1, 5), (12, 12)])
def test_joined_videos_show_every_frame_of_their_parts(
    tmp_path: Path, encoder: VideoEncoderConfig, lengths: tuple[int, ...]
) -> None:
    parts = [make(tmp_path / f"{n}.mp4", length, encoder, first=100 * n) for n, length in enumerate(lengths)]
    output = tmp_path / "joined.other-suffix"
    assert concat_videos(parts, output, 30) == sum(lengths)
    verify_video(output, sum(lengths), 30)
    shown, decoded = timing(output)
    assert decoded == sorted(set(decoded))
    assert sorted(shown) == [Fraction(k, 30) for k in range(sum(lengths))]
    assert pixels([output]) == pixels(parts)
    assert same_stream(output, parts[0])
    with av.open(str(output)) as container:
        assert container.streams.video[0].average_rate == 30
    data = output.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index is at the front"
    # What was joined can be joined again.
    assert concat_videos([output, *parts], tmp_path / "again.mp4", 30) == 2 * sum(lengths)
    assert pixels([tmp_path / "again.mp4"]) == pixels([*parts, *parts])


@pytest.mark.parametrize(
    ("other", "width", "match"),
    [
        (H264, 32, "width 64 and 32"),
        (HEVC, 64, "codec h264 and hevc"),
        (RGBEncoderConfig(vcodec="h264", g=None, pix_fmt="yuv444p"), 64, "pix_fmt yuv420p and yuv444p"),
        (RGBEncoderConfig(vcodec="h264", g=None, extra_options={"profile": "baseline"}), 64, "codec headers"),
    ],
)
def test_different_streams_are_not_joined(
    tmp_path: Path, other: VideoEncoderConfig, width: int, match: str
) -> None:
    a, b = make(tmp_path / "a.mp4", 3), make(tmp_path / "b.mp4", 3, other, width=width)
    assert not same_stream(a, b)
    assert same_stream(a, make(tmp_path / "c.mp4", 5, first=50))
    with pytest.raises(EncodeError, match=match):
        concat_videos([a, b], tmp_path / "out.mp4", 30)


def test_nothing_to_join(tmp_path: Path) -> None:
    with pytest.raises(EncodeError):
        concat_videos([], tmp_path / "out.mp4", 30)
    with pytest.raises(StorageError):
        concat_videos([make(tmp_path / "a.mp4", 3), tmp_path / "missing.mp4"], tmp_path / "out.mp4", 30)
