"""Each finding: a good dataset, one damage, exactly that code."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from damaged import (
    FRONT,
    LENGTHS,
    codes,
    copy,
    cut_footer,
    data_file,
    edit_json,
    edit_table,
    episodes_file,
    frame,
    info_path,
    pool,
    record,
    video_file,
)
from helpers import FEATURES, FPS

from aiorecord.check import findings
from aiorecord.check.check_dataset import Check, check_dataset
from aiorecord.dataset.commit.lock import DatasetLock


def test_good_datasets_have_no_findings(good: Path, loose: Path, everything: Path) -> None:
    for root in (good, loose, everything):
        for fast in (False, True):
            report = Check(root, pool(), 1, fast).run().report
            assert report.findings == [], report.as_dict()
            assert report.ok
    assert (report.episodes, report.frames, report.video_frames) == (2, 14, 28)
    report = check_dataset(good, workers=2)
    assert (report.findings, report.frames, report.video_frames) == ([], sum(LENGTHS), sum(LENGTHS))


def test_it_only_reads(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert codes(root) == set()
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def set_info(**values: object) -> Callable[[Path], None]:
    return lambda root: edit_json(info_path(root), lambda info: info.update(values))


def set_camera_info(**values: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "meta/info.json"
        info = json.loads(path.read_text())
        info["features"][FRONT]["info"] |= values
        path.write_text(json.dumps(info))

    return change


def table(find: Callable[[Path], Path], **columns: Callable[[list], list]) -> Callable[[Path], None]:
    return lambda root: edit_table(find(root), **columns)


def at(index: int, value: object) -> Callable[[list], list]:
    return lambda values: [value if k == index else old for k, old in enumerate(values)]


def reencode(
    root: Path, *, drop: int = 0, size: tuple[int, int] = (64, 48), fps: int = FPS, same: int = 0
) -> None:
    """Write the camera's video anew from its own frames."""
    path = video_file(root)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for k in range(1, same):
        frames[k] = frames[0]
    with av.open(str(path), "w", format="mp4") as container:
        options = {"crf": "10", "g": "2", "preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for pixels in frames[: len(frames) - drop]:
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(*size)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def flip(path: Path, start: float, end: float) -> None:
    data = bytearray(path.read_bytes())
    for k in range(int(len(data) * start), int(len(data) * end)):
        data[k] ^= 0x5A
    path.write_bytes(data)


def break_packets(root: Path) -> None:
    """Garbage in the coded pictures, not in the index."""
    path = video_file(root)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for pos, size in packets[30:40]:
        data[pos + 4 : pos + size] = bytes(size - 4)
    path.write_bytes(data)


def png_bytes_gone(root: Path) -> None:
    edit_table(
        data_file(root),
        **{"observation.images.still": lambda v: [{**x, "bytes": x["bytes"][:50]} for x in v]},
    )


def png_too_small(root: Path) -> None:
    from aiorecord.media.image_files import png_bytes

    other = png_bytes(np.zeros((4, 4, 3), np.uint8))
    edit_table(data_file(root), **{"observation.images.still": lambda v: [{**v[0], "bytes": other}, *v[1:]]})


def frames_dropped(root: Path) -> None:
    """What LeRobot's streaming encoder leaves: fewer frames, and metadata that says so of the video."""
    reencode(root, drop=3)
    key = f"videos/{FRONT}/to_timestamp"
    edit_table(episodes_file(root), **{key: lambda v: [*v[:-1], v[-1] - 3 / FPS]})


def locked_by_nobody(root: Path) -> None:
    (root / ".aiorecord").mkdir()
    holder = {"pid": 2**31 - 5, "host": socket.gethostname(), "started": 0}
    (root / ".aiorecord/lock").write_text(json.dumps(holder))


def leave_images(root: Path) -> None:
    folder = root / "images/observation.images.front/episode-000003"
    folder.mkdir(parents=True)
    (folder / "frame-000000.png").write_bytes(b"png")


def killed_lerobot(root: Path) -> None:
    cut_footer(episodes_file(root))
    cut_footer(data_file(root))


DAMAGES: dict[str, tuple[str, Callable[[Path], object], set[str]]] = {
    "no info": ("good", lambda r: info_path(r).unlink(), {"info-missing"}),
    "info not json": ("good", lambda r: info_path(r).write_text("{"), {"info-invalid"}),
    "info nested": ("good", lambda r: info_path(r).write_text("[" * 200_000), {"info-invalid"}),
    "info elsewhere": (
        "good",
        set_info(data_path="../../{chunk_index}/{file_index}.parquet"),
        {"info-invalid"},
    ),
    "info counts frames": ("good", set_info(total_frames=61), {"info-counts"}),
    "info counts less": (
        "good",
        set_info(total_episodes=2),
        {"episodes-uncounted", "info-counts", "data-orphan", "video-unused-frames", "stats-total"},
    ),
    "info counts more": ("good", set_info(total_episodes=4, splits={"train": "0:4"}), {"info-counts"}),
    "info counts a googol": (
        "good",
        set_info(total_episodes=10**100, total_frames=10**100),
        {"info-counts"},
    ),
    "info splits": ("good", set_info(splits={"train": "0:1"}), {"info-counts"}),
    "info tasks": ("good", set_info(total_tasks=3), {"info-counts"}),
    "stale lock": ("good", locked_by_nobody, set()),
    "pipe": (
        "good",
        lambda r: (data_file(r).unlink(), os.mkfifo(data_file_of(r))),
        {"not-a-file"},
    ),
    "staged": ("good", lambda r: (r / ".aiorecord/episodes/000001-abcdef01").mkdir(parents=True), None),
    "packing": ("good", lambda r: (r / ".aiorecord/pack").mkdir(parents=True), {"staging-packing"}),
    "temporary": ("good", lambda r: (r / "data/.x.1.aiorecord-tmp").write_bytes(b"x"), {"temporary-file"}),
    "tasks gone": ("good", lambda r: (r / "meta/tasks.parquet").unlink(), {"tasks-unreadable"}),
    "tasks cut": ("good", lambda r: flip(r / "meta/tasks.parquet", 0.5, 1), {"tasks-unreadable"}),
    "task number": (
        "good",
        table(data_file, task_index=lambda v: [7] * len(v)),
        {"task-unknown", "stats-stale"},
    ),
    "task name": ("good", table(episodes_file, tasks=at(0, ["Other"])), {"task-unknown"}),
    "stats gone": ("good", lambda r: (r / "meta/stats.json").unlink(), {"stats-missing"}),
    "stats broken": (
        "good",
        lambda r: (r / "meta/stats.json").write_text('{"action": 3}'),
        {"stats-invalid"},
    ),
    "stats total": (
        "good",
        lambda r: edit_json(r / "meta/stats.json", lambda s: s["action"].update(mean=[9.0, 9.0, 9.0])),
        {"stats-total"},
    ),
    "stats of a column": (
        "good",
        table(episodes_file, stats__action__max=at(1, [1.0, 2.0, 77.0])),
        {"stats-mismatch", "stats-total"},
    ),
    "stats of a camera": (
        "good",
        table(episodes_file, **{f"stats/{FRONT}/mean": at(0, [[[0.9]], [[0.9]], [[0.9]]])}),
        {"stats-mismatch", "stats-total"},
    ),
    "episodes broken": ("good", lambda r: episodes_file(r).write_bytes(b"PAR1 no PAR1"), None),
    "episodes order": ("good", table(episodes_file, dataset_from_index=at(1, 19)), None),
    "data gone": ("good", lambda r: data_file(r).unlink(), {"data-missing"}),
    "data broken": ("good", lambda r: flip(data_file(r), 0.02, 0.3), {"data-unreadable"}),
    "data twice": (
        "good",
        lambda r: shutil.copy(data_file(r), data_file(r).with_name("file-001.parquet")),
        {"data-orphan"},
    ),
    "rows missing": (
        "good",
        lambda r: keep_rows(r, 55),
        {"rows-count", "stats-mismatch", "stats-stale"},
    ),
    "episode's rows missing": ("good", lambda r: keep_rows(r, LENGTHS[0] + LENGTHS[1]), {"rows-count"}),
    "index": ("good", table(data_file, index=lambda v: [x + 1 for x in v]), {"rows-index", "stats-stale"}),
    "frame index": ("good", table(data_file, frame_index=at(4, 5)), {"rows-index", "stats-stale"}),
    "timestamp": ("good", table(data_file, timestamp=at(4, 0.15)), {"rows-timestamp", "stats-stale"}),
    "not finite": ("good", table(data_file, action=at(4, [1.0, float("nan"), 0.0])), {"values-not-finite"}),
    "column gone": ("good", lambda r: drop_column(r, "action"), {"data-columns"}),
    "image cut": ("everything", png_bytes_gone, {"image-undecodable"}),
    "image size": ("everything", png_too_small, {"image-size"}),
    "video gone": ("good", lambda r: video_file(r).unlink(), {"video-missing"}),
    "video broken": ("good", lambda r: video_file(r).write_bytes(b"no video"), {"video-unreadable"}),
    "video packets": ("good", break_packets, {"video-undecodable"}),
    "video size": ("good", lambda r: reencode(r, size=(32, 48)), {"video-size"}),
    "video rate": ("good", lambda r: reencode(r, fps=29), {"video-grid", "video-frames-missing"}),
    "video info": ("good", set_camera_info(**{"video.codec": "av1"}), {"video-info"}),
    "video info rate": ("good", set_camera_info(**{"video.fps": FPS // 2}), {"video-info"}),
    "video short": ("good", lambda r: reencode(r, drop=3), {"video-frames-missing"}),
    "video place": (
        "good",
        table(
            episodes_file,
            **{
                f"videos/{FRONT}/from_timestamp": at(1, 10 / FPS),
                f"videos/{FRONT}/to_timestamp": at(1, 26 / FPS),
            },
        ),
        {"video-overlap", "video-other-episode"},
    ),
    "video orphan": (
        "good",
        lambda r: shutil.copy(video_file(r), video_file(r).with_name("file-007.mp4")),
        {"video-orphan"},
    ),
    "huge file number": (
        "good",
        table(episodes_file, **{f"videos/{FRONT}/file_index": lambda v: [2**62] * len(v)}),
        {"video-missing", "video-orphan"},
    ),
    "frozen": ("good", lambda r: reencode(r, same=LENGTHS[0]), {"camera-frozen"}),
    "no footer": (
        "good",
        killed_lerobot,
        {"lerobot-killed-footerless-parquet", "lerobot-killed-metadata-behind"},
    ),
    "dropped": ("good", frames_dropped, {"lerobot-frames-dropped"}),
    "images": ("good", leave_images, {"lerobot-killed-image-folder"}),
    "tmp": ("good", lambda r: (r / "tmpab12cd34").mkdir(), {"lerobot-killed-temporary-video"}),
}


def data_file_of(root: Path) -> Path:
    return root / "data/chunk-000/file-000.parquet"


def keep_rows(root: Path, count: int) -> None:
    import pyarrow.parquet as pq

    path = data_file(root)
    pq.write_table(pq.read_table(path).slice(0, count), path)


def drop_column(root: Path, name: str) -> None:
    import pyarrow.parquet as pq

    path = data_file(root)
    pq.write_table(pq.read_table(path).drop_columns([name]), path)


DAMAGES["staged"] = (*DAMAGES["staged"][:2], {"staging-unfinished"})
DAMAGES["episodes broken"] = (
    *DAMAGES["episodes broken"][:2],
    {"episodes-unreadable", "lerobot-killed-metadata-behind"},
)
DAMAGES["episodes order"] = (*DAMAGES["episodes order"][:2], {"episodes-order", "rows-index"})


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source, damage, expected = DAMAGES[name]
    root = copy(request.getfixturevalue(source), tmp_path / "set")
    damage(root)
    assert codes(root) == expected


def test_missing_columns_of_metadata(good: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    root = copy(good, tmp_path / "set")
    path = episodes_file(root)
    pq.write_table(pq.read_table(path).drop_columns(["length"]), path)
    assert "episodes-columns" in codes(root)


def test_every_code_is_tested() -> None:
    elsewhere = {
        "dataset-locked",  # below
        "aside-folder",  # test_repair
        "reader-crashed",  # test_jobs
        "episodes-columns",  # above
        "video-frames-refused",  # tests/unit/dataset/test_pack_times
        "depth-settings",  # test_camera_info
        "episode-flagged",  # quality/test_pace
        "rows-other-episode",  # test_pairing
        "evidence-stale",  # test_pairing
        "video-replaced",  # tests/unit/dataset/test_pack_readers
        *(code for code, (severity, _) in findings.CODES.items() if severity == findings.UNDETERMINED),
    }
    seen = set().union(*(expected for _, _, expected in DAMAGES.values()))
    assert seen | elsewhere == set(findings.CODES)
    assert not seen & elsewhere


def test_lock_is_named(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "set")
    with DatasetLock(root):
        report = Check(root, pool(), 1).run().report
    assert report.codes == {"dataset-locked"}
    assert str(os.getpid()) in report.findings[0].message
    assert report.ok


def test_frames_of_no_episode(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "set")
    keep = len(LENGTHS) - 1
    import pyarrow.parquet as pq

    path = episodes_file(root)
    pq.write_table(pq.read_table(path).slice(0, keep), path)
    keep_rows(root, sum(LENGTHS[:keep]))
    edit_json(
        info_path(root),
        lambda i: i.update(
            total_episodes=keep, total_frames=sum(LENGTHS[:keep]), splits={"train": f"0:{keep}"}
        ),
    )
    assert codes(root) == {"video-unused-frames", "stats-total"}


def test_frozen_camera_is_named_with_its_frames(tmp_path: Path) -> None:
    def frames(features, k, episode):
        return frame(features, 5 if episode == 1 and 5 <= k < 25 else k, episode)

    root = record(tmp_path / "set", FEATURES, (12, 40), frames)
    (found,) = Check(root, pool(), 1).run().report.findings
    assert (found.code, found.episode, found.camera) == ("camera-frozen", 1, FRONT)
    assert 5 <= found.first_frame <= 9  # the encoder takes some frames to settle on the still picture
    assert found.last_frame == 24
    assert found.severity == "warning"


def test_fast_finds_what_needs_no_decoding(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "short")
    reencode(root, drop=2)
    assert codes(root, fast=True) == {"video-frames-missing"}
    root = copy(good, tmp_path / "packets")
    break_packets(root)
    assert codes(root, fast=True) == set()
