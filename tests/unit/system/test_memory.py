"""Memory goes back to the system when it is freed, in a process that asked for it."""

import subprocess
import sys

import pytest

CHILD = """
import ctypes, sys, threading
from aiorecord.system.memory import give_memory_back, configure_allocator
settled = configure_allocator() if sys.argv[1] == "settled" else True
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
SIZE, COUNT = 1 << 20, 40


def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096


def churn():
    # A large block that is freed first is what teaches glibc to keep blocks of its size.
    libc.free(libc.malloc(8 << 20))
    blocks = []
    for _ in range(COUNT):
        blocks.append(libc.malloc(SIZE))
        libc.malloc(100_000)  # stays: what is below it on the heap cannot simply be cut off
    for block in blocks:
        ctypes.memset(block, 1, SIZE)
    for block in blocks:
        libc.free(block)


before = resident()
churn()
print(settled, resident() - before)
give_memory_back()
"""


def kept(how):
    run = subprocess.run([sys.executable, "-c", CHILD, how], capture_output=True, text=True, check=True)
    settled, grown = run.stdout.split()
    return settled == "True", int(grown)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_freed_pictures_go_back():
    settled, grown = kept("settled")
    if not settled:
        pytest.skip("this C library has no mallopt")
    assert grown < 8 << 20
    assert kept("as it is")[1] > 30 << 20


FAULTS = """
import resource, threading
from aiorecord.system.memory import configure_allocator
if not configure_allocator():
    raise SystemExit

def compute():
    for _ in range(ROUNDS):
        bytes(300_000).replace(b"x", b"y") + b"z"

def faults():
    thread = threading.Thread(target=compute)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

ROUNDS = 5
faults()
ROUNDS = 100
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_arrays_smaller_than_a_picture_are_not_taken_from_the_system_each_time() -> None:
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    if not run.stdout:
        pytest.skip("this C library has no mallopt")
    pages_of_one = 300_000 // 4096
    assert int(run.stdout) < 10 * pages_of_one


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
@pytest.mark.parametrize(("chosen", "used"), [(None, "system"), ("mimalloc", "mimalloc")])
def test_arrow_keeps_no_memory_of_its_own_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, used: str
) -> None:
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    if chosen is not None:
        monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", chosen)
    program = "from aiorecord.system.memory import configure_allocator\n"
    program += "if not configure_allocator(): raise SystemExit\n"
    program += "import pyarrow\nprint(pyarrow.default_memory_pool().backend_name)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    if not run.stdout:
        pytest.skip("this C library has no mallopt")
    assert run.stdout.strip() == used


LOAD_WHEN_USED = """
import sys
from aiorecord.system.memory import load_when_used

def loaded():
    return "sqlite3.dbapi2" in sys.modules

load_when_used("sqlite3")
load_when_used("sqlite3")
import sqlite3
import sqlite3 as again
assert again is sqlite3 and not loaded(), "importing a name uses nothing of it"
assert again.sqlite_version_info and loaded()
from sqlite3 import Connection
from sqlite3.dbapi2 import Connection as same
assert Connection is same is again.Connection is sys.modules["sqlite3"].Connection
try:
    again.nothing_of_this_name
except AttributeError:
    pass
else:
    raise AssertionError

load_when_used("wsgiref")
import wsgiref.util
assert wsgiref.util.guess_scheme

load_when_used("json_of_tomorrow")
try:
    import json_of_tomorrow
except ModuleNotFoundError:
    pass
else:
    raise AssertionError
"""


def test_a_module_is_loaded_when_something_of_it_is_used() -> None:
    subprocess.run([sys.executable, "-c", LOAD_WHEN_USED], check=True)
