"""Repair: what is whole is kept, everything else is moved aside, and it can be killed anywhere."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
from damaged import (
    EVERYTHING,
    FRONT,
    LENGTHS,
    codes,
    content,
    copy,
    cut_footer,
    data_file,
    edit_json,
    edit_table,
    info_path,
    record,
    video_file,
)
from faults import Killed, dying_after
from helpers import FEATURES, FPS, episodes_of, rows_of
from off_grid import move_frames
from test_codes import DAMAGES, flip, leave_images

from aiorecord.check.findings import NOTE
from aiorecord.check.repair import repair_dataset as repairing
from aiorecord.check.repair.repair_dataset import repair_dataset
from aiorecord.dataset.commit.lock import DatasetLock
from aiorecord.dataset.format import quality_log
from aiorecord.errors import AiorecordError, DatasetError, DatasetLockedError
from aiorecord.media.video_file import verify_video

UNREPAIRABLE = {"staged"}
"""Damages of which repair only says that it cannot help; `staged` is for `aiorecord recover`."""


pytestmark = pytest.mark.usefixtures("repairs_in_shared_pool")


def repair(root: Path, **options):
    return repair_dataset(root, workers=1, **{"accept_loss": True, **options})


def everything_is_somewhere(before: dict[str, bytes], root: Path) -> None:
    """No byte of data was lost: each file is as it was, or moved aside."""
    now = set(content(root).values())
    for name, data in before.items():
        if not name.endswith(".aiorecord-tmp") and "/.x." not in name and not name.startswith(".aiorecord/"):
            assert data in now, name


@pytest.mark.parametrize("name", [name for name in DAMAGES if name not in UNREPAIRABLE])
def test_repaired_datasets_are_clean(name, request, tmp_path):
    source, damage, _ = DAMAGES[name]
    root = copy(request.getfixturevalue(source), tmp_path / "set")
    damage(root)
    before = {} if name == "pipe" else content(root)
    result = repair(root)
    assert result.after.ok, result.as_dict()
    everything_is_somewhere(before, root)
    after = content(root)
    again = repair(root)
    assert again.actions == []
    warnings = {finding.code for finding in again.before.findings if finding.severity != NOTE}
    assert warnings <= {"values-not-finite", "camera-frozen", "video-unused-frames", "video-info"}
    assert content(root) == after


def test_nothing_is_done_to_a_good_dataset(good, tmp_path):
    root = copy(good, tmp_path / "set")
    before = content(root)
    result = repair(root)
    assert (result.actions, result.lost, result.aside) == ([], {}, None)
    assert content(root) == before


@pytest.mark.parametrize("source", ["good", "loose", "everything"])
def test_rows_without_footer_come_back_bit_for_bit(source, request, tmp_path):
    root = copy(request.getfixturevalue(source), tmp_path / "set")
    rows = rows_of(root)
    for path in [*root.glob("data/*/*.parquet"), *root.glob("meta/episodes/*/*.parquet")]:
        cut_footer(path)
    result = repair(root)
    assert result.after.ok, result.as_dict()
    assert result.lost == {}
    assert rows_of(root) == rows


def test_half_a_row_group_is_left_out(good, tmp_path):
    root = copy(good, tmp_path / "set")
    rows = rows_of(root)
    path = data_file(root)
    group = pq.read_metadata(path).row_group(2)
    end = group.column(3).data_page_offset + 10
    path.write_bytes(path.read_bytes()[:end])
    result = repair(root)
    assert result.after.ok, result.as_dict()
    assert list(result.lost) == [2]
    assert rows_of(root) == rows[: LENGTHS[0] + LENGTHS[1]]


def test_lost_metadata_is_made_again(loose, good, tmp_path):
    for number, source in enumerate((loose, good)):
        root = copy(source, tmp_path / str(number))
        rows, places = (
            rows_of(root),
            [(e["length"], e["tasks"], e[f"videos/{FRONT}/from_timestamp"]) for e in episodes_of(root)],
        )
        shutil.rmtree(root / "meta/episodes")
        result = repair(root)
        assert result.after.ok, result.as_dict()
        assert rows_of(root) == rows
        now = [(e["length"], e["tasks"], e[f"videos/{FRONT}/from_timestamp"]) for e in episodes_of(root)]
        assert [(a, b) for a, b, _ in now] == [(a, b) for a, b, _ in places]
        assert [c for _, _, c in now] == pytest.approx([c for _, _, c in places])


def test_the_middle_episode_is_cut_out(loose, tmp_path):
    root = copy(loose, tmp_path / "set")
    rows = rows_of(root)
    video = sorted(root.glob(f"videos/{FRONT}/*/*.mp4"))[1]
    flip(video, 0, 1)
    broken = video.read_bytes()
    result = repair(root)
    assert result.after.ok, result.as_dict()
    assert list(result.lost) == [1]
    kept = rows_of(root)
    assert len(kept) == LENGTHS[0] + LENGTHS[2]
    assert [row["index"] for row in kept] == list(range(len(kept)))
    assert {row["episode_index"] for row in kept} == {0, 1}
    last = rows[-LENGTHS[2] :]
    assert [row["action"] for row in kept[LENGTHS[0] :]] == [row["action"] for row in last]
    assert result.aside is not None
    assert broken in {path.read_bytes() for path in result.aside.rglob("*.mp4")}


def delay_frames(root: Path, episode: int) -> None:
    """Show the second half of an episode's frames 0.4 frames late."""
    first = sum(LENGTHS[:episode])
    late = range(first + LENGTHS[episode] // 2, first + LENGTHS[episode])
    move_frames(video_file(root), FPS, lambda k: k + 0.4 * (k in late))


def pictures(root: Path) -> list[bytes]:
    with av.open(str(video_file(root))) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


@pytest.mark.parametrize("episode", range(len(LENGTHS)))
def test_frames_off_the_grid_do_not_spoil_the_episodes_beside_them(episode, good, tmp_path):
    """Readers go from times to frame numbers, so the file is made anew without such frames."""
    root = copy(good, tmp_path / "set")
    want = pictures(root)
    first = sum(LENGTHS[:episode])
    del want[first : first + LENGTHS[episode]]
    delay_frames(root, episode)
    damaged = video_file(root).read_bytes()
    assert codes(root) == {"video-grid", "video-frames-missing"}
    result = repair(root)
    assert {f.code for f in result.after.findings} == {"aside-folder"}, result.as_dict()
    assert list(result.lost) == [episode]
    assert pictures(root) == want
    verify_video(video_file(root), len(want), FPS)
    places = [(e["length"], e[f"videos/{FRONT}/from_timestamp"]) for e in episodes_of(root)]
    assert places[0][1] == 0
    assert places[1][1] == pytest.approx(places[0][0] / FPS)
    assert (result.aside / video_file(root).relative_to(root)).read_bytes() == damaged


def test_an_episode_that_leans_on_frames_off_the_grid_is_cut_out(good, tmp_path):
    """Without a keyframe of its own, nothing of it can be shown in a file without the frames before."""
    root = copy(good, tmp_path / "set")
    path = video_file(root)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"g": "1000", "sc_threshold": "0", "bf": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    delay_frames(root, 1)
    result = repair(root)
    assert result.after.ok, result.as_dict()
    assert list(result.lost) == [0, 1, 2]
    assert result.lost[2] == f"its video of {FRONT} has frames off the grid"


@pytest.mark.parametrize("cut", range(len(LENGTHS)))
def test_the_quality_record_follows_its_episodes(cut, loose, tmp_path):
    root = copy(loose, tmp_path / "set")
    before, _ = quality_log.read(root)
    assert list(before) == [0, 1, 2]
    old = (root / quality_log.PATH).read_bytes()
    video = sorted(root.glob(f"videos/{FRONT}/*/*.mp4"))[cut]
    flip(video, 0, 1)
    result = repair(root)
    assert list(result.lost) == [cut]
    records, problems = quality_log.read(root)
    assert problems == []
    assert list(records) == [0, 1]
    del before[cut]
    assert [(r.episode_id, r.length) for r in records.values()] == [
        (r.episode_id, r.length) for r in before.values()
    ]
    assert [r.length for r in records.values()] == [e["length"] for e in episodes_of(root)]
    assert (result.aside / quality_log.PATH).read_bytes() == old


def test_a_quality_record_of_other_episodes_goes_aside(tmp_path):
    """As it stays behind where LeRobot rewrote a dataset: no line fits, so there is no record."""
    root = record(tmp_path / "set", FEATURES, (6, 5))
    path = root / quality_log.PATH
    (first, second) = quality_log.read(root)[0].values()
    path.write_bytes(replace(first, length=7).to_line() + replace(second, length=8).to_line())
    edit_json(info_path(root), lambda info: info.update(total_frames=1))
    old = path.read_bytes()
    result = repair(root)
    assert result.after.ok
    assert not path.exists()
    assert (result.aside / quality_log.PATH).read_bytes() == old


def test_names_of_tasks_come_from_the_episodes(good, tmp_path):
    root = copy(good, tmp_path / "set")
    (root / "meta/tasks.parquet").write_bytes(b"")
    assert repair(root).after.ok
    assert pq.read_table(root / "meta/tasks.parquet")["task"].to_pylist() == ["Task 0", "Task 1"]


def test_it_waits_for_nobody(good, tmp_path):
    root = copy(good, tmp_path / "set")
    with DatasetLock(root), pytest.raises(DatasetLockedError):
        repair(root)


def test_it_never_leaves_the_dataset(good, tmp_path):
    for folder in ("data", "meta", "videos", "meta/episodes"):
        root = copy(good, tmp_path / folder.replace("/", "-"))
        elsewhere = tmp_path / f"elsewhere-{folder.replace('/', '-')}"
        os.rename(root / folder, elsewhere)
        (root / folder).symlink_to(elsewhere)
        before = content(elsewhere)
        with pytest.raises(DatasetError, match="link"):
            repair(root)
        assert content(elsewhere) == before


def test_an_orphan_behind_a_link_stays(good, tmp_path):
    root = copy(good, tmp_path / "set")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "chunk-000").mkdir(parents=True)
    shutil.copy(video_file(root), elsewhere / "chunk-000/file-000.mp4")
    (root / "videos/other").symlink_to(elsewhere)
    repair(root)
    assert (elsewhere / "chunk-000/file-000.mp4").exists()


def test_an_interrupted_commit_is_rolled_back(tmp_path):
    """As recovery does: what staging can make again is no loss."""
    from staged import VIDEO, commit, stage

    from aiorecord.dataset.commit.writer import DatasetWriter
    from aiorecord.features import Schema

    root = tmp_path / "set"
    writer = DatasetWriter.create(root, fps=30, schema=Schema(VIDEO))
    commit(writer, 0)
    info = info_path(root).read_bytes()
    folder, encoded = stage(root, 1)
    writer.commit(folder, encoded)  # its staging folder is still there
    info_path(root).write_bytes(info)
    assert "episodes-uncounted" in codes(root)
    result = repair(root)
    assert result.after.ok, result.as_dict()
    assert result.after.codes == {"staging-unfinished"}
    assert len(rows_of(root)) == 5
    assert folder.path.exists()


@pytest.mark.leaves("aiorecord-check-")  # a killed process does not tidy up
def test_killed_anywhere_it_can_be_run_again(good, tmp_path, monkeypatch):
    damaged = copy(good, tmp_path / "damaged")
    delay_frames(damaged, 1)  # rows, metadata and a video are written anew
    leave_images(damaged)
    reference = copy(damaged, tmp_path / "reference")
    # The lock of a process that died is free; the one of this process would stay taken.
    monkeypatch.setattr(repairing, "DatasetLock", contextlib.nullcontext)
    with dying_after(None, monkeypatch) as faults:
        repair(reference)
    want = rows_of(reference), quality_log.read(reference)
    for changes in range(0, faults.changes, max(1, faults.changes // 10)):  # each place costs two repairs
        root = copy(damaged, tmp_path / str(changes))
        before = content(root)
        with dying_after(changes, monkeypatch), pytest.raises((Killed, AiorecordError)):
            repair(root)
        everything_is_somewhere(before, root)
        result = repair(root)
        assert result.after.ok, (changes, result.as_dict())
        assert (rows_of(root), quality_log.read(root)) == want, changes
        everything_is_somewhere(before, root)
        shutil.rmtree(root)


def test_stats_of_kept_episodes_are_kept(good, tmp_path):
    root = copy(good, tmp_path / "set")
    before = episodes_of(root)
    edit_json(info_path(root), lambda info: info.update(total_frames=1))
    repair(root)
    assert episodes_of(root) == before


def test_a_dataset_of_which_nothing_is_left(tmp_path):
    root = record(tmp_path / "set", FEATURES, (6,))
    video_file(root).write_bytes(b"")
    result = repair(root)
    assert result.after.ok, result.as_dict()
    assert list(result.lost) == [0]
    assert (result.after.episodes, result.after.frames) == (0, 0)


def test_everything_with_one_image_gone(tmp_path):
    root = record(tmp_path / "set", EVERYTHING, (6, 5, 7))
    key = "observation.images.still"
    edit_table(
        data_file(root),
        **{key: lambda v: [{"bytes": b"", "path": None} if k == 8 else x for k, x in enumerate(v)]},
    )
    result = repair(root)
    assert result.after.ok, result.as_dict()
    assert list(result.lost) == [1]
    assert result.after.codes <= {"video-unused-frames", "aside-folder"}
