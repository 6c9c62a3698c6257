from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from aiorecord.dataset.commit import lock as lock_module
from aiorecord.dataset.commit.lock import DatasetLock
from aiorecord.dataset.commit.lock_holder import this_process
from aiorecord.errors import DatasetLockedError, StateError, StorageError

HOLD = """
import sys
from pathlib import Path
from aiorecord.dataset.commit.lock import DatasetLock
DatasetLock(Path(sys.argv[1])).acquire()
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(root):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_file_names_its_holder_and_goes_with_it(tmp_path):
    lock = DatasetLock(tmp_path / "new" / "dataset")
    lock.acquire()
    assert lock.is_locked
    held = json.loads(lock.path.read_text())
    assert (held["pid"], held["host"]) == (os.getpid(), socket.gethostname())
    assert held["started"] > 0
    lock.release()
    assert not lock.is_locked
    assert not lock.path.parent.exists()
    lock.release()


def test_what_else_is_in_the_folder_stays(tmp_path):
    (tmp_path / ".aiorecord/episodes/000001-00000000").mkdir(parents=True)
    with DatasetLock(tmp_path):
        pass
    assert [path.name for path in (tmp_path / ".aiorecord").iterdir()] == ["episodes"]


def test_an_empty_staging_area_goes(tmp_path):
    (tmp_path / ".aiorecord/episodes").mkdir(parents=True)
    with DatasetLock(tmp_path):
        pass
    assert not (tmp_path / ".aiorecord").exists()


def test_one_holder_in_a_process(tmp_path):
    with DatasetLock(tmp_path) as first:
        with pytest.raises(DatasetLockedError) as caught:
            DatasetLock(tmp_path).acquire()
        assert (caught.value.pid, caught.value.host) == (os.getpid(), socket.gethostname())
        assert str(os.getpid()) in str(caught.value)
        with pytest.raises(StateError):
            first.acquire()
    with DatasetLock(tmp_path):
        pass


def test_another_process_holds_it_until_it_is_killed(tmp_path):
    with holder(tmp_path) as process:
        with pytest.raises(DatasetLockedError) as caught:
            DatasetLock(tmp_path).acquire()
        assert caught.value.pid == process.pid
        process.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        process.wait()
        with DatasetLock(tmp_path) as lock:
            assert json.loads(lock.path.read_text())["pid"] == os.getpid()


def test_the_holder_of_a_removed_file_removes_nobody_elses(tmp_path):
    first = DatasetLock(tmp_path)
    first.acquire()
    first.path.unlink()
    with DatasetLock(tmp_path) as second:
        first.release()
        assert second.path.exists()
        with pytest.raises(DatasetLockedError):
            DatasetLock(tmp_path).acquire()


def test_garbage_in_the_file_is_no_holder(tmp_path):
    for content in (b"", b"{", b"[]", b"\xff\xfe", b'{"pid": "x"}'):
        (tmp_path / ".aiorecord").mkdir()
        (tmp_path / ".aiorecord/lock").write_bytes(content)
        with DatasetLock(tmp_path):
            pass


def test_never_two_holders_while_files_come_and_go(tmp_path):
    inside, most, taken = 0, 0, 0
    guard = threading.Lock()

    def compete():
        nonlocal inside, most, taken
        for _ in range(150):
            lock = DatasetLock(tmp_path)
            try:
                lock.acquire()
            except DatasetLockedError:
                continue
            with guard:
                inside += 1
                taken += 1
                most = max(most, inside)
            with guard:
                inside -= 1
            lock.release()

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken > 0


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        DatasetLock(tmp_path / "file").acquire()


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(fd):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock_module, "_lock", refuse)


def dead_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has locks everywhere")
class TestWithoutLocks:
    def test_the_file_is_the_lock(self, tmp_path, no_locks):
        with DatasetLock(tmp_path) as lock:
            assert json.loads(lock.path.read_text())["pid"] == os.getpid()
            with pytest.raises(DatasetLockedError):
                DatasetLock(tmp_path).acquire()
        assert not (tmp_path / ".aiorecord").exists()

    def test_a_dead_holder_is_replaced(self, tmp_path, no_locks):
        (tmp_path / ".aiorecord").mkdir()
        content = {"pid": dead_pid(), "host": socket.gethostname()}
        (tmp_path / ".aiorecord/lock").write_text(json.dumps(content))
        with DatasetLock(tmp_path) as lock:
            assert json.loads(lock.path.read_text())["pid"] == os.getpid()

    @pytest.mark.parametrize("host", ["elsewhere", None])
    def test_a_holder_on_another_host_may_live(self, tmp_path, no_locks, host):
        (tmp_path / ".aiorecord").mkdir()
        (tmp_path / ".aiorecord/lock").write_text(json.dumps({"pid": dead_pid(), "host": host}))
        with pytest.raises(DatasetLockedError):
            DatasetLock(tmp_path).acquire()

    def test_another_process_of_the_same_number_is_not_the_holder(self, tmp_path, no_locks):
        other = {**this_process(), "start_ticks": 1}
        before_the_boot = {**this_process(), "pid": 1, "boot": "another"}
        for content in (other, before_the_boot):
            (tmp_path / ".aiorecord").mkdir()
            (tmp_path / ".aiorecord/lock").write_text(json.dumps(content))
            (tmp_path / ".aiorecord/lock.0.claim").write_text(
                json.dumps({**content, "claim": "lock.0.claim"})
            )
            with DatasetLock(tmp_path):
                pass
            assert not (tmp_path / ".aiorecord").exists()

    def test_another_hosts_claim_is_undetermined(self, tmp_path, no_locks):
        (tmp_path / ".aiorecord").mkdir()
        content = {"pid": 1, "host": "elsewhere", "claim": "lock.0.claim"}
        (tmp_path / ".aiorecord/lock.0.claim").write_text(json.dumps(content))
        (tmp_path / ".aiorecord/lock").write_text(json.dumps(content))
        with pytest.raises(DatasetLockedError, match=r"determined(.|\n)*delete .*lock\.0\.claim"):
            DatasetLock(tmp_path).acquire()
        assert (tmp_path / ".aiorecord/lock.0.claim").exists()

    def test_a_claim_that_cannot_be_read_counts(self, tmp_path, no_locks):
        (tmp_path / ".aiorecord/lock.0.claim").mkdir(parents=True)
        with pytest.raises(DatasetLockedError):
            DatasetLock(tmp_path).acquire()


COMPETE = """
import errno, os, sys
from pathlib import Path
from aiorecord.dataset.commit import lock as module
from aiorecord.errors import DatasetLockedError

def refuse(fd):
    raise OSError(errno.ENOLCK, "No locks available")

module._lock = refuse if sys.argv[2] == "refused" else (lambda fd: True)
root, taken, clashes = Path(sys.argv[1]), 0, 0
while taken < 4:
    lock = module.DatasetLock(root / "data")
    try:
        lock.acquire()
    except DatasetLockedError:
        continue
    try:
        os.close(os.open(root / "inside", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        clashes += 1
    else:
        os.unlink(root / "inside")
    taken += 1
    lock.release()
print(clashes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has locks everywhere")
@pytest.mark.parametrize("how", ["refused", "granted to all"])
def test_never_two_processes_without_locks(tmp_path, how):
    """With the lock file replaced by each of those who look at the same time, most rounds had two holders."""
    command = [sys.executable, "-c", COMPETE, str(tmp_path), how]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in processes] == ["0"] * 3
    assert not list((tmp_path / "data").rglob("*.claim"))


FORK = """
import os, sys
from pathlib import Path
from aiorecord.dataset.commit.lock import DatasetLock
lock = DatasetLock(Path(sys.argv[1]))
lock.acquire()
if not os.fork():
    lock.release()
    print("child", lock.is_locked, lock.path.exists(), flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_neither_keeps_nor_gives_back_the_lock(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", FORK, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "child False True\n"
        with pytest.raises(DatasetLockedError):
            DatasetLock(tmp_path).acquire()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with DatasetLock(tmp_path):
            pass


def test_the_lock_of_ones_own_process_asks_to_close_the_other_recorder(tmp_path):
    with DatasetLock(tmp_path), pytest.raises(DatasetLockedError, match="Close that one") as caught:
        DatasetLock(tmp_path).acquire()
    assert "stop it" not in str(caught.value)
