"""Every command on datasets made to break it: one line, the right exit code, no traceback, bounded memory."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import FEATURES, FPS, H264, record_episode

from aiorecord import Recorder
from aiorecord.cli import main
from aiorecord.dataset.format.table_size import MAX_TABLE_ROWS, check_size
from aiorecord.dataset.format.tables import open_table, read_table
from aiorecord.errors import AiorecordError, DatasetError
from aiorecord.robots.replay.recorded_dataset import ReplayDataset

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files and descriptors")

INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES, DATA = "meta/episodes/chunk-000/file-000.parquet", "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"
LOG = "meta/aiorecord/episodes.jsonl"
FRONT = "observation.images.front"
NAN = float("nan")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile") / "set"

    async def record():
        async with Recorder("t/h", root=root, fps=FPS, features=FEATURES, rgb_encoder=H264) as recorder:
            for number in range(2):
                await record_episode(recorder, 4, number)

    asyncio.run(record())
    return root


@pytest.fixture
def root(recorded, tmp_path):
    return shutil.copytree(recorded, tmp_path / "set")


def info(**changes):
    def change(root):
        data = json.loads((root / INFO).read_bytes())
        for name, value in changes.items():
            *path, last = name.split("__")
            place = data
            for part in path:
                place = place[{"front": FRONT}.get(part, part)]
            place[last] = value
        (root / INFO).write_text(json.dumps(data))

    return change


def text(name, content):
    return lambda root: (root / name).write_text(content)


def column(name, key, value):
    def change(root):
        table = pq.read_table(root / name)
        at = table.column_names.index(key)
        pq.write_table(table.set_column(at, key, pa.array([value] * table.num_rows)), root / name)

    return change


def sparse(name):
    def change(root):
        with (root / name).open("wb") as file:
            # The record of the qualities is read to its end, a line at a time.
            file.truncate(3 << 30 if name != LOG else 64 << 20)

    return change


def instead(name, make):
    def change(root):
        (root / name).unlink()
        make(root / name)

    return change


def bomb(name, *columns):
    def change(root):
        rows = pa.nulls(MAX_TABLE_ROWS + 1, pa.int64()).fill_null(0)
        pq.write_table(pa.table(dict.fromkeys(columns, rows)), root / name)

    return change


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def dangling(path):
    path.symlink_to("nowhere")


KINDS = {
    "deep key": info(**{"features__" + "a." * 5000 + "b": {"dtype": "float32", "shape": [1], "names": None}}),
    "deep JSON": text(INFO, '{"features":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "deep statistics": text(STATS, "[" * 100_000 + "]" * 100_000),
    "NaN statistics": text(STATS, '{"action": {"mean": [NaN, "x"], "min": {"a": 1}, "count": [1e308]}}'),
    "text statistics": text(STATS, '{"action": "x", "index": {"count": ["NaN"]}}'),
    "total 1e308": info(total_episodes=1e308),
    "total 10^18": info(total_episodes=10**18),
    "total -1": info(total_episodes=-1),
    "frames 10^300": info(total_frames=10**300),
    "fps 1e308": info(fps=1e308),
    "fps 10^400": info(fps=10**400),
    "size 10^400": info(data_files_size_in_mb=10**400),
    "shape 1e308": info(features__action__shape=[1e308]),
    "shape 10^30": info(features__action__shape=[10**30]),
    "shape -3": info(features__action__shape=[-3]),
    "a picture of 10^18": info(features__front__shape=[10**9, 10**9, 3]),
    "info is a list": info(features__front__info=[1]),
    "template": info(video_path="{video_key.__class__}/x"),
    **{
        f"{key.rpartition('/')[2]} {value!r}": column(EPISODES, key, value)
        for key, values in {
            "length": ("four", NAN, 2**62, -5, None),
            "episode_index": ("x",),
            "data/chunk_index": (NAN, 2**62),
            "data/file_index": ("../../x",),
            f"videos/{FRONT}/from_timestamp": (NAN, 1e308, "x"),
            "tasks": ("x", 3.5),
            "dataset_to_index": (NAN,),
            "stats/action/mean": ("x", [[[[1.0]]]]),
        }.items()
        for value in values
    },
    "rows: index": column(DATA, "index", "x"),
    "rows: episode": column(DATA, "episode_index", NAN),
    "rows: action": column(DATA, "action", "x"),
    "rows: short": column(DATA, "action", [1.0]),
    "tasks: index": column(TASKS, "task_index", "x"),
    "tasks: NaN": column(TASKS, "task_index", NAN),
    "tasks: number": column(TASKS, "task", 1.5),
    "bomb of rows": bomb(DATA, "index", "episode_index"),
    "bomb of episodes": bomb(EPISODES, "episode_index", "length"),
}
if sys.platform != "win32":
    KINDS |= {
        f"{make.__name__} {name}": instead(name, make)
        for make in (pipe, device, dangling)
        for name in (INFO, STATS, TASKS, EPISODES, DATA, VIDEO, LOG)
    } | {f"sparse {name}": sparse(name) for name in (INFO, STATS, TASKS, EPISODES, DATA, LOG)}
    KINDS |= {
        "long names": lambda root: [
            (root / "meta" / ("x" * 255)).touch(),
            (root / "data" / ("y" * 255)).mkdir(),
        ],
        "no UTF-8": lambda root: os.makedirs(os.fsencode(root) + b"/.aiorecord/episodes/\xff\xfe"),
        "markup": lambda root: os.makedirs(root / ".aiorecord/episodes/[red]x[ "),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_command_says_one_line(root, kind, capfd):
    KINDS[kind](root)
    capfd.readouterr()
    for command in (["info", str(root)], ["info", str(root), "--json"], ["recover", str(root), "--dry-run"]):
        code = main(command)
        out, err = capfd.readouterr()
        assert code in (0, 1, 3), command
        assert len(err.splitlines()) <= 1
        assert "A fault of" not in err
        assert "Traceback" not in out + err
    try:
        list(islice(ReplayDataset(root, [1]).endless_rows(["action"]), 4))
    except AiorecordError as error:
        assert "\n" not in str(error)


def test_a_table_is_refused_by_what_its_footer_says(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.nulls(MAX_TABLE_ROWS + 1, pa.int8())}), path)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DatasetError, match="claims 10000001 rows"):
        read_table(path)
    text = "x" * (1 << 20)
    with pq.ParquetWriter(
        path, pa.schema({"a": pa.string(), "b": pa.int8()}), compression="zstd", use_dictionary=False
    ) as out:
        for _ in range(1040):  # a gigabyte, in some kilobytes
            out.write_table(pa.table({"a": [text], "b": pa.array([1], pa.int8())}))
    with pytest.raises(DatasetError, match="bytes"):
        read_table(path)
    with open_table(path) as file:
        check_size(file, path, ["b"])  # only what is read counts


@posix
def test_no_file_of_a_dataset_becomes_the_standard_output(root):
    """Started with them closed, the next file that is opened would get their numbers."""
    command = f"{sys.executable} -m aiorecord info {root} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 0
    program = (
        "import os, sys\n"
        "from aiorecord.cli.output import open_standard_files\n"
        "open_standard_files()\n"
        f"fd = os.open({str(root / INFO)!r}, os.O_RDONLY)\n"
        "os._exit(0 if fd > 2 and sys.stdin and sys.stdout and sys.stderr else 1)"
    )
    shell = ["sh", "-c", f'exec {sys.executable} -c "$0" <&- >&- 2>&-', program]
    assert subprocess.run(shell, timeout=60).returncode == 0


@posix
def test_a_reader_that_leaves_and_a_path_that_is_no_utf8(root, capsys):
    for command in (f"-m aiorecord info {root} | head -1", f"-m aiorecord info {root} > /dev/full"):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {sys.executable} {command}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1
        assert done.returncode == (1 if "full" in command else 0)
    path = os.fsencode(root.parent) + b"/\xff\x9b2J"
    shutil.copytree(os.fsencode(root), path)  # Arrow and libav open no file in it: no damage, and no repair
    for name in ("info", "check", "recover", "push"):
        given = ["--repo_id=a/b"] if name == "push" else []
        with pytest.raises(SystemExit, match="2") if name != "recover" else contextlib.nullcontext():
            assert main([name, os.fsdecode(path), *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "not UTF-8" in line
        assert line.isprintable()
