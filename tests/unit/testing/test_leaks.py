"""The fixture that fails a test which leaves something behind finds each kind of it."""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import leaks
import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(leaks, "ENDING_S", 0.0)


def test_a_thread(impatient):
    go_on = threading.Event()
    before = leaks.snapshot()
    thread = threading.Thread(target=go_on.wait, name="forgotten")
    thread.start()
    assert leaks.left_since(before) == ["thread forgotten"]
    assert leaks.left_since(before, ("forgotten",)) == []
    go_on.set()
    thread.join()
    assert leaks.left_since(before) == []


def test_a_thread_that_is_about_to_end_is_waited_for():
    begun, before = threading.Event(), leaks.snapshot()

    def ends() -> None:
        begun.wait()
        threading.Event().wait(0.01)

    threading.Thread(target=ends).start()
    begun.set()
    assert leaks.left_since(before) == []


@linux
def test_a_process(impatient):
    before = leaks.snapshot()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        [line, pipe] = leaks.left_since(before)
        assert line.startswith(f"process {process.pid}: ")
        assert "pipe" in pipe
    assert leaks.left_since(before) == []


@linux
def test_a_descriptor(impatient, tmp_path):
    before = leaks.snapshot()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert leaks.left_since(before) == [f"file descriptor {descriptor}: {tmp_path}"]
    os.close(descriptor)
    assert leaks.left_since(before) == []


def test_a_temporary_folder(impatient):
    before = leaks.snapshot()
    folder = Path(tempfile.mkdtemp(prefix="forgotten-"))
    assert leaks.left_since(before) == [f"temporary {folder.name}"]
    folder.rmdir()
    assert leaks.left_since(before) == []


async def test_a_task(impatient):
    before = asyncio.all_tasks()
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    [line] = await leaks.tasks_left(before)
    assert line.startswith("task forgotten: ")
    task.cancel()
    await asyncio.wait((task,))
    assert await leaks.tasks_left(before) == []
