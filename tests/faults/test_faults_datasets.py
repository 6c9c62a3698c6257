"""Two recorders on one dataset; a dataset moved, deleted or edited; clocks; large staging; many episodes."""

from __future__ import annotations

import json
import shutil
import signal
import struct
from collections import Counter
from pathlib import Path

import fault_content as content
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_runs import record_argv
from fault_staged import make_staged, record_coded, record_staged
from fault_verify import Expected

HERE = {"FAULT_ENCODE_HERE": "1"}
SHORT = [
    "--dataset.fps=60",
    "--dataset.num_episodes=2",
    "--dataset.episode_time_s=0.3",
    "--dataset.reset_time_s=0",
]
ENDLESS = [
    "--dataset.fps=60",
    "--dataset.num_episodes=9",
    "--dataset.episode_time_s=0.5",
    "--dataset.reset_time_s=100",
]


@pytest.mark.smoke
def test_a_second_recorder_is_refused_and_the_first_goes_on(zygote, tmp_path, report):
    row = report.row(
        "two recorders on one dataset", "a second `aiorecord record --resume` and `recover` beside the first"
    )
    root, expected = tmp_path / "set", Expected()
    first = zygote.start(record_argv(root, 1, *ENDLESS))
    assert first.until(lambda line: line == "P resetting")
    for argv in (record_argv(root, 2, *SHORT, "--resume=true"), ["recover", str(root)]):
        second = zygote.run(argv)
        assert second.code == 1
        assert f"process {first.pid}" in second.output
        assert "Traceback" not in second.output
        row.times += 1
    first.signal(signal.SIGINT)
    assert first.wait() == 0, first.output
    expected.add(first.told)
    expected.check(root)
    assert len(expected.ended) == 1

    # Killed, it holds nothing up.
    first = zygote.start(record_argv(root, 3, *ENDLESS, "--resume=true"))
    assert first.until(lambda line: line.endswith("durable"))
    first.kill()
    expected.add(first.told)
    second = zygote.run(record_argv(root, 4, *SHORT, "--resume=true"))
    assert second.code == 0, second.output
    expected.add(second.told)
    expected.check(root)
    row.times += 1
    row.episodes += len(expected.ended)
    assert len(expected.ended) == 4


def test_a_dataset_that_was_moved_is_recovered_where_it_is(zygote, tmp_path, report):
    row = report.row("the dataset is moved while episodes are staged", "folder renamed")
    expected = make_staged(tmp_path / "here", packed=[5], staged=[6, 7], encoded=False)
    (tmp_path / "there").mkdir()
    (tmp_path / "here").rename(tmp_path / "there/set")
    program = zygote.run(["recover", str(tmp_path / "there/set")])
    assert program.code == 0, program.output
    expected.check(tmp_path / "there/set")
    assert not (tmp_path / "here").exists()
    row.times, row.episodes = 1, 3


def test_a_dataset_without_its_metadata_is_left_alone_and_so_is_its_staging(zygote, tmp_path, report):
    """It holds an episode that staging does not: only the deleted files could tell about it."""
    row = report.row("the dataset's metadata is deleted, staging remains", "meta removed; put back later")
    root = tmp_path / "set"
    expected = make_staged(root, packed=[5], staged=[6, 7])
    (root / "meta").rename(tmp_path / "meta")
    before = sorted(root.rglob("*"))
    for argv in (
        record_argv(root, 2, *SHORT, "--resume=true"),
        record_argv(root, 2, *SHORT),
        ["recover", str(root)],
    ):
        program = zygote.run(argv)
        assert program.code in (1, 2)
        assert "Traceback" not in program.output
        assert "meta/info.json" in program.output or "not a dataset" in program.output
    assert sorted(root.rglob("*")) == before
    (tmp_path / "meta").rename(root / "meta")
    assert zygote.run(["recover", str(root)]).code == 0
    expected.check(root)
    row.times, row.episodes = 3, 3


def test_of_a_deleted_dataset_the_staged_episodes_are_kept(zygote, tmp_path, report):
    """Nothing else is known of it: they become a dataset of their own."""
    row = report.row("the whole dataset is deleted, staging remains", "meta, data and videos removed")
    root = tmp_path / "set"
    expected = make_staged(root, packed=[5], staged=[6, 7])
    for name in ("meta", "data", "videos"):
        shutil.rmtree(root / name)
    assert zygote.run(record_argv(root, 2, *SHORT)).code != 0  # without --resume
    assert zygote.run(["recover", str(root)]).code == 0
    deleted = next(id_ for id_, frames in expected.frames.items() if len(frames) == 5)
    del expected.frames[deleted]
    expected.ended.discard(deleted)
    expected.check(root)
    row.times, row.episodes = 1, 2


@pytest.mark.parametrize("now", [1, 9])
async def test_a_dataset_that_was_edited_gets_the_staged_episodes_behind_its_own(
    zygote, shimmed, tmp_path, report, now
):
    """Episodes were deleted from it (or added), and it was written anew, while others waited in staging."""
    row = report.row(
        "the dataset is edited while episodes are staged", "written anew with fewer or more episodes"
    )
    root = tmp_path / "set"
    expected = await record_staged(root, packed=[5, 6, 7], staged=[8, 9])
    # Killed in the middle of a commit: its intent, which names the fourth episode, stays in staging.
    env = HERE | {"FAULT_ROOT": str(root), "FAULT_KILL": "20"}
    assert shimmed.run(["recover", str(root)], env=env).killed
    assert list(root.glob(".aiorecord/episodes/*/commit.json"))
    other = tmp_path / "edited"
    edited = Expected()
    await record_coded(other, 0, [4] * now, edited)
    for name in ("meta", "data", "videos"):
        shutil.rmtree(root / name, ignore_errors=True)
        (other / name).rename(root / name)
    program = zygote.run(["recover", str(root)], env=HERE)
    assert program.code == 0, program.output
    for id_, frames in expected.frames.items():
        if frames[0][0] == 2:  # those that were staged
            edited.frames[id_] = frames
            edited.ended.add(id_)
    edited.check(root)
    assert len(edited.frames) == now + 2
    row.times += 1
    row.episodes += now + 2


def test_a_dataset_with_other_features_refuses_what_does_not_fit(zygote, tmp_path):
    root = tmp_path / "set"
    make_staged(root, packed=[5], staged=[6])
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["action"]["shape"] = [7]
    (root / "meta/info.json").write_text(json.dumps(info))
    program = zygote.run(["recover", "--no-pack", str(root)], env=HERE)
    assert program.code == 1
    assert "Traceback" not in program.output
    assert len(list(root.glob(".aiorecord/episodes/*/rows.arrows"))) == 1


def test_a_wall_clock_that_steps_back(zygote, tmp_path, report):
    row = report.row("the wall clock steps back", "by an hour at every look at it")
    root, expected = tmp_path / "set", Expected()
    for session in (1, 2):
        program = zygote.run(
            record_argv(root, session, *SHORT, "--resume=true"), env=HERE | {"FAULT_CLOCK_BACK": "1"}
        )
        assert program.code == 0, program.output
        expected.add(program.told)
        expected.check(root)
        row.times += 1
    assert all(len(frames) >= 10 for frames in expected.frames.values())
    row.episodes = len(expected.ended)


def test_a_staging_folder_of_2_gb(zygote, tmp_path, report):
    """The capture of an interrupted episode is 2 GB long, most of it one record that is not there."""
    row = report.row("2 GB in staging", "a capture with a hole of 2 GB")
    root = tmp_path / "set"
    small = zygote.run(["recover", str(tmp_path / "nothing")])
    flags = ["--dataset.fps=60", "--dataset.episode_time_s=100", "--encode=deferred"]
    program = zygote.start(record_argv(root, 1, *flags))
    assert program.until(lambda line: line.startswith("Y"))
    assert program.until(lambda line: line.startswith("Y"))
    program.kill()
    episode = max(root.glob(".aiorecord/episodes/*/rows.arrows"), key=lambda path: path.stat().st_size)
    capture = episode.with_name(f"{content_key()}.frames")
    with capture.open("r+b") as file:
        file.seek(0, 2)
        hole = 2 << 30
        file.write(torn_record(hole))
        file.truncate(file.tell() + hole)
    assert capture.stat().st_size > 2 << 30
    expected = Expected()
    expected.add(program.told)
    recovered = zygote.run(["recover", str(root)])
    assert recovered.code in (0, 3), recovered.output
    expected.check(root)
    assert recovered.peak_rss_kb - small.peak_rss_kb < 400 << 10
    row.times = 1
    row.running = sum(map(len, expected.frames.values()))
    row.running_lost = row.most_lost = expected.lost()


def torn_record(size: int) -> bytes:
    """The head of a record, as `aiorecord.staging.records` describes it, with a payload of zeros to come."""
    return b"AIRF" + struct.pack("<IQQ8sI4I", 0, 10_000, size, b"magicyuv", 3, 48, 64, 3, 0)


def content_key() -> str:
    """The coded robot's camera."""
    return "observation.images.front"


STATES = {key: spec for key, spec in content.features().items() if spec["dtype"] != "video"}


def multiply(root: Path, episodes: int) -> None:
    """Make a dataset of one packed episode into one of many, all alike."""
    [meta] = (root / "meta/episodes").rglob("*.parquet")
    [data] = (root / "data").rglob("*.parquet")
    row, rows = pq.read_table(meta), pq.read_table(data)
    length = rows.num_rows
    numbers = pa.array(range(episodes), pa.int64())
    table = pa.concat_tables([row] * episodes).combine_chunks()
    for name, values in {
        "episode_index": range(episodes),
        "dataset_from_index": range(0, episodes * length, length),
        "dataset_to_index": range(length, (episodes + 1) * length, length),
    }.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(list(values), pa.int64()))
    pq.write_table(table, meta, row_group_size=1000)
    frames = pa.concat_tables([rows] * episodes).combine_chunks()
    for name, values in {
        "index": list(range(episodes * length)),
        "episode_index": [n for n in numbers.to_pylist() for _ in range(length)],
    }.items():
        frames = frames.set_column(frames.schema.get_field_index(name), name, pa.array(values, pa.int64()))
    pq.write_table(frames, data, row_group_size=length)
    info = json.loads((root / "meta/info.json").read_text())
    info |= {
        "total_episodes": episodes,
        "total_frames": episodes * length,
        "splits": {"train": f"0:{episodes}"},
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    stats = json.loads((root / "meta/stats.json").read_text())
    for key in stats:
        stats[key]["count"] = [episodes * length]
    (root / "meta/stats.json").write_text(json.dumps(stats))


async def cost_of_a_commit(shimmed, folder: Path, episodes: int) -> tuple[Counter[str], int]:
    """What recovering one staged episode does to the disk: changes by kind, and bytes written."""
    disk = folder / "disk"
    root = disk / "set"
    expected = Expected()
    await record_coded(root, 1, [3], expected, features=STATES)
    multiply(root, episodes)
    await record_coded(root, 2, [4], expected, features=STATES, save=False, pack=False)
    (folder / "snapshots").mkdir()
    env = {
        "FAULT_ROOT": str(disk),
        "FAULT_LOG": str(folder / "log"),
        "FAULT_SNAPSHOTS": str(folder / "snapshots"),
    }
    program = shimmed.run(["recover", "--no-pack", str(root)], env=env)
    assert program.code == 0, program.output
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"]) == (episodes + 1, 3 * episodes + 4)
    kinds: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    for line in (folder / "log").read_text().splitlines():
        kind, *words = line.split("\t")
        if kind == "W":
            sizes[words[0]] = max(sizes.get(words[0], 0), int(words[1]))
        elif kind != "K":
            kinds[kind] += 1
    return kinds, sum(sizes.values())


async def test_10000_episodes_cost_no_more_than_20(shimmed, tmp_path, report):
    row = report.row("10,000 episodes", "recovery of one more, beside one in a dataset of 20")
    few, few_bytes = await cost_of_a_commit(shimmed, tmp_path / "few", 20)
    many, many_bytes = await cost_of_a_commit(shimmed, tmp_path / "many", 10_000)
    assert few == many
    assert many_bytes < few_bytes + 4096  # numbers with more digits
    row.times, row.episodes = 1, 1
    row.note = (
        f"{sum(many.values())} changes and {many_bytes} bytes written, "
        f"against {sum(few.values())} and {few_bytes}"
    )
