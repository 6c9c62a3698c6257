"""What others print, and what is no worker at all, reaches nobody's results; every failure is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import worker_jobs as jobs

from aiorecord.errors import EncodeError
from aiorecord.workers.child import LENGTH
from aiorecord.workers.pool import WorkerDiedError, WorkerPool
from aiorecord.workers.process import process_cpu_s

posix = pytest.mark.skipif(sys.platform == "win32", reason="there the pipes are stdin and stdout")


def start_up_file(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run code in each Python that starts from now on."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))  # the children import from the same places


@posix
@pytest.mark.parametrize(
    "code",
    [
        "print('Welcome to this machine!', flush=True)",
        "import os; os.write(1, b'x' * 300_000)",  # more than a pipe holds
        "import os; os.write(2, b'x' * 300_000)",
        "import sys; sys.stdin.read()",
        "import os; os.close(1)",
        "import os; os.close(0); os.close(2)",
    ],
)
def test_start_up_files_may_print_and_read(tmp_path, monkeypatch, code):
    start_up_file(tmp_path, monkeypatch, code)
    with WorkerPool(1) as pool:
        data = os.urandom(1 << 20)
        assert pool.submit(jobs.echo, data).result(60) == data


@posix
def test_jobs_may_print_while_they_take_and_give_much():
    with WorkerPool(1) as pool:
        data = os.urandom(1 << 20)
        assert pool.submit(jobs.print_and_echo, data).result(60) == data
        assert pool.submit(jobs.echo, 1).result(60) == 1


@posix
def test_a_process_that_a_job_left_behind_does_not_hide_the_death_of_the_worker():
    with WorkerPool(1) as pool:
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            pool.submit(jobs.fork_and_die).result(60)
        assert pool.submit(jobs.echo, 1).result(60) == 1


@posix
@pytest.mark.parametrize(
    "data", [LENGTH.pack(1 << 62), LENGTH.pack(3) + b"abc", LENGTH.pack(1) + b"abc", b"\x01"]
)
def test_bytes_that_are_no_result_are_an_error(data):
    with WorkerPool(1) as pool:
        with pytest.raises(EncodeError):
            pool.submit(jobs.send_and_die, data).result(60)
        assert pool.submit(jobs.echo, 1).result(60) == 1


@pytest.mark.parametrize("executable", [None, ""])
def test_without_an_interpreter_the_error_says_what_to_do(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with WorkerPool(1) as pool, pytest.raises(EncodeError, match=r"sys\.executable is not set.*sets it to"):
        pool.submit(jobs.echo, 1).result(60)


@posix
@pytest.mark.parametrize("executable", ["/bin/false", "/bin/true", "/bin/cat"])
def test_a_program_that_is_no_python_is_told(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with WorkerPool(1) as pool, pytest.raises(EncodeError, match="exited with code"):
        pool.submit(jobs.echo, 1).result(60)


@posix
def test_no_descriptor_is_left_open(monkeypatch):
    with WorkerPool(1) as pool:  # the first one makes what is kept
        pool.submit(jobs.echo, 1).result(60)
    before = len(os.listdir("/dev/fd"))
    with WorkerPool(2) as pool:
        pool.warm()
        pool.submit(jobs.echo, 1).result(60)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with WorkerPool(1) as pool, pytest.raises(EncodeError):
        pool.submit(jobs.echo, 1).result(60)
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_processor_time_of_a_job_is_known():
    before = process_cpu_s(os.getpid())
    assert before is not None
    sum(number * number for number in range(3_000_000))
    after = process_cpu_s(os.getpid())
    assert after is not None
    assert after > before
    assert process_cpu_s(2**22 + 1) is None
