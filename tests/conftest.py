"""What every test has."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import tempfile

import leaks
import pytest

from aiorecord.clock import FakeClock
from aiorecord.recording import core


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What tests measure of this machine does not reach the user's cache, nor the other way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory):
    """A temporary folder for these tests only, with a short path: that of a socket holds 100 characters."""
    tmp_path_factory.getbasetemp()  # stays where it is
    folder = tempfile.mkdtemp(prefix="aiorecord-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left(request, own_temporary_folder):
    """A test fails that leaves a thread, child process, file descriptor or temporary folder behind.

    One whose subject it is says so, with a part of the line that names it: ``@pytest.mark.leaves("/lock")``.
    """
    before = leaks.snapshot()
    yield
    meant = request.node.get_closest_marker("leaves")
    fail_if(leaks.left_since(before, meant.args if meant else ()))


@pytest.fixture(autouse=True)
def no_task_left(request, nothing_left):
    """Neither a task: an async test is looked at before its loop ends, which would cancel what is left."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("no_task_left_in_the_loop")


@pytest.fixture
async def no_task_left_in_the_loop():
    before = asyncio.all_tasks()
    yield
    fail_if(await leaks.tasks_left(before))


def fail_if(left: list[str]) -> None:
    if left:
        pytest.fail("The test leaves behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def steady_clock(monkeypatch):
    """Recorders made in this process keep every deadline, however busy the machine is."""
    monkeypatch.setattr(core, "SystemClock", lambda: FakeClock(auto=True))
