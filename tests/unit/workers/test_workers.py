from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest
import worker_jobs as jobs

from aiorecord.errors import ConfigError, EncodeError, StateError, StorageError
from aiorecord.workers.pool import STDERR_KEPT, WorkerDiedError, WorkerPool, worker_ahead

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1) as pool:
        yield pool


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def wait_until_gone(pid: int) -> None:
    """Wait for a process that is not our child to end; without polling."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 20)[0], f"process {pid} still lives"
    finally:
        os.close(fd)


def children() -> set[int]:
    """Processes that this one has started and not collected."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for path in tasks for pid in path.read_text().split()}


def test_results_come_back_in_the_order_of_submission(pool: WorkerPool) -> None:
    futures = [pool.submit(jobs.echo, n) for n in range(20)]
    assert [future.result() for future in futures] == list(range(20))
    assert list(pool.map(jobs.echo, "abc")) == ["a", "b", "c"]


def test_a_large_argument_and_result(pool: WorkerPool) -> None:
    data = os.urandom(3 << 20)
    assert pool.submit(jobs.echo, data).result() == data


def test_children_start_lazily_and_persist(pool: WorkerPool) -> None:
    assert pool.pids() == []
    first = pool.submit(jobs.pid).result()
    assert pool.submit(jobs.pid).result() == first
    assert pool.pids() == [first]
    assert first != os.getpid()


@linux
def test_a_child_started_ahead_is_taken_by_the_first_pool() -> None:
    before = children()
    with worker_ahead():
        (ahead,) = children() - before
        with WorkerPool(1) as pool, WorkerPool(1) as other:
            assert pool.submit(jobs.pid).result() == ahead
            assert other.submit(jobs.pid).result() != ahead
    assert children() == before


@linux
def test_a_child_started_ahead_that_nobody_takes_is_ended() -> None:
    before = children()
    with worker_ahead():
        assert len(children() - before) == 1
    assert children() == before


def test_where_no_child_can_be_started_ahead_the_pool_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with worker_ahead(), WorkerPool(1) as pool, pytest.raises(EncodeError, match="nowhere"):
        pool.submit(jobs.echo, 1).result()


def test_jobs_run_side_by_side(fifo: Path) -> None:
    with WorkerPool(2) as pool:
        blocked = pool.submit(jobs.wait_for, fifo)
        assert pool.submit(jobs.echo, 1).result() == 1
        assert not blocked.done()
        fifo.write_text("go")
        assert blocked.result() == "go"
        assert len(pool.pids()) == 2


def test_warm_starts_every_child_once() -> None:
    with WorkerPool(2) as pool:
        pool.warm()
        pool.warm()
        done = {pool.submit(jobs.pid).result() for _ in range(4)}
        for thread in threading.enumerate():
            if thread.name.startswith("aiorecord-encode") and not thread.daemon:
                thread.join()
        assert len(pool.pids()) == 2
        assert done <= set(pool.pids())
    with pytest.raises(StateError):
        pool.warm()


def test_an_error_comes_back_as_itself_with_the_childs_traceback(pool: WorkerPool) -> None:
    with pytest.raises(KeyError) as caught:
        pool.submit(jobs.fail, KeyError("missing")).result()
    assert "in fail" in caught.value.__notes__[0]
    with pytest.raises(StorageError) as storage:
        pool.submit(jobs.fail, StorageError("full", path=Path("/x"))).result()
    assert storage.value.path == Path("/x")
    error = EncodeError("bad", camera="front", codec="h264")
    with pytest.raises(EncodeError) as encode:
        pool.submit(jobs.fail, error).result()
    assert (encode.value.camera, encode.value.codec) == ("front", "h264")


@pytest.mark.parametrize(
    ("job", "args", "text"),
    [
        (jobs.fail_strangely, (), "StrangeError: strange"),
        (jobs.unpicklable, (), "pickle"),
        (jobs.leave, (), "SystemExit: 5"),
        (jobs.fail, (KeyboardInterrupt(),), "KeyboardInterrupt"),
    ],
)
def test_what_cannot_travel_becomes_an_encode_error(
    pool: WorkerPool, job: object, args: tuple[object, ...], text: str
) -> None:
    with pytest.raises((EncodeError, TypeError), match=text):
        pool.submit(job, *args).result()  # type: ignore[arg-type]
    assert pool.submit(jobs.echo, 1).result() == 1, "the child goes on"


def test_a_job_of_main_is_refused_without_importing_main(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import math\n"
        "from aiorecord.workers.pool import WorkerPool\n"
        "from aiorecord.errors import AiorecordError\n"
        "print('main runs')\n"
        "def mine(): return 1\n"
        "pool = WorkerPool(1)\n"
        "print(pool.submit(math.sqrt, 9.0).result())\n"
        "print(type(pool.submit(mine).exception()).__name__)\n"
        "pool.shutdown()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "main runs\n3.0\nAttributeError\n"
    assert done.stderr == ""


def test_a_program_that_forgets_shutdown_ends_after_its_jobs(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from aiorecord.workers.pool import WorkerPool\n"
        "pool = WorkerPool(1)\n"
        "pool.submit(Path.write_text, Path('result'), 'done')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "result").read_text() == "done"


def test_files_in_the_current_folder_do_not_replace_modules(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('wrong module')")
    script = tmp_path / "elsewhere" / "run.py"
    script.parent.mkdir()
    script.write_text(
        "from aiorecord.workers.pool import WorkerPool\n"
        "with WorkerPool(1) as pool: print(pool.submit(abs, -1).result())\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_what_a_job_prints_or_reads_does_not_reach_the_pipes(pool: WorkerPool) -> None:
    assert pool.submit(jobs.print_noise).result() == ""
    assert pool.submit(jobs.echo, 1).result() == 1


@posix
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_dead_child_fails_only_its_job(pool: WorkerPool, number: signal.Signals) -> None:
    dying = pool.submit(jobs.die, number)
    next_one = pool.submit(jobs.pid)
    with pytest.raises(WorkerDiedError, match=number.name):
        dying.result()
    assert next_one.result() == pool.pids()[0]


def test_last_words_are_kept_and_bounded(pool: WorkerPool) -> None:
    with pytest.raises(WorkerDiedError, match="exited with code 3") as caught:
        pool.submit(jobs.complain_and_exit, 10_000).result()
    assert "last words" in str(caught.value)
    assert len(str(caught.value)) < 2 * STDERR_KEPT


@posix
def test_a_child_that_died_between_jobs_is_replaced(pool: WorkerPool) -> None:
    pid = pool.submit(jobs.pid).result()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pool.submit(jobs.pid).result() != pid


def test_a_waiting_job_can_be_cancelled(pool: WorkerPool, fifo: Path, tmp_path: Path) -> None:
    running = pool.submit(jobs.wait_for, fifo)
    waiting = pool.submit(Path.touch, tmp_path / "never")
    assert waiting.cancel()
    fifo.write_text("go")
    assert running.result() == "go"
    assert pool.submit(jobs.echo, 1).result() == 1
    with pytest.raises(CancelledError):
        waiting.result()
    assert not (tmp_path / "never").exists()


def test_abort_kills_the_child_of_a_running_job_only(pool: WorkerPool, fifo: Path) -> None:
    before = pool.submit(jobs.pid).result()
    running = pool.submit(jobs.wait_for, fifo)
    waiting = pool.submit(jobs.echo, 1)
    after = pool.submit(jobs.pid)
    with fifo.open("w"):  # returns when the job is under way
        assert pool.abort(waiting)
        assert pool.abort(running)
        with pytest.raises(EncodeError, match="stopped"):
            running.result()
    assert waiting.cancelled()
    assert after.result() != before
    assert not pool.abort(running)
    assert not pool.abort(after)


def test_abort_while_the_child_starts() -> None:
    with WorkerPool(1) as pool:
        future = pool.submit(signal.pause)
        assert pool.abort(future)
        assert future.cancelled() or isinstance(future.exception(), EncodeError)
        assert pool.submit(jobs.echo, 1).result() == 1


@posix
def test_ctrl_c_does_not_reach_a_child(pool: WorkerPool) -> None:
    assert pool.submit(jobs.interrupt_me).result() == pool.pids()[0], (
        "a process group of its own, in the session of its parent"
    )
    assert pool.submit(jobs.echo, 1).result() == 1


@linux
@pytest.mark.skipif(sys.platform != "linux", reason="a policy of Linux")
def test_every_thread_of_a_child_gives_way_at_once(pool: WorkerPool, tmp_path: Path) -> None:
    assert pool.submit(jobs.policies, tmp_path).result() == {os.SCHED_IDLE}


def test_every_thread_of_a_child_is_nice(pool: WorkerPool) -> None:
    assert pool.submit(jobs.nice_values).result() == {19}


@linux
def test_memory_is_told(pool: WorkerPool) -> None:
    assert pool.rss_bytes() == 0
    pool.submit(jobs.echo, 1).result()
    assert 5_000_000 < pool.rss_bytes() < 500_000_000


def test_children_do_not_import_what_encoding_does_not_need(pool: WorkerPool) -> None:
    loaded = set(pool.submit(jobs.modules).result())
    assert not loaded & {"asyncio", "rich", "draccus", "anyio", "multiprocessing", "torch", "PIL"}


def test_shutdown_leaves_nothing_and_is_idempotent(fifo: Path) -> None:
    threads = set(threading.enumerate())
    pool = WorkerPool(2)
    running = pool.submit(jobs.wait_for, fifo)
    pool.submit(jobs.echo, 1).result()
    waiting = [pool.submit(jobs.echo, 1)]
    pids = pool.pids()
    pool.shutdown(wait=False)
    with pytest.raises(StateError):
        pool.submit(jobs.echo, 1)
    assert not running.done(), "shutdown waits for what runs"
    fifo.write_text("go")
    pool.shutdown()
    pool.shutdown(cancel_futures=True)
    assert running.result() == "go"
    assert waiting[0].result() == 1
    assert pool.pids() == []
    assert set(threading.enumerate()) == threads
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_shutdown_cancels_waiting_jobs_when_asked(pool: WorkerPool, fifo: Path) -> None:
    running = pool.submit(jobs.wait_for, fifo)
    waiting = [pool.submit(jobs.echo, n) for n in range(3)]
    with fifo.open("w") as file:  # returns when the first job is under way
        pool.shutdown(wait=False, cancel_futures=True)
        assert all(future.cancelled() for future in waiting)
        file.write("go")
    assert running.result() == "go"


def test_shutdown_from_a_callback(pool: WorkerPool) -> None:
    future = pool.submit(jobs.echo, 1)
    future.add_done_callback(lambda _: pool.shutdown())
    wait([future])
    pool.shutdown()
    assert pool.pids() == []


def test_no_worker_is_no_pool() -> None:
    with pytest.raises(ConfigError):
        WorkerPool(0)


def test_a_missing_interpreter_is_an_encode_error(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EncodeError, match="Could not start"):
        pool.submit(jobs.echo, 1).result()
    monkeypatch.undo()
    assert pool.submit(jobs.echo, 1).result() == 1


PARENT = """
import os, sys, threading
from pathlib import Path
import worker_jobs as jobs
from aiorecord.workers.pool import WorkerPool
pool = WorkerPool(2)
idle = pool.submit(jobs.pid).result()
busy = [pool.submit(jobs.mark_and_hang, Path("busy"))]
if "fork" in sys.argv and os.fork() == 0:
    threading.Event().wait()  # holds our ends of the pipes open
while not Path("busy").exists() or not Path("busy").read_text(): pass
print(*pool.pids(), flush=True)
threading.Event().wait()
"""


@linux
@pytest.mark.parametrize("mode", ["plain", "fork"])
def test_children_end_when_the_parent_is_killed(tmp_path: Path, mode: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, mode],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert int((tmp_path / "busy").read_text()) in pids
        os.kill(parent.pid, signal.SIGKILL)
        for pid in pids:
            wait_until_gone(pid)
        if mode == "fork":
            os.killpg(parent.pid, signal.SIGKILL)  # the fork that held the pipes
