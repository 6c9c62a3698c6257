"""`aiorecord info` on datasets of every kind, and on what is none."""

import asyncio
import io
import json
import shutil

import pyarrow.parquet as pq
import pytest
from helpers import FEATURES, FPS, H264, make_frame, record_episode
from rich.console import Console

from aiorecord import FakeClock, Recorder
from aiorecord.cli import main
from aiorecord.cli.commands import info
from aiorecord.cli.commands.info import EpisodeRanges, read_facts, show
from aiorecord.dataset.commit.lock import DatasetLock
from aiorecord.dataset.format import quality_log
from aiorecord.errors import ConfigError
from aiorecord.quality import EpisodeQuality

FRONT = "observation.images.front"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Three episodes, the second with a frozen camera."""
    root = tmp_path_factory.mktemp("info") / "set"

    async def record():
        options = {"features": FEATURES, "rgb_encoder": H264, "encode_workers": 1, "robot_type": "arm"}
        clock = FakeClock(auto=True)
        async with Recorder("t/i", root=root, fps=FPS, clock=clock, encode="deferred", **options) as recorder:
            for number in range(3):
                async with recorder.episode(f"Task {number % 2}") as episode:
                    episode.annotate(lights=number)
                    async for tick in recorder.ticks(0.3):
                        episode.add_frame(make_frame(0 if number == 1 else tick.index, number))

    asyncio.run(record())
    return root


@pytest.fixture
def dataset(recorded, tmp_path):
    return shutil.copytree(recorded, tmp_path / "set")


def test_it_shows_what_is_there(dataset, capsys):
    assert main(["info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    for part in (
        *("3 episodes, 27 frames", "at 30 fps", "robot arm", "Task 0  (2 episodes)", "Task 1  (1 episode)"),
        *("observation.state", "float32", "48 x 64 x 3", "h264 yuv420p", "front: 8 repeated", "0.27 s"),
        *("lights=0", "lights=2"),
    ):
        assert part in shown, (part, shown)
    for absent in ("no quality record", "staging", "being written", "timestamp"):
        assert absent not in shown


def test_as_json(dataset, capsys):
    assert main(["info", str(dataset), "--json", "--episodes=1-7"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["info"]["total_frames"] == 27
    assert facts["tasks"] == {"Task 0": 2, "Task 1": 1}
    assert facts["bytes"]["videos"] == sum(f.stat().st_size for f in dataset.glob("videos/**/*.mp4"))
    assert [episode["episode_index"] for episode in facts["episodes"]] == [1, 2]
    camera = facts["episodes"][0]["quality"]["cameras"][FRONT]
    assert (camera["captured"], camera["repeated"], camera["lost"]) == (9, 8, 0)
    assert (facts["staging"], facts["writer"], facts["problems"]) == ([], None, [])


def test_chosen_episodes(dataset, capsys):
    assert main(["info", str(dataset), "--episodes=0,2-2"]) == 0
    shown = capsys.readouterr().out
    assert "lights=0" in shown
    assert "lights=2" in shown
    assert "lights=1" not in shown
    assert main(["info", str(dataset), "--episodes=7"]) == 0
    assert "none of these episodes" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "9-5", "1,,2", "1-2-3", "²", "1" * 12])
def test_ranges_that_are_none(text, dataset, capsys):
    with pytest.raises(ConfigError, match="--episodes"):
        EpisodeRanges(text)
    assert main(["info", str(dataset), f"--episodes={text}"]) == 2
    assert "such as 3,5-9" in capsys.readouterr().err


def test_huge_ranges_cost_nothing():
    ranges = EpisodeRanges("0-999999999, 4")
    assert 123_456_789 in ranges
    assert 1_000_000_000 not in ranges


def test_a_dataset_of_others_has_no_record(dataset, capsys):
    shutil.rmtree((dataset / quality_log.PATH).parent)
    assert main(["info", str(dataset)]) == 0
    assert "no quality record" in capsys.readouterr().out


def test_episodes_that_others_added_have_no_record(dataset, capsys):
    path = dataset / quality_log.PATH
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert main(["info", str(dataset)]) == 0
    assert "no record" in capsys.readouterr().out


def test_a_record_of_another_episode_is_not_shown(dataset, capsys):
    """What is left behind when somebody deletes an episode: the indices no longer fit."""
    path = dataset / quality_log.PATH
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[0]["length"] = 99
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert "episode 0 has 9 frames, its record says 99" in shown
    assert "lights=0" not in shown


async def test_while_it_is_recorded_into(tmp_path, capsys):
    root = tmp_path / "set"

    async with Recorder("t/i", root=root, fps=FPS, features=FEATURES, rgb_encoder=H264) as recorder:
        await (await record_episode(recorder)).save
        async with recorder.episode("Now") as episode:
            episode.add_frame(make_frame(0))
            assert await asyncio.to_thread(main, ["info", str(root)]) == 0
            episode.discard()
    shown = capsys.readouterr().out
    assert "1 episode, 10 frames" in shown
    assert "being written by process" in shown
    assert "recording" in shown
    assert "aiorecord recover" not in shown


def test_what_waits_in_staging(dataset, capsys):
    folder = dataset / ".aiorecord/episodes/000009-0123abcd"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    assert main(["info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert "1 unreadable" in shown
    assert "aiorecord recover" in shown


def test_nothing_is_changed_and_no_lock_is_needed(dataset, capsys):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    assert main(["info", str(dataset)]) == 0
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before
    with DatasetLock(dataset):
        assert main(["info", str(dataset)]) == 0
        assert "being written by process" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta/info.json", b"{"),
        ("meta/info.json", b"[" * 200_000),
        ("meta/info.json", b"\x00" * 1000),
        ("meta/info.json", b'{"fps": "thirty"}'),
        ("meta/episodes/chunk-000/file-000.parquet", b"PAR1"),
        ("meta/episodes/chunk-000/file-000.parquet", b""),
    ],
)
def test_a_damaged_dataset_is_an_error_and_no_traceback(dataset, name, content, capsys):
    (dataset / name).write_bytes(content)
    assert main(["info", str(dataset)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("aiorecord: ")
    assert len(shown) < 1000


def test_an_info_file_of_gigabytes_is_not_read(dataset, capsys):
    with (dataset / "meta/info.json").open("r+b") as file:
        file.truncate(10 << 30)  # sparse
    assert main(["info", str(dataset)]) == 1
    assert "10737418240 bytes" in capsys.readouterr().err


def test_metadata_that_counts_less_than_info(dataset, capsys):
    info = json.loads((dataset / "meta/info.json").read_text())
    (dataset / "meta/info.json").write_text(json.dumps(info | {"total_episodes": 5}))
    assert main(["info", str(dataset)]) == 1
    assert "holds 3 episodes, meta/info.json counts 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", [b"not JSON\n", b"\xff\xfe\x00\n", b"[" * 100_000 + b"\n", b'{"version": 9}\n']
)
def test_lines_that_are_no_records_are_named(dataset, text, capsys):
    with (dataset / quality_log.PATH).open("ab") as file:
        file.write(text)
    assert main(["info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert "quality record: line 4: " in shown
    assert "lights=2" in shown


def test_many_broken_lines_do_not_fill_the_screen(dataset, capsys):
    with (dataset / quality_log.PATH).open("ab") as file:
        file.write(b"x\n" * 5000)
    assert main(["info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert "and 4990 more problems" in shown
    assert len(shown.splitlines()) < 60


def test_texts_of_a_dataset_do_not_steer_the_terminal(dataset, capsys):
    tasks = "\x1b[2J\x1b]0;owned\x07[bold]no markup[/bold]"
    record = EpisodeQuality(2, "x\x1b[1m", 9, [tasks], 30, facts={"\x1b[3m": "\x1b[31m"}, flags=["\x1b[5m"])
    quality_log.append(dataset, record)
    [path] = dataset.glob("meta/episodes/**/*.parquet")
    table = pq.read_table(path)
    column = table.column("tasks").to_pylist()
    index = table.schema.get_field_index("tasks")
    table = table.set_column(index, table.schema.field("tasks"), [[column[0], column[1], [tasks]]])
    pq.write_table(table, path)
    assert main(["info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[bold]no markup[/bold]" in shown


def test_values_of_any_type_in_a_record_are_shown(dataset):
    record = EpisodeQuality(
        0,
        "x",
        9,
        [],
        30,
        lateness={"p50_ms": "late", "p99_ms": None, "worst_ms": [1], "late": True, "missed": 10**30},
        save={"durable_s": None},
        facts={"nested": {"a": [1, {"b": None}]}},
    )
    quality_log.append(dataset, record)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    show(read_facts(dataset), console=console)
    assert "nested" in console.file.getvalue()


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_no_dataset(tmp_path, name, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert main(["info", str(tmp_path / name)]) == 1
    assert "not a dataset" in capsys.readouterr().err


def test_long_datasets_show_their_newest_episodes(tmp_path, capsys, monkeypatch, dataset):
    monkeypatch.setattr(info, "SHOWN_EPISODES", 2)
    assert main(["info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert "the newest 2 of 3 episodes" in shown
    assert "lights=0" not in shown


def test_help(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["info", "--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert "--episodes=3,5-9" in shown
    assert "exit codes" in shown
