"""Every command of README and docs runs as it stands there, page after page, in one fresh folder."""

import contextlib
import json
import re
import shutil
import subprocess
import tomllib
from itertools import pairwise

import av
import numpy as np
import pytest
from command_blocks import PAGES, ROOT, SHORT, fences, lines

from aiorecord import cli
from aiorecord.bench.cell import Measurement
from aiorecord.check import check_dataset
from aiorecord.check.repair import repair_dataset
from aiorecord.cli import COMMANDS, main
from aiorecord.cli.commands import bench
from aiorecord.encoding.plans import apply
from aiorecord.lerobot.drivers import device_flags
from aiorecord.recording.core import RecorderCore
from aiorecord.saving import saver
from aiorecord.workers.pool import WorkerPool

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def film(path):
    """The reader's own footage."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=30)
        stream.width, stream.height = 64, 48
        for grey in range(0, 90, 3):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def run_other(words):
    """What is no command of aiorecord's is not run (it installs, or takes minutes), but is there."""
    match words:
        case ["pip", "install", "uv"]:
            return
        case ["uv", "sync", *flags]:
            extras = [after for flag, after in pairwise(flags) if flag == "--extra"]
            assert extras
            assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
        case ["uvx", "pre-commit", "install"]:
            assert (ROOT / ".pre-commit-config.yaml").is_file()
        case ["uv", "pip", "install", what]:
            assert what.startswith("lerobot[")
        case ["nox", *rest]:
            sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M)
            assert rest[:1] in ([], ["-s"])
            assert {name.removesuffix("-3.12") for name in rest[1:2]} <= set(sessions)
            assert rest[2:] == [] or (rest[2] == "--" and (ROOT / rest[3]).exists())
        case ["pytest", path, *_] | ["python", path, *_]:
            assert (ROOT / path).exists()
        case _:
            pytest.fail(f"This test does not know {words}.")


def pipe(text, words):
    assert words[0] == "jq"
    if shutil.which("jq"):
        done = subprocess.run(words, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        json.loads(text)


def measured(cells, systems, **options):
    """Made-up figures: tests/unit/bench measures, and takes its time for it."""
    ticks = {"tick_s": [0.0, 0.033], "late_ms": [0.1, 0.2], "recording_s": 0.066, "drain_s": 1.0}
    counts = {"frames": 2, "rows": 2, "video_frames": 2, "cpu_s": 0.1}
    return [Measurement(system, cell, **ticks, **counts) for cell in cells for system in systems]


def code_of(argv):
    try:
        return main(argv)
    except SystemExit as end:
        return end.code


@pytest.fixture
def workers(monkeypatch):
    """One pool for all commands: to start one takes longer than their work."""
    pool = WorkerPool(1)
    with monkeypatch.context() as patch:
        patch.setattr(pool, "shutdown", lambda *given, **options: None)
        yield pool
    pool.shutdown()


def test_they_run_in_order_in_a_fresh_folder(tmp_path, monkeypatch, capsys, steady_clock, workers):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(device_flags, "is_installed", lambda: False)
    film("kitchen.mp4")
    monkeypatch.setattr(bench, "measure_all", measured)
    monkeypatch.setattr(bench, "check_systems", lambda systems: None)
    monkeypatch.setattr(RecorderCore, "make_pool", lambda *given: workers)
    for module in (check_dataset, repair_dataset, saver, apply):
        monkeypatch.setattr(module, "WorkerPool", lambda *given, **options: workers)
    monkeypatch.setattr(cli, "worker_ahead", contextlib.nullcontext)
    ran = []
    for page in PAGES:
        for line in lines(page):
            if line.command is None:
                run_other(list(line.words))
                continue
            hardware = any("type=so101" in word for word in line.words)
            code = code_of([*line.words[1:], *SHORT.get(line.command, ())])
            out, err = capsys.readouterr()
            assert code == (2 if hardware else 0), f"{page}: {' '.join(line.words)}\n{out}{err}"
            if hardware:  # tests/lerobot/test_docs_lerobot.py reads its flags
                assert "come with lerobot" in err
            if line.to:
                pipe(out, line.to)
            ran.append(line.command)
    assert set(COMMANDS) - set(ran) <= {"push", "lerobot-record", "lerobot-rollout"}
    assert ran.count("record") >= 5
    made = {path.parent.parent.name for path in tmp_path.glob("data/*/meta/info.json")}
    named = {
        root
        for page in PAGES
        for kind, text in fences(page)
        if kind == "python" and "features=features" in text
        for root in re.findall(r'root="data/([^"]*)"', text)
    }
    assert named, "no example of Python makes a dataset"
    assert not made & named, "an example of Python makes a dataset that a command has made"


def test_no_command_hides_in_a_block_of_another_kind():
    for page in PAGES:
        for kind, text in fences(page):
            if kind != "sh":
                assert not re.search(r"^\s*(uv run|aiorecord|pip install) ", text, re.M), f"{page}: {text}"
