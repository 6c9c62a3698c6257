"""A recording that was killed, made once, and copies of it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from killed_recording import CHILD, ENDED, FRAMES


@pytest.fixture(scope="session")
def killed_session(tmp_path_factory):
    """Root of a dataset with two ended episodes and an interrupted one in staging, and nothing else."""
    root = tmp_path_factory.mktemp("killed") / "set"
    arguments = [sys.executable, str(CHILD), str(root), str(ENDED), str(FRAMES)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"recorded\n"
        child.kill()
    return root


@pytest.fixture
def killed(killed_session, tmp_path):
    """A copy of it for one test."""
    root = tmp_path / "set"
    shutil.copytree(killed_session, root)
    return root


@pytest.fixture(autouse=True)
def encode_in_threads(monkeypatch):
    """Encode in threads of this process: starting worker processes is not the point here."""
    from concurrent.futures import ThreadPoolExecutor

    from aiorecord.saving import saver

    monkeypatch.setattr(saver, "WorkerPool", ThreadPoolExecutor)
