"""pyarrow loads pandas where there is one; no process of ours lets it, and whoever wants pandas gets it."""

import os
import subprocess
import sys

import numpy as np
import pytest

import aiorecord
from aiorecord.workers.pool import WorkerPool

PROGRAM = """
import sys
from aiorecord.cli import main
code = main(sys.argv[1:])
import pandas
sys.exit(code if pandas.loaded == 1 else 9)
"""
FEATURES = {"action": {"dtype": "float32", "shape": (1,), "names": None}}


@pytest.fixture
def pandas(tmp_path):
    """A library of that name, which says how often it was loaded."""
    folder = tmp_path / "site"
    folder.mkdir()
    path = tmp_path / "loaded"
    (folder / "pandas.py").write_text(
        f"with open({str(path)!r}, 'a') as out: print('loaded', file=out)\n"
        f"loaded = open({str(path)!r}).read().count('loaded')\n"
        "__version__ = '2.2.0'\n"
    )
    return folder, path


async def record(root):
    async with (
        aiorecord.Recorder("me/x", root=root, fps=30, features=FEATURES) as recorder,
        recorder.episode("t") as episode,
    ):
        episode.add_frame({"action": np.zeros(1, np.float32)})


@pytest.mark.parametrize("command", ["info", "check"])
async def test_commands_do_without_and_whoever_imports_it_gets_it(tmp_path, pandas, command):
    folder, path = pandas
    await record(tmp_path / "set")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, command, str(tmp_path / "set")],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert path.read_text() == "loaded\n"  # by the program, not by the command nor by its workers


def test_there_is_none_in_a_worker(pandas, monkeypatch):
    folder, path = pandas
    monkeypatch.setenv("PYTHONPATH", str(folder))
    pool = WorkerPool(1)
    try:
        with pytest.raises(ModuleNotFoundError, match="pandas"):
            pool.submit(__import__, "pandas").result(60)
    finally:
        pool.shutdown()
    assert not path.exists()
